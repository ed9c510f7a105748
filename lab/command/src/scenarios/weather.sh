#!/bin/sh
# A plugin in shell, with its own topic and two methods.
#   weather  sends a notification of its topic `weather`
#   remark   writes a line of each level into the node's log
# A message ends with an empty line; each from lightningd starts with its id.

answer() {
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "$id" "$1"
}

log() {
    printf '{"jsonrpc":"2.0","method":"log","params":{"level":"%s","message":"%s"}}\n\n' "$1" "$2"
}

while read -r line; do
    id=$(printf '%s\n' "$line" | sed -n 's/.*"id" *: *\("[^"]*"\|[0-9]*\).*/\1/p')
    case $line in
    *'"method":"getmanifest"'*)
        answer '{"dynamic":true,"options":[],"subscriptions":[],"notifications":[{"method":"weather"}],
            "rpcmethods":[{"name":"weather","usage":"","description":"Tell the weather"},
                          {"name":"remark","usage":"","description":"Write to the log"}]}' ;;
    *'"method":"weather"'*)
        printf '{"jsonrpc":"2.0","method":"climate","params":{"undeclared":true}}\n\n'
        printf '{"jsonrpc":"2.0","method":"weather","params":{"sky": "blue", "degrees": 21.50}}\n\n'
        answer '{}' ;;
    *'"method":"remark"'*)
        log debug 'a breeze'
        log info 'some clouds'
        log warn 'a storm is near'
        log error 'hail'
        answer '{}' ;;
    *'"id"'*) answer '{}' ;;
    esac
done

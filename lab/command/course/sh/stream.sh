#!/bin/sh
# A plugin for Core Lightning: it writes down connections, however their messages come.

manifest='{"dynamic":true,"options":[],"rpcmethods":[],
    "subscriptions":["connect","disconnect"]}'

# Answers the message with the result $1. The id is copied as it is, a text or a number.
answer() {
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$1"
}

record() {
    printf '%s notification: %s\n' "$method" "$message" >>myplugin.txt
}

# Reads the next message, which an empty line ends, and takes its line breaks out.
next() {
    message=
    while read -r line; do
        if [ -n "$line" ]; then
            message=$message$line
        elif [ -n "$message" ]; then
            return 0
        fi
    done
    return 1
}

while next; do
    # What stands between the next two quotes.
    method=${message#*'"method":'*'"'}
    method=${method%%'"'*}
    case $method in
    getmanifest) answer "$manifest" ;;
    init) answer '{}' ;;
    connect | disconnect) record ;;
    esac
done

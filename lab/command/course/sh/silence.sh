#!/bin/sh
# A plugin for Core Lightning: it answers what asks, and nothing else.

manifest='{"dynamic":true,"options":[],"rpcmethods":[],
    "subscriptions":["connect","disconnect"]}'

# Sends an answer to the message, with the member $1. The id is copied as it is.
respond() {
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,%s}\n\n' "${id%%,*}" "$1"
}

answer() {
    respond "\"result\":$1"
}

refuse() {
    respond "\"error\":{\"code\":-32601,\"message\":\"no method $method here\"}"
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

# A request has an id before its params. In the params are others, a node's for example.
is_request() {
    case ${message%%'"params"'*} in
    *'"id":'*) return 0 ;;
    *) return 1 ;;
    esac
}

while next; do
    # What stands between the next two quotes.
    method=${message#*'"method":'*'"'}
    method=${method%%'"'*}
    case $method in
    getmanifest) answer "$manifest" ;;
    init) answer '{}' ;;
    connect | disconnect) record ;;
    *) if is_request; then refuse; fi ;;
    esac
done

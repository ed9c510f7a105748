#!/bin/sh
# A plugin for Core Lightning: it writes down connections, and their ends.

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

while read -r message; do
    # What stands between the next two quotes.
    method=${message#*'"method":'*'"'}
    method=${method%%'"'*}
    case $method in
    getmanifest) answer "$manifest" ;;
    init) answer '{}' ;;
    connect | disconnect) record ;;
    esac
done

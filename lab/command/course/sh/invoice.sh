#!/bin/sh
# A plugin for Core Lightning. Needs jq, which reads JSON as a shell cannot.

# Preimages are secrets: what it creates is its owner's alone.
umask 077

manifest='{"dynamic":true,"options":[],"rpcmethods":[],
    "subscriptions":["connect","disconnect","invoice_creation"]}'

answer() {
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "$id" "$1"
}

refuse() {
    printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n\n' "$id"
}

record() {
    printf '%s notification: %s\n' "$method" "$payload" >>myplugin.txt
}

on_request() {
    case $method in
    getmanifest) answer "$manifest" ;;
    init) answer '{}' ;;
    *) refuse ;;
    esac
}

on_notification() {
    case $method in
    connect | disconnect | invoice_creation) record ;;
    esac
}

# A line each: the method, the id or null, the payload. Before v23.08 that is not under
# the topic's name.
jq --unbuffered -r '.method, (.id | tojson), (.params[.method]? // .params | tojson)' |
    while read -r method && read -r id && read -r payload; do
        if [ "$id" = null ]; then
            on_notification
        else
            on_request
        fi
    done

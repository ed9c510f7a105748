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

log() { # $1: the level, $2: the text
    params=$(jq -nc '$ARGS.named' --arg level "$1" --arg message "$2")
    printf '{"jsonrpc":"2.0","method":"log","params":%s}\n\n' "$params"
}

record() {
    printf '%s notification: %s\n' "$method" "$payload" >>myplugin.txt
}

# A shell of its own, which may end.
check_invoice() (
    label=$(printf '%s\n' "$payload" | jq -r .label)
    case $label in
    burnt*)
        echo "$label is burnt" >&2
        exit 1
        ;;
    esac
)

on_request() {
    case $method in
    getmanifest) answer "$manifest" ;;
    init) answer '{}' ;;
    *) refuse ;;
    esac
}

on_notification() {
    case $method in
    connect | disconnect) record ;;
    invoice_creation)
        record
        error=$(check_invoice 2>&1) || log warn "$error"
        ;;
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

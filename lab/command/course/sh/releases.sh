#!/bin/sh
# A plugin for Core Lightning. Needs jq, which reads JSON as a shell cannot.

# Preimages are secrets: what it creates is its owner's alone.
umask 077

manifest='{"dynamic":true,
    "options":[{"name":"events-file","type":"string","default":"myplugin.txt",
        "description":"Where notifications are written."}],
    "rpcmethods":[{"name":"eventcount","usage":"",
        "description":"How many notifications were written since the plugin started."}],
    "subscriptions":["*"],"notifications":[{"method":"counted"}],
    "hooks":[{"name":"invoice_payment"}]}'
count=0
number=0

answer() {
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "$id" "$1"
}

refuse() {
    printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n\n' "$id"
}

notify() { # $1: the topic, $2: the payload
    printf '{"jsonrpc":"2.0","method":"%s","params":%s}\n\n' "$1" "$2"
}

log() { # $1: the level, $2: the text
    notify log "$(jq -nc '$ARGS.named' --arg level "$1" --arg message "$2")"
}

# What is in the payload at this path.
get() {
    printf '%s\n' "$payload" | jq -r "$1"
}

record() {
    count=$((count + 1))
    number=$((number + 1))
    printf '%s %s notification: %s\n' "$number" "$method" "$payload" >>"$events"
}

# A shell of its own, which may end.
check_invoice() (
    label=$(get .label)
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
    init)
        events=$(get '.options["events-file"]')
        # Continue after the last line.
        if [ -s "$events" ]; then
            number=$(tail -n 1 "$events" | cut -d ' ' -f 1)
        fi
        answer '{}'
        if [ "$(get .configuration.startup)" = true ]; then
            log info 'started with the node'
        else
            log info 'started by hand'
        fi
        ;;
    eventcount) answer "{\"count\":$count}" ;;
    invoice_payment)
        label=$(get .payment.label)
        # Before v23.11 a text, "1000msat"; since then a number.
        msat=$(get .payment.msat)
        if [ "${label#no-}" != "$label" ] || [ "${msat%msat}" -lt 1000 ]; then
            answer '{"result":"reject"}'
        else
            answer '{"result":"continue"}'
        fi
        ;;
    *) refuse ;;
    esac
}

on_notification() {
    record
    if [ "$method" = invoice_creation ]; then
        notify counted "{\"count\":$count}"
        error=$(check_invoice 2>&1) || log warn "$error"
    fi
}

# A line each: the method, the id or null, the payload. Before v23.08 that is not under
# the topic's name. At shutdown jq ends, and the loop with it.
jq --unbuffered -nr 'inputs | if .method == "shutdown" then halt else . end |
    .method, (.id | tojson), (.params[.method]? // .params | tojson)' |
    while read -r method && read -r id && read -r payload; do
        if [ "$id" = null ]; then
            on_notification
        else
            on_request
        fi
    done

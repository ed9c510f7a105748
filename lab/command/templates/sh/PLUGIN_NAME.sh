#!/bin/sh
# Greets each peer that connects, in the node's log, and counts them. Needs jq.
#
# lightningd sends one JSON value after the other; `jq` finds where each ends, wherever
# the line breaks are, and writes three lines of it: its method, its id, all of it.
connections=0
greeting=hello

answer() { # the id is returned exactly as it came
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "$id" "$1"
}

jq --unbuffered -c '.method, .id, .' |
while IFS= read -r method && IFS= read -r id && IFS= read -r message; do
    case $method in
    '"getmanifest"')
        answer '{
            "dynamic": true,
            "subscriptions": ["connect"],
            "options": [{"name": "PLUGIN_NAME-greeting", "type": "string", "default": "hello",
                "description": "What to log before the id of each peer that connects"}],
            "rpcmethods": [{"name": "PLUGIN_NAME-count", "usage": "",
                "description": "How many peers have connected"}]}'
        ;;
    '"init"')
        greeting=$(printf '%s\n' "$message" | jq -r '.params.options["PLUGIN_NAME-greeting"]')
        answer '{}'
        ;;
    '"PLUGIN_NAME-count"')
        answer "{\"connections\":$connections}"
        ;;
    '"connect"')
        connections=$((connections + 1))
        # Before v23.08 the payload is `params` itself.
        printf '%s\n' "$message" | jq -c --arg greeting "$greeting" '
            {jsonrpc: "2.0", method: "log", params:
                {level: "info", message: ($greeting + " " + (.params.connect // .params).id)}}'
        echo
        ;;
    esac
done

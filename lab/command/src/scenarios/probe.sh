#!/bin/sh
# A plugin that does nothing. Its manifest is in the file beside it; it subscribes
# to `shutdown`, so it has to end then.
while read -r line; do
    id=$(printf '%s\n' "$line" | sed -n 's/.*"id" *: *\("[^"]*"\|[0-9]*\).*/\1/p')
    case $line in
    *'"method":"getmanifest"'*)
        printf '{"jsonrpc":"2.0","id":%s,"result":' "$id"
        cat "${0%/*}/probe.json"
        printf '}\n\n' ;;
    *'"method":"init"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n\n' "$id" ;;
    *'"method":"shutdown"'*) exit ;;
    esac
done

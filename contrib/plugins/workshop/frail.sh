#!/bin/sh
# An error that nobody catches ends it, as an exception would.
set -e
answer() { # the id is returned exactly as it came
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$1"
}
while IFS= read -r message; do
    case $message in
    *'"method":'*'"getmanifest"'*) answer '{"dynamic":true,"options":[],"rpcmethods":[],
        "subscriptions":["connect"]}' ;;
    *'"method":'*'"init"'*) answer '{}' ;;
    *'"method":'*'"connect"'*) expr 1 + foo >&2 ;;
    esac
done

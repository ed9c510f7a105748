#!/bin/sh
# Step 2: subscribes to connect, and writes each down.
umask 077
answer() { # the id is returned exactly as it came
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$1"
}
while IFS= read -r message; do
    case $message in
    *'"method":'*'"getmanifest"'*) answer '{"dynamic":true,"options":[],"rpcmethods":[],
        "subscriptions":["connect"]}' ;;
    *'"method":'*'"init"'*) answer '{}' ;;
    *'"method":'*'"connect"'*) printf 'connect notification: %s\n' "$message" >>myplugin.txt ;;
    esac
done

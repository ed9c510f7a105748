#!/bin/sh
# A plugin whose method always answers the same: it counts nothing.
answer() {
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$1"
}
while IFS= read -r message; do
    case $message in
    *'"method":"getmanifest"'*) answer '{"dynamic":true,"options":[],"rpcmethods":[
        {"name":"eventcount","usage":"","description":"always 0"}]}' ;;
    *'"method":"init"'*) answer '{}' ;;
    *'"method":"eventcount"'*) answer '{"count":0}' ;;
    esac
done

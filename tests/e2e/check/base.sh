# A plugin with nothing wrong. What is broken stands before this, in `$options`, …, and in
# a function `on`: true if it has handled the message.

answer() { # the id is returned as it came
    id=${message#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,%s}\n\n' "${id%%,*}" "$1"
}

while IFS= read -r message; do
    case $message in
    *'"method":"getmanifest"'*) kind=manifest ;;
    *'"method":"init"'*) kind=init ;;
    '{"jsonrpc":"2.0","id":'*) kind=request ;;
    *'"method":"connect"'*) kind=connect ;;
    *'"method":'*) kind=topic ;;
    *) continue ;;
    esac
    on && continue
    case $kind in
    manifest)
        answer "\"result\":{\"options\":[${options-}],\"rpcmethods\":[${methods-}],
            \"subscriptions\":[${topics-\"connect\"}],\"hooks\":[${hooks-}],
            \"notifications\":[${sends-}]}"
        ;;
    init) answer '"result":{}' ;;
    request) answer '"result":{"result":"continue"}' ;;
    esac
done

#!/bin/sh
# Does the plugin count a connection? Exit status 0 if it does.
set -eu

count() {
    "$LAB" cli l1 eventcount | jq .count
}

"$LAB" cli l1 plugin start "$PLUGIN" >/dev/null
before=$(count)
"$LAB" connect 1 2 >/dev/null
# A notification may come after the answer: look until it is there, not longer.
deadline=$(($(date +%s) + 1))
while [ "$(count)" = "$before" ]; do
    if [ "$(date +%s)" -gt "$deadline" ]; then
        echo 'the connection was not counted' >&2
        exit 1
    fi
done

#!/bin/sh
# Run by `lab exec -- tests/test.sh`: a lab with two nodes, which ends with the script.
set -eu
plugin=$(cd "$(dirname "$0")/.." && pwd)/PLUGIN_NAME.sh

lab() { # what the command prints, in `answer`
    answer=$("$LAB" "$@") || {
        echo "lab $*: $answer" >&2
        exit 1
    }
}

lab cli l1 -k plugin subcommand=start plugin="$plugin" PLUGIN_NAME-greeting=welcome
lab connect 1 2

# Waits until the node's log has the line.
tries=0
until grep -q "welcome $L2_ID" "$L1_DIR/log"; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ]; then
        echo "no \`welcome $L2_ID\` in l1's log after 30 s:" >&2
        tail -n 20 "$L1_DIR/log" >&2
        exit 1
    fi
    sleep 0.05
done

lab cli l1 PLUGIN_NAME-count
if [ "$(echo "$answer" | jq -c .)" != '{"connections":1}' ]; then
    echo "PLUGIN_NAME-count answered $answer, not one connection" >&2
    exit 1
fi
echo 'it greets and counts'

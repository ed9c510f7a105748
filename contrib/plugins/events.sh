#!/bin/sh
# Appends a line to a file for each connect, disconnect and invoice_creation: the
# plugin of events.py in plain POSIX shell, to show how little a plugin needs.
#
#   lab up --plugin contrib/plugins/events.sh,events-file=/tmp/events.txt
#
# The line is `TOPIC notification: MESSAGE`, the message as lightningd sent it. A
# relative file is relative to the node's network directory, where plugins run.
#
# lightningd writes each message on a line of its own, and an empty line after it.
# A shell cannot read JSON; it looks for the few words it knows. In text that a
# user chose, a label say, quotes come as \", so that none of it looks like them.
set -eu
umask 077 # an invoice_creation carries a preimage

events=events.txt

# The member `"$2":"…"` of the message $1, if it is there, as a shell variable would
# have it; a value with an escape in it is not for us to read.
text_of() {
    case $1 in
    *"\"$2\":\""*) ;;
    *) return 1 ;;
    esac
    value=${1#*"\"$2\":\""}
    value=${value%%\"*}
    case $value in
    *\\*) return 1 ;;
    esac
    printf '%s\n' "$value"
}

# Answers the request $1 with the result $2. Its id is copied as it is, a string
# or a number.
answer() {
    id=${1#*'"id":'}
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n\n' "${id%%,*}" "$2"
}

while IFS= read -r message; do
    # Some versions write a space after the colon.
    compact=$(printf '%s\n' "$message" | sed 's/" *: */":/g')
    case $compact in
    *'"method":"getmanifest"'*)
        answer "$compact" '{"dynamic":true,"rpcmethods":[],
            "options":[{"name":"events-file","type":"string","default":"events.txt",
                "description":"File to append a line to for each event."}],
            "subscriptions":["connect","disconnect","invoice_creation"]}'
        ;;
    *'"method":"init"'*)
        if file=$(text_of "$compact" events-file); then
            events=$file
            answer "$compact" '{}'
        else
            answer "$compact" '{"disable":"events-file: a path without \\ and \" is needed"}'
        fi
        ;;
    *'"method":"connect"'* | *'"method":"disconnect"'* | *'"method":"invoice_creation"'*)
        printf '%s notification: %s\n' "$(text_of "$compact" method)" "$message" >>"$events"
        ;;
    esac
done

# shellcheck shell=bash
# The workshop's shell commands, built on the command `lab`. For bash and zsh:
#
#   source contrib/lab.sh
#   start_ln 3                              three nodes: l1, l2, l3
#   l1-cli plugin start "$PWD/plugin.py"
#   connect 1 2
#   fund_nodes                              channels, in a row
#   l1-cli getinfo; l1-log -f; bt-cli getblockcount
#   stop_ln                                 stops everything; nothing is left
#
# LAB_NAME chooses another lab than `default`, LAB another `lab` than the one
# built here. Only the lab's own folder is read or written: ~/.bitcoin and
# ~/.lightning are not touched.

if [ -z "${BASH_VERSION:-}${ZSH_VERSION:-}" ]; then
    echo 'lab.sh is for bash and zsh: start one of them, and source it there' >&2
    return 1
fi
# Only a shell that sources it gets its words.
# shellcheck disable=SC2128 # zsh has no array here
case "${BASH_VERSION:+${BASH_SOURCE:-}:$0}${ZSH_VERSION:+$ZSH_EVAL_CONTEXT}" in
toplevel | "$0:$0")
    echo "lab.sh defines words in the shell that sources it: run \`source $0\`" >&2
    exit 1
    ;;
esac

# The `lab` to use: $LAB, else what was built here, else the one on the PATH.
_lab_find() {
    if [ -n "${LAB:-}" ]; then
        return 0
    fi
    if [ -n "${BASH_VERSION:-}" ]; then
        LAB=${BASH_SOURCE[0]}
    else
        # zsh's name for the file being sourced, hidden from bash's parser.
        eval 'LAB=${(%):-%x}'
    fi
    # With CDPATH, cd may go elsewhere, and prints where.
    LAB=$(CDPATH='' cd "$(dirname "$LAB")/.." && pwd)
    if [ -x "$LAB/target/debug/lab" ]; then
        LAB=$LAB/target/debug/lab
    elif [ -x "$LAB/target/release/lab" ]; then
        LAB=$LAB/target/release/lab
    elif command -v lab >/dev/null; then
        LAB=$(command -v lab)
    else
        echo "lab: not found; build it with \`cargo build\` in $LAB, or set LAB to its path" >&2
        unset LAB
        return 1
    fi
}
_lab_find || return 1
export LAB

# `lab` itself is a word, too.
lab() { "$LAB" "$@"; }

_lab_is_up() { "$LAB" status --name "${LAB_NAME:-default}" >/dev/null 2>&1; }

# What the words of a lab do as long as there is none.
_lab_none() {
    if _lab_is_up; then
        echo "$1: lab ${LAB_NAME:-default} is up, but not taken up in this shell: run \`start_ln\` here, too" >&2
    else
        echo "$1: no lab is up: run \`start_ln\` first" >&2
    fi
    return 1
}
_lab_stubs() {
    unalias l1-cli l2-cli l1-log l2-log bt-cli connect 2>/dev/null || true
    for _lab_word in l1-cli l2-cli l1-log l2-log bt-cli connect; do
        eval "function $_lab_word { _lab_none $_lab_word; }"
    done
}
[ -n "${LAB_NODES:-}" ] || _lab_stubs

start_ln() {
    if [ "$#" -gt 1 ]; then
        echo 'usage: start_ln [NODES]' >&2
        return 2
    fi
    # Restored by stop_ln.
    _lab_given=${LAB_NAME:-}
    _lab_name=${LAB_NAME:-default}
    _lab_asked=
    if _lab_is_up; then
        echo "lab $_lab_name is already up"
        _lab_asked=${1:-}
    else
        "$LAB" up --detach --name "$_lab_name" --nodes "${1:-2}" || return
    fi
    _lab_code=$("$LAB" env --name "$_lab_name") || return
    eval "$_lab_code"
    _lab_count=$(echo "$LAB_NODES" | wc -w | tr -d ' ')
    if [ -n "$_lab_asked" ] && [ "$_lab_asked" != "$_lab_count" ]; then
        echo "it has $_lab_count nodes, not $_lab_asked: for those, \`stop_ln\` first, then \`start_ln $_lab_asked\`" >&2
    fi
    echo 'Commands:'
    echo "$LAB_NODES" | tr ' ' '\n' | while read -r _lab_node; do
        printf '\t%s-cli, %s-log,\n' "$_lab_node" "$_lab_node"
    done
    printf '\tbt-cli, connect, fund_nodes, stop_ln\n'
}

# Channels from each node to the next; with arguments, only between those.
fund_nodes() {
    if [ "$#" -eq 0 ]; then
        "$LAB" channel --line
        return
    fi
    if [ "$#" -eq 1 ]; then
        echo 'usage: fund_nodes [FROM TO …]' >&2
        return 2
    fi
    while [ "$#" -gt 1 ]; do
        "$LAB" channel "$1" "$2" || return
        shift
    done
}

stop_ln() {
    _lab_name=${LAB_NAME:-default}
    if ! _lab_is_up; then
        echo "no lab is up: \`start_ln\` starts one" >&2
        return 1
    fi
    _lab_code=$("$LAB" env --name "$_lab_name" --unset) || _lab_code=
    _lab_status=0
    "$LAB" down --name "$_lab_name" || _lab_status=$?
    if ! _lab_is_up; then
        # Also if something went wrong: the words would only fail.
        eval "$_lab_code"
        _lab_stubs
        [ -z "${_lab_given:-}" ] || LAB_NAME=$_lab_given
    fi
    return "$_lab_status"
}

# A lab leaves nothing behind, so there is nothing to remove after stop_ln.
destroy_ln() {
    if _lab_is_up; then
        stop_ln
    fi
}

# Tab completes nodes' names, and `lab` itself.
if [ -n "${BASH_VERSION:-}" ]; then
    _lab_nodes() {
        # shellcheck disable=SC2207 # names have no spaces; mapfile is not in macOS's bash
        COMPREPLY=($(compgen -W "${LAB_NODES:-}" -- "${COMP_WORDS[COMP_CWORD]}"))
    }
    complete -F _lab_nodes connect fund_nodes
    eval "$("$LAB" completions bash)"
elif [ -n "${ZSH_VERSION:-}" ] && whence compdef >/dev/null; then
    _lab_nodes() { eval 'compadd -- ${=LAB_NODES}'; }
    compdef _lab_nodes connect fund_nodes
    eval "$("$LAB" completions zsh)"
fi

echo 'Useful commands:'
echo '  start_ln 3: start three nodes, l1, l2, l3'
echo '  connect 1 2: connect l1 and l2'
echo '  fund_nodes: connect all nodes with channels, in a row'
echo '  stop_ln: stop everything; nothing is left'
echo '  destroy_ln: the same, without an error if nothing is up'
if _lab_is_up; then
    echo "lab ${LAB_NAME:-default} is up: \`start_ln\` takes it up in this shell"
fi

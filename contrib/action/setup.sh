#!/bin/sh
# Builds the lab, and downloads bitcoind and, if CLN_VERSION names one, a release of
# lightningd: for the steps of a job that come after.
set -eu

root=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd)
if command -v apt-get >/dev/null && [ -n "${CI:-}" ]; then
    # What the releases of lightningd load, and the keys of what get-bitcoind downloads.
    sudo apt-get update -qq
    sudo apt-get install -qq -y libpq5 libsodium23 debian-archive-keyring >/dev/null
fi
make -C "$root" build bitcoind
echo "$root/target/debug" >>"$GITHUB_PATH"
echo "LAB_NODES_DIR=${LAB_NODES_DIR:-$root/target/nodes}" >>"$GITHUB_ENV"
if [ -n "${CLN_VERSION:-}" ]; then
    "$root/contrib/get-lightningd" "$CLN_VERSION" "$RUNNER_TEMP/lightningd-$CLN_VERSION"
    echo "$RUNNER_TEMP/lightningd-$CLN_VERSION/bin" >>"$GITHUB_PATH"
    echo LAB_NODE=lightningd >>"$GITHUB_ENV"
else
    echo LAB_NODE=embedded >>"$GITHUB_ENV"
fi

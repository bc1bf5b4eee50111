#!/bin/sh
# Starts two peer nodes, calls skills on both through the first, and ends them. Answers go to standard output, all else to
# standard error. With V=1 each hop of each call is shown too.
set -eu

midplane=${MIDPLANE:-target/release/midplane}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
cluster=

finish() {
    status=$?
    trap - EXIT INT TERM
    if [ -n "$cluster" ]; then
        kill -TERM "$cluster" 2>/dev/null || true
        wait "$cluster" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT INT TERM

echo "starting two peers …" >&2
mkfifo "$work/ready"
"$midplane" cluster 2 "$here/manifests/two-peers.toml" --dir "$work/mesh" >"$work/ready" &
cluster=$!
# The first line comes when both nodes answer and every name is reachable; the end of file, when the cluster failed.
if ! read -r line <"$work/ready"; then
    echo "the cluster did not start" >&2
    exit 1
fi
echo "$line" >&2

call() {
    "$midplane" --data-dir "$work/mesh/n1" ${V:+-v} call "$@"
}
call math1@fabric add x=3 y=4
call math1@fabric multiply x=6 y=7
numbers=$(call math2@fabric fib-stream n=10)
# One per line, as they arrived; without quotes the shell joins them with spaces.
echo $numbers

#!/usr/bin/env bash
# A program of its own (sealift run) moves between two hosts and back with everything real: daemons, agent enclaves,
# quotes, RA-TLS. Its main goes on counting, once per number, and time never runs backwards inside.
# Usage: program_moves.sh BIN
set -euo pipefail
bin=$1
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib-hosts.sh
. "$here/../../scripts/lib-hosts.sh"

host_up a 128M
host_up b 128M

count=1000 # of 20 ms each: both moves have begun by then, on a slow machine too
ticks=$hosts_dir/ticks.log
SEALIFT_SOCKET=$hosts_dir/a/sealiftd.sock start "$ticks" "$bin/softsgx" run "$hosts_dir/a/host.machine" -- \
  "$bin/sealift" run "$bin/ticker.enclave" $count
program=$!
wait_line "$ticks" '^tick 10 ' >/dev/null
registered() { sealift_on a ps --json | says '"state": "running"'; }
within 30 registered || { echo "FAIL: the program is not registered" >&2; exit 1; }

sealift_on a migrate ticker "127.0.0.1:${host_port[b]}"
wait "$program" # the source's process ends by itself, successfully
log_b=$(find "$hosts_dir/b/state" -name '*.log' | head -n 1)
wait_line "$log_b" 'epoch 2$' >/dev/null
sealift_on b migrate ticker "127.0.0.1:${host_port[a]}"
log_a=$(find "$hosts_dir/a/state" -name '*.log' | head -n 1)
wait_line "$log_a" "^tick $count epoch 3$" >/dev/null

cat "$ticks" "$log_b" "$log_a" | sed -n 's/^tick \([0-9]*\) .*/\1/p' >"$hosts_dir/seen"
seq 1 $count | diff - "$hosts_dir/seen" || { echo "FAIL: numbers lost or counted twice" >&2; exit 1; }
! grep -h 'backwards' "$ticks" "$log_b" "$log_a" || exit 1
echo "ok: $count ticks over 3 epochs, none lost, none twice"

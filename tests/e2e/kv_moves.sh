#!/usr/bin/env bash
# Acceptance 2: the example store moves back and forth between two hosts while a client writes to it all the time; every
# acknowledged write is there at the end. redis-cli and redis-benchmark work before and after.
# Usage: kv_moves.sh BIN [MOVES]
set -euo pipefail
bin=$1
moves=${2:-4}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib-hosts.sh
. "$here/../../scripts/lib-hosts.sh"

port=17380
host_up a 640M
host_up b 640M
SEALIFT_SOCKET=$hosts_dir/a/sealiftd.sock start "$hosts_dir/kv.log" "$bin/softsgx" run "$hosts_dir/a/host.machine" -- \
  "$bin/kv" --listen "127.0.0.1:$port"
wait_line "$hosts_dir/kv.log" 'listening on' >/dev/null

[ "$(redis-cli -p $port set before 'a move')" = OK ]
redis-benchmark -p $port -q -n 1000 -P 8 -t set,get,incr >/dev/null

start "$hosts_dir/load.log" "$bin/kv-load" --server "127.0.0.1:$port" --keys 5000 --connections 3 --pipeline 4 --json
load=$!
wait_line "$hosts_dir/load.log" 'kv-load: writing' >/dev/null
from=a to=b
for i in $(seq 1 "$moves"); do
  sealift_on $from migrate kv "127.0.0.1:${host_port[$to]}" || {
    echo "FAIL: move $i" >&2
    tail -n 15 "$hosts_dir"/*/sealiftd.log "$hosts_dir"/*/state/*.log >&2
    exit 1
  }
  # The program over there serves: its listener takes connections only then.
  timeout 60 sh -c "until [ \"\$(redis-cli -p $port get before 2>/dev/null)\" = 'a move' ]; do :; done"
  next=$from from=$to to=$next
done
kill -TERM "$load"
wait "$load" || { cat "$hosts_dir/load.log" >&2; exit 1; }
tail -n 1 "$hosts_dir/load.log"
[ "$(redis-cli -p $port get before)" = 'a move' ]
redis-benchmark -p $port -q -n 1000 -P 8 -t set,get,incr >/dev/null
sealift_on $from ps | says " $((moves + 1)) "
echo "ok: $moves moves, epoch $((moves + 1))"

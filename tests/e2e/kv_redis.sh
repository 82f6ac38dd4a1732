#!/usr/bin/env bash
# The example store under the clients that everybody has: redis-cli, redis-benchmark with all its default tests, a raw
# socket; and under kv-load, which must also notice when something is lost.
# Usage: kv_redis.sh BIN
set -euo pipefail
bin=$1
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib-hosts.sh
. "$here/../../scripts/lib-hosts.sh"

fail() {
  echo "FAIL: $*" >&2
  cat "$hosts_dir"/*.log >&2
  exit 1
}

# kv_up NAME ADDRESS: sets kv_pid and port.
kv_up() {
  SEALIFT_SOCKET=$hosts_dir/no-daemon.sock start "$hosts_dir/$1.log" \
    "$bin/softsgx" run "$hosts_dir/m.machine" -- "$bin/kv" --listen "$2"
  kv_pid=$!
  port=$(wait_line "$hosts_dir/$1.log" '^listening on' | sed 's/.*://')
}

# is EXPECTED COMMAND…: what redis-cli prints.
is() {
  local expected=$1 seen
  shift
  seen=$(redis-cli -p "$port" "$@") || fail "redis-cli $*"
  [ "$seen" = "$expected" ] || fail "$*: expected '$expected', got '$seen'"
}

# raw BYTES: what the server answers until it closes, as one line.
raw() {
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  printf "$1" >&3
  timeout 10 cat <&3 | tr -d '\r' | tr '\n' ' '
  exec 3>&-
}

value() { head -c "$1" /dev/zero | tr '\0' x; }

"$bin/softsgx" create "$hosts_dir/m.machine" --epc 700M >/dev/null
kv_up kv 127.0.0.1:0

is PONG ping
is OK set greeting 'hello, enclave'
is 'hello, enclave' get greeting
is 1 incr n
is 3 rpush list a b c
is $'a\nb\nc' lrange list 0 -1
is 2 hset hash f 1 g 2
is 2 hget hash g
is 1 sadd set m
is 1 zadd zset 2.5 m
is $'m\n2.5' zrange zset 0 -1 withscores
is 'WRONGTYPE Operation against a key holding the wrong kind of value' get list
is 6 dbsize
[ "$(redis-cli -p "$port" --scan | sort | tr '\n' ' ')" = 'greeting hash list n set zset ' ] || fail scan
redis-cli -p "$port" info | says '^epoch:1' || fail info

# Several commands in one packet; blanks and quotes; the connection ends when the client says so, or talks nonsense.
[ "$(raw 'PING\r\nset q "a b"\r\n*2\r\n$3\r\nGET\r\n$1\r\nq\r\nQUIT\r\n')" = '+PONG +OK $3 a b +OK ' ] || fail pipeline
[ "$(raw 'PING\r\n*1\r\n$-5\r\nPING\r\n')" = '+PONG -ERR Protocol error: invalid bulk length ' ] || fail malformed

# What fits the message slot of kv.toml, to the byte; one more is refused, and the connection goes on.
largest=1048480
value $largest | redis-cli -p "$port" -x set b | says -x OK || fail "a command that fits"
is $largest strlen b
[ "$(redis-cli -p "$port" get b | wc -c)" = $((largest + 1)) ] || fail "a reply that fits"
value $((largest + 1)) | redis-cli -p "$port" -x set b | says '^ERR the command would not fit' || fail oversized
{ printf 'SET "" %s\r\n' "$(value 100)" && printf '*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$2000000\r\n' && value 2000000 &&
  printf '\r\nGET c\r\nQUIT\r\n'; } >"$hosts_dir/request"
exec 3<>"/dev/tcp/127.0.0.1/$port"
cat "$hosts_dir/request" >&3
[ "$(timeout 10 cat <&3 | cut -c 1-28 | tr -d '\r' | tr '\n' ' ')" = '+OK -ERR the command would not f $-1 +OK ' ] ||
  fail "the connection does not go on behind an oversized command"
exec 3>&-

for options in '-c 50' '-c 50 -P 16'; do
  # shellcheck disable=SC2086
  redis-benchmark -p "$port" -q -n 2000 $options 2>&1 | tr '\r' '\n' >"$hosts_dir/benchmark.log" || fail "redis-benchmark $options"
  for name in PING_INLINE PING_MBULK SET GET INCR LPUSH RPUSH LPOP RPOP SADD HSET SPOP ZADD ZPOPMIN \
    LRANGE_100 LRANGE_300 LRANGE_500 LRANGE_600 MSET; do
    grep -q "^$name.*requests per second" "$hosts_dir/benchmark.log" || fail "redis-benchmark $options: no result for $name"
  done
  ! grep -qi error "$hosts_dir/benchmark.log" || fail "redis-benchmark $options"
done

# The heap ends: an error, and everything goes on.
redis-benchmark -p "$port" -q -n 40000 -r 1000000000 -d 10000 -P 4 -t set >"$hosts_dir/full.log" 2>&1 || true
grep -q 'OOM the enclave' "$hosts_dir/full.log" || fail "400 MB went into a heap of 256 MB"
is 'hello, enclave' get greeting
is OK flushall
is OK set greeting again
is again get greeting

# A second server at the same address would share its clients.
"$bin/softsgx" run "$hosts_dir/m.machine" -- "$bin/kv" --listen "127.0.0.1:$port" >"$hosts_dir/second.log" 2>&1 &&
  fail "two servers at one address"
grep -q "^kv: cannot listen on 127.0.0.1:$port: another kv serves there" "$hosts_dir/second.log" || fail "second server"

# kv-load: nothing is lost while nothing goes wrong; it notices one changed key, and a store that begins anew.
load=("$bin/kv-load" --server "127.0.0.1:$port" --keys 5000 --json)
start "$hosts_dir/load.log" "${load[@]}" --record "$hosts_dir/ledger"
loader=$!
wait_line "$hosts_dir/load.log" 'kv-load: writing' >/dev/null
kill -TERM $loader
wait $loader || fail "kv-load lost something"
grep -q '"lost":0' "$hosts_dir/load.log" || fail "kv-load says nothing"
"${load[@]}" --verify-only "$hosts_dir/ledger" >"$hosts_dir/verify.log" || fail "verification"
is OK set load:000000042 other
"${load[@]}" --verify-only "$hosts_dir/ledger" >"$hosts_dir/verify.log" 2>&1 && fail "a changed key went unnoticed"
grep -q '"lost":1' "$hosts_dir/verify.log" || fail "not one key lost"

start "$hosts_dir/load2.log" "${load[@]}" --connections 2 --pipeline 4
loader=$!
wait_line "$hosts_dir/load2.log" 'kv-load: writing' >/dev/null
kill $kv_pid
wait $kv_pid 2>/dev/null || true
kv_up kv2 "127.0.0.1:$port"
until [ "$(redis-cli -p "$port" dbsize)" -gt 0 ]; do :; done
kill -TERM $loader
wait $loader && fail "a store that forgot everything went unnoticed"
grep -q '"lost":[1-9]' "$hosts_dir/load2.log" || fail "kv-load counts no loss"
echo ok

#!/usr/bin/env bash
# Migrations that must not happen, with everything real: each is refused with one line, and the source goes on, at its
# epoch. At the end the same enclave moves, so that nothing of the refusals is in the way; the client is killed meanwhile.
# Usage: refusals.sh BIN
set -euo pipefail
bin=$1
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib-hosts.sh
. "$here/../../scripts/lib-hosts.sh"

fail() {
  echo "FAIL: $*" >&2
  tail -n 15 "$hosts_dir"/*.log "$hosts_dir"/*/sealiftd.log >&2
  exit 1
}

ticked_since() { [ "$(wc -l <"$ticks")" -gt "$1" ]; }

# program NAME IMAGE: a copy of the image, which the test may damage, and a program that counts in it.
program() {
  image=$hosts_dir/$1.enclave
  cp "$bin/$2.enclave" "$image"
  ticks=$hosts_dir/$1.log
  SEALIFT_SOCKET=$hosts_dir/a/sealiftd.sock start "$ticks" "$bin/softsgx" run "$hosts_dir/a/host.machine" -- \
    "$bin/sealift" run "$image" 1000000
  program=$!
  wait_line "$ticks" '^tick 3 ' >/dev/null
  within 30 registered || fail "$1 is not registered"
}
registered() { sealift_on a ps --json | says '"state": "running"'; }
program_end() {
  kill "$program"
  wait "$program" 2>/dev/null || true
}

# refused WHAT CODES NAME PORT: a migration that fails with one of the exit codes and one line; the source ticks on.
refused() {
  local what=$1 codes=$2 name=$3 to=$4 code=0 before
  sealift_on a migrate "$name" "127.0.0.1:$to" >"$hosts_dir/refused.log" 2>&1 || code=$?
  [[ " $codes " == *" $code "* ]] || fail "$what: exit code $code: $(cat "$hosts_dir/refused.log")"
  local line
  line=$(tail -n 1 "$hosts_dir/refused.log")
  [[ $line == "$name: failed: "* || $line == "sealift: "* ]] || fail "$what: not one line: $line"
  before=$(wc -l <"$ticks")
  within 60 ticked_since "$before" || fail "$what: the source does not go on"
  [ "$(sealift_on a ps --json | grep -c '"epoch": 1,')" = 1 ] || fail "$what: the source is not at its epoch"
  ! sealift_on b ps --json | says '"state": "running"' || fail "$what: something runs on the target"
  echo "ok: $what: $line"
}

host_up a 128M
host_up b 128M
program ticker ticker

# The image, as the target finds it.
cp "$image" "$hosts_dir/good"
head -c 20000 "$hosts_dir/good" >"$image"
refused 'a truncated image' '1 6' ticker "${host_port[b]}"
cp "$hosts_dir/good" "$image"
at=$(($(stat -c %s "$image") / 2))
byte=$(od -An -tu1 -j $at -N 1 "$image")
printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$image" bs=1 seek=$at conv=notrunc status=none
refused 'an image with one flipped bit' '1 6' ticker "${host_port[b]}"
cp "$bin/hello.enclave" "$image"
refused 'the image of another enclave' '1 6' ticker "${host_port[b]}"
rm "$image"
refused 'no image' '1 6' ticker "${host_port[b]}"
cp "$hosts_dir/good" "$image"

# The target's machine.
used=$("$bin/softsgx" info --json "$hosts_dir/b/host.machine" | sed -n 's/.*"epc_free_bytes": \([0-9]*\).*/\1/p')
agent_bytes=$(((128 << 20) - used))
host_up small $((agent_bytes + (2 << 20)))
refused 'too little EPC' '1 6' ticker "${host_port[small]}"

# The address, which something else has on the target.
base=$(sealift_on a ps --json | sed -n 's/.*"elrange_base": \([0-9]*\).*/\1/p')
asan=$(ldd "$bin/softsgx" | awk '/libasan/ { print $3 }')  # in a build with it: must be the first
cat >"$hosts_dir/occupied" <<LAUNCHER
#!/bin/sh
LD_PRELOAD="$asan $bin/../lib/libtake_address.so \$LD_PRELOAD" TAKEN_ADDRESS=$((base + 4096)) exec "\$@"
LAUNCHER
chmod +x "$hosts_dir/occupied"
host_options[taken]="--launcher $hosts_dir/occupied"
host_up taken 128M
refused 'a taken address' '1 6' ticker "${host_port[taken]}"
grep -q 'which this process already uses' "$hosts_dir/refused.log" || fail "it was not refused for its address"

# The agent.
kill "${host_pids[small.agent]}"
wait "${host_pids[small.agent]}" 2>/dev/null || true
refused 'no agent' '1 5' ticker "${host_port[small]}"
kill "${host_pids[small.sealiftd]}"
wait "${host_pids[small.sealiftd]}" 2>/dev/null || true
refused 'no daemon' '5' ticker "${host_port[small]}"

# The client goes away in the middle of its command; the migration does not.
"$bin/sealift" --socket "$hosts_dir/a/sealiftd.sock" migrate ticker "127.0.0.1:${host_port[b]}" >"$hosts_dir/gone.log" 2>&1 &
client=$!
within 30 grep -qs prepare "$hosts_dir/gone.log" || fail "no migration begins"
kill -KILL $client 2>/dev/null || true
wait $client 2>/dev/null || true
wait "$program" || fail "the source's program ended badly"
within 60 grep -qs 'epoch 2$' "$hosts_dir"/b/state/*.log || fail "the migration ended with its client"
echo "ok: a client that is killed meanwhile"
kill "$(sealift_on b ps --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | head -n 1)"
nothing_on_b() { ! sealift_on b ps --json | says '"state": "running"'; }
within 30 nothing_on_b || fail "the enclave on b does not end"

# A development agent where the manifest wants production.
program strict strict
refused 'a development agent where the manifest wants production' '6' strict "${host_port[b]}"
program_end

# A CPU without what the enclave's baseline needs: AVX-512 here, and none over there.
if grep -qw avx512bw /proc/cpuinfo; then
  host_up narrow 128M --xfrm 7
  program wide wide
  refused 'a CPU that lacks the baseline' '1 6' wide "${host_port[narrow]}"
  program_end
else
  echo "skipped: a CPU that lacks the baseline: this one has no AVX-512 to leave out"
fi

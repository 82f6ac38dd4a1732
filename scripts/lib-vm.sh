# Two VM hosts on this machine, for the VM demo, its tests and its benchmark: network namespaces "a" and "b" on one bridge,
# each a host of scripts/lib-hosts.sh with room for one QEMU, and a third namespace "c" for clients. Source this after
# scripts/lib-hosts.sh; needs root, $bin, and $build with the guest's image (scripts/vm-image).
#
# Addresses: hosts 10.98.0.1 and .2, client .3, guest .10.
# shellcheck shell=bash

vm_prefix=slv$$
vm_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
declare -A vm_pid
vm_guest=10.98.0.10

vm_in() { # namespace, command…
  local space=$vm_prefix$1
  shift
  ip netns exec "$space" "$@"
}

vm_network_down() {
  local space
  for space in a b c s; do ip netns delete "$vm_prefix$space" 2>/dev/null || true; done
}

vm_end() {
  hosts_end
  vm_network_down
}

# Namespace s is the switch: a bridge with one wire to each of the others. a and b have a bridge of their own, for the
# wire and the VM's tap.
vm_network_up() {
  local name last=1
  trap vm_end EXIT
  for name in s a b c; do
    ip netns add "$vm_prefix$name"
    ip -n "$vm_prefix$name" link set lo up
  done
  ip -n "${vm_prefix}s" link add switch type bridge
  ip -n "${vm_prefix}s" link set switch up
  for name in a b c; do
    ip link add wire netns "$vm_prefix$name" type veth peer name "to-$name" netns "${vm_prefix}s"
    ip -n "${vm_prefix}s" link set "to-$name" master switch up
    ip -n "$vm_prefix$name" link set wire up
    if [ "$name" = c ]; then
      ip -n "$vm_prefix$name" address add 10.98.0.3/24 dev wire
      continue
    fi
    ip -n "$vm_prefix$name" link add lan type bridge
    ip -n "$vm_prefix$name" link set wire master lan
    ip -n "$vm_prefix$name" tuntap add vm mode tap
    ip -n "$vm_prefix$name" link set vm master lan up
    ip -n "$vm_prefix$name" link set lan up
    ip -n "$vm_prefix$name" address add "10.98.0.$last/24" dev lan
    host_enter[$name]="ip netns exec $vm_prefix$name"
    host_address[$name]=10.98.0.$last
    last=$((last + 1))
  done
}

# vm_host_up NAME EPC SECTION: a host whose machine has room for its agent and a section for a guest.
vm_host_up() {
  host_up "$1" "$2"
  "$bin/softsgx" section "$hosts_dir/$1/host.machine" "$hosts_dir/$1/section" --epc "$3" >/dev/null
}

# vm_start HOST RC-FILE [OPTIONS OF vm-run…]: a QEMU on that host, known to its sealiftd as "web".
vm_start() {
  local name=$1 rc=$2 d=$hosts_dir/$1/vm
  shift 2
  [ ! -e "$d/console.log" ] || cat "$d/console.log" >>"$d.console"
  rm -rf "$d"
  mkdir -p "$d"
  # shellcheck disable=SC2086  # a command
  start "$d.log" ${host_enter[$name]} "$vm_here/vm-run" --image "$build/vm" --dir "$d" --section "$hosts_dir/$name/section" \
    --tap vm --ip "$vm_guest/24" --script "$rc" "$@"
  vm_pid[$name]=$!
  for _ in $(seq 600); do
    [ -S "$d/qmp.sock" ] && [ -S "$d/org.sealift.broker.sock" ] && break
    kill -0 "$!" 2>/dev/null || break
    sleep 0.05
  done
  [ -S "$d/qmp.sock" ] || { echo "QEMU on $name did not start:" >&2; cat "$d.log" >&2; return 1; }
  # The sockets are there before QEMU answers: that is when it has its RAM and the image in it.
  within 60 sealift_on "$name" vm add web --qmp "$d/qmp.sock" --guest-channel "$d/org.sealift.broker.sock" 2>"$d.add" ||
    { tail -n 1 "$d.add" >&2; return 1; }
}

# vm_counters COUNT PAUSE_MS IMAGE: lines for an rc file: so many enclaves that count, up to eight a process, built by all
# processes at once.
vm_counters() {
  local left=$1 number=0 some
  while [ "$left" -gt 0 ]; do
    number=$((number + 1)) some=$((left < 8 ? left : 8)) left=$((left - 8))
    echo "(softsgx run auto -- guest_counters $3 $some $2 $number; echo \"guest: counters $number ended\") >/dev/console 2>&1 &"
  done
}

# vm_ready HOST COUNT [SECONDS]: until the guest's broker and COUNT enclaves are there. One line, and the guest's own reason
# if it gave one, if they do not come.
vm_ready() {
  local name=$1 count=$2 console=$hosts_dir/$1/vm/console.log end=$((SECONDS + ${3:-60 + 3 * $2}))
  while [ $SECONDS -lt $end ]; do
    [ "$(vm_field "$name" broker)" = True ] && [ "$(vm_field "$name" enclaves)" = "$count" ] && return 0
    if grep -aqE 'guest: .* ended|EPC is too small' "$console"; then break; fi
    sleep 0.2  # nothing to wait for: a bounded poll
  done
  echo "the VM on $name has $(vm_field "$name" enclaves) of $count enclaves after $((SECONDS - end + ${3:-60 + 3 * $2})) s: $(
    grep -aE 'too small|does not answer|ended' "$console" | head -n 1 | tr -d '\r' || true)" >&2
  return 1
}

# vm_counted HOST COUNT EPOCH [SECONDS]: until every process of vm_counters has told that all its enclaves count in that epoch;
# prints one line for all. Fails if one is missing, or any has ever miscounted.
vm_counted() {
  python3 - "$hosts_dir/$1/vm/console.log" "$2" "$3" "${4:-60}" <<'PY'
import re, sys, time
path, count, epoch, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
line = re.compile(rb"counters (\d+): (\d+) enclaves, (\d+) steps, (\d+) wrong, (\d+) inconsistent, "
                  rb"epochs (\d+) to (\d+), longest gap (\d+) ms")
end, last = time.monotonic() + seconds, {}
while True:
    text = open(path, "rb").read()
    last = {m[1]: list(map(int, m.groups()[1:])) for m in line.finditer(text)}
    there = sum(r[0] for r in last.values() if r[4] == r[5] == epoch)
    if there == count or time.monotonic() > end or b"came after" in text or b"does not answer" in text:
        break
    time.sleep(0.2)  # a file that another process writes: a bounded poll
steps, wrong, inconsistent = (sum(r[i] for r in last.values()) for i in (1, 2, 3))
gap = max((r[6] for r in last.values()), default=0)
print(f"{there} enclaves in {len(last)} processes, {steps} steps, {wrong} wrong, {inconsistent} inconsistent, "
      f"epoch {epoch}, longest gap {gap} ms")
sys.exit(0 if there == count and wrong == inconsistent == 0 else 1)
PY
}

# vm_field HOST FIELD: of the one VM's row.
vm_field() {
  sealift_on "$1" vm list --json | python3 -c '
import json, sys
rows = json.load(sys.stdin)
print(rows[0].get(sys.argv[1], "") if rows else "")' "$2"
}

#!/usr/bin/env bash
# Somebody is killed (SIGKILL) in each phase of a migration, with everything real: daemons, agent enclaves, programs, quotes,
# RA-TLS. Afterwards the store runs on exactly one side and has every acknowledged write; only the two deaths that the design
# excepts (of the agent that holds the ticket, of the instance that was granted) may cost the lineage, and never may two run.
# daemon/testing/kill_test.cc has the same at every single step, with stand-ins for enclaves.
# Usage: kv_killed.sh BIN [VICTIM…]    VICTIM: source-daemon target-daemon source-agent target-agent target-program
set -euo pipefail
bin=$1
shift
victims=("$@")
[ ${#victims[@]} -gt 0 ] || victims=(source-daemon target-daemon source-agent target-agent target-program)
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../scripts/lib-hosts.sh
. "$here/../../scripts/lib-hosts.sh"

port=17381
store=127.0.0.1:$port

fail() {
  echo "FAIL: $*" >&2
  tail -n 25 "$hosts_dir"/*.log "$hosts_dir"/*/sealiftd.log "$hosts_dir"/*/agent.log >&2
  exit 1
}

# Programs that a killed sealiftd had started are nobody's children: they are ended by what the daemons know of them.
programs_end() {
  local host pid
  [ -z "${stopped:-}" ] || kill -CONT "$stopped" 2>/dev/null || true
  for host in a b; do
    for pid in $(sealift_on $host ps --json 2>/dev/null | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'); do
      kill -KILL "$pid" 2>/dev/null || true
    done
  done
}
trap 'programs_end; hosts_end' EXIT

running_on() { sealift_on "$1" ps --json 2>/dev/null | grep -c '"state": "running"' || true; }
running() { echo $(($(running_on a) + $(running_on b))); }
# The phase of the newest migration out of a host, as `sealift status --json` tells it.
phase_on() {
  sealift_on "$1" status --json 2>/dev/null |
    awk -F'"' '/"direction":/ { out = /"out"/ } /"phase":/ && out { phase = $4 } END { print phase }'
}
# No migration out of that host is under way. (An instance that was restored may wait for a grant for ever; that is no harm.)
idle_on() {
  sealift_on "$1" status --json 2>/dev/null >"$hosts_dir/status.$1" || return 1
  awk '/"direction":/ { out = /"out"/ } /"phase": "(prepare|stream|ready|commit|grant|resume|cancelling)"/ && out { exit 1 }' "$hosts_dir/status.$1"
}
agent_up_on() { sealift_on "$1" status --json 2>/dev/null | says '"up": true'; }
answers() { [ "$(redis-cli -p $port ping 2>/dev/null)" = PONG ]; }
idle() { idle_on a && idle_on b; }
settled() { idle && [ "$(running)" -ge 1 ]; }
lost() { [[ "$(phase_on a) $(phase_on b)" =~ lost ]]; }
settled_or_lost() { settled || { idle && lost; }; }

store_up() {
  SEALIFT_SOCKET=$hosts_dir/a/sealiftd.sock start "$hosts_dir/kv.log" "$bin/softsgx" run "$hosts_dir/a/host.machine" -- \
    "$bin/kv" --listen "$store"
  within 60 answers || fail "the store does not start"
  # More than the records that may be on their way (16 MiB): a target that stands still holds the stream up.
  redis-benchmark -p $port -q -n 3000 -r 1000000000 -d 10000 -P 8 -t set >/dev/null
  within 60 settled || fail "the store is not registered"
}

# log_reaches HOST STATE: a line of its sealiftd that was not there at log_mark says so.
log_mark() { log_lines=$(wc -l <"$hosts_dir/$1/sealiftd.log"); }
log_reaches() {
  timeout 60 grep -qm1 -E "outgoing kv .*-> ($2)" <(tail -n "+$((log_lines + 1))" -F "$hosts_dir/$1/sealiftd.log" 2>/dev/null) ||
    fail "state '$2' was not reached"
}

# Starts a migration and returns in the phase, where somebody stands still (SIGSTOP) for whom it waits: the target's agent
# before the offer, before Ready and before the grant; the target's daemon during the stream; the source's program when it
# is asked to commit. `stopped`: who does.
reach() {
  local phase=$1 from=$2 to=$3 source
  stopped="" program=""
  log_mark "$from"
  [ "$phase" != prepare ] || stand_still "${host_pids[$to.agent]}"
  start "$hosts_dir/migrate.log" "$bin/sealift" --socket "$hosts_dir/$from/sealiftd.sock" migrate kv "127.0.0.1:${host_port[$to]}"
  migration=$!
  case $phase in
    prepare) log_reaches "$from" 'connect|session|offer' ;;
    stream)
      log_reaches "$from" dump && stand_still "${host_pids[$to.sealiftd]}"
      program=$(started_on "$to") # of it one could not ask who that is
      ;;
    *)
      log_reaches "$from" quiesce
      stand_still "${host_pids[$to.agent]}"
      log_reaches "$from" verify
      ;;
  esac
  case $phase in
    commit | grant)
      source=$(program_of "$from")
      kill -STOP "$source"
      go_on
      stopped=$source
      log_reaches "$from" commit
      ;;
  esac
  if [ "$phase" = grant ]; then
    kill -STOP "${host_pids[$to.agent]}"
    go_on
    stopped=${host_pids[$to.agent]}
    log_reaches "$from" grant
  fi
  [ "$phase" = stream ] || program=$(program_of "$to")
}
# The process that the host's daemon knows, if any.
program_of() { sealift_on "$1" ps --json 2>/dev/null | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | head -n 1; }
# The last that it has started, by its log.
started_on() { sed -n 's/.* started .* as \([0-9]*\), log .*/\1/p' "$hosts_dir/$1/sealiftd.log" | tail -n 1; }
stand_still() {
  stopped=$1
  kill -STOP "$stopped"
}
go_on() {
  [ -z "$stopped" ] || kill -CONT "$stopped" 2>/dev/null || true
  stopped=""
}

restart() {
  case $1 in
    *.sealiftd) start_sealiftd "${1%%.*}" ;;
    *.agent) start_agent "${1%%.*}" ;;
  esac
  within 60 agent_up_on "${1%%.*}" || fail "$1 does not come back"
}

# Whether the design lets this death cost the lineage (docs/protocol.md, failure analysis).
may_lose() {
  case "$1 at $2" in
    "source-agent at commit" | "source-agent at grant" | "target-program at commit" | "target-program at grant") return 0 ;;
  esac
  return 1
}

one_death() {
  local who=$1 phase=$2 from=a to=b pid victim=""
  [ "$(running_on a)" = 1 ] || { from=b to=a; }
  start "$hosts_dir/load.log" "$bin/kv-load" --server "$store" --keys 1000 --connections 2 --pipeline 1 --json
  local load=$!
  wait_line "$hosts_dir/load.log" 'kv-load: writing' >/dev/null
  reach "$phase" $from $to
  local seen
  seen=$(phase_on $from)
  case $who in
    source-daemon) victim=$from.sealiftd ;;
    target-daemon) victim=$to.sealiftd ;;
    source-agent) victim=$from.agent ;;
    target-agent) victim=$to.agent ;;
  esac
  if [ -n "$victim" ]; then
    pid=${host_pids[$victim]}
  else
    pid=$program
  fi
  [ -z "$pid" ] || kill -KILL "$pid"
  go_on
  [ -z "$victim" ] || { wait "$pid" 2>/dev/null || true; restart "$victim"; }
  wait "$migration" 2>/dev/null || true
  within 120 settled_or_lost || fail "$who at $phase: nothing runs, and nothing is said to be lost"
  local now
  now=$(running)
  [ "$now" -le 1 ] || fail "$who at $phase: $now instances run"
  if [ "$now" = 0 ]; then
    may_lose "$who" "$phase" || fail "$who at $phase: the lineage is lost"
    echo "ok: $who killed at $phase ($seen): $(phase_on $from), as the design admits"
    kill -KILL "$load"
    wait "$load" 2>/dev/null || true
    programs_end
    store_up
    return
  fi
  within 60 answers || fail "$who at $phase: the store does not answer"
  kill -TERM "$load"
  wait "$load" || fail "$who at $phase: acknowledged writes are missing: $(tail -n 3 "$hosts_dir/load.log")"
  sealift_on $to cancel kv >/dev/null 2>&1 || true  # an instance there that waits for its grant has the EPC of the next
  echo "ok: $who killed at $phase (${seen:-no daemon}): runs on $([ "$(running_on $to)" = 1 ] && echo "the target" || echo "the source")," \
    "$(sed -n 's/.*"acked":\([0-9]*\).*/\1/p' "$hosts_dir/load.log") acknowledged writes, none lost"
}

host_up a 640M
host_up b 640M
store_up
for victim in "${victims[@]}"; do
  for phase in prepare stream ready commit grant; do
    one_death "$victim" $phase
  done
done

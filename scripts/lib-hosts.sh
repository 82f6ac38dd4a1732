# Two "hosts" on one machine, for the demo and the end-to-end tests: each has a software SGX machine, a quoting service,
# an agent enclave and a sealiftd. Source this; needs $bin (the folder of the programs) and bash.
#
# Everything lives in one folder under /dev/shm; everything that was started is ended, by pid, when the shell exits.
# shellcheck shell=bash

hosts_dir=$(mktemp -d /dev/shm/sealift-hosts.XXXXXX)
declare -A host_port host_pids
# A host in a network namespace: the command that enters it, and its address. Else it is on loopback.
declare -A host_enter host_address
# More options of a host's sealiftd.
declare -A host_options
started=()

hosts_end() {
  local pid
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  # Programs that a sealiftd started belong to it; --stop-children ends them.
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$hosts_dir"
}
trap hosts_end EXIT

# start LOG COMMAND…: in the background, its output to LOG. The pid is in $!.
start() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 &
  started+=("$!")
}

# wait_line FILE REGEX [SECONDS]: until a line of FILE matches; prints it. Fails after 60 s, or as many as given.
wait_line() {
  # tail -F wakes on changes; grep -m1 ends the wait.
  timeout "${3:-60}" grep -m1 -E "$2" <(tail -n +1 -F "$1" 2>/dev/null) || {
    echo "timed out waiting for '$2' in $1:" >&2
    tail -n 20 "$1" >&2
    return 1
  }
}

# within SECONDS COMMAND…: until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05  # nothing to wait for: a bounded poll
  done
}

# … | says PATTERN: reads all of it. `grep -q` leaves early, and under pipefail whoever still writes then has failed.
says() { grep "$@" >/dev/null; }

# on NAME COMMAND…: on that host's machine, talking to that host's sealiftd.
on() {
  local name=$1
  shift
  SEALIFT_SOCKET=$hosts_dir/$name/sealiftd.sock "$bin/softsgx" run "$hosts_dir/$name/host.machine" -- "$@"
}

start_agent() {
  local d=$hosts_dir/$1
  start "$d/agent.log" "$bin/softsgx" run "$d/host.machine" -- "$bin/sealift-agent" --name "agent-$1" \
    --image "${agent_image:-$bin/agent-development.enclave}" --socket "$d/agent.sock" --aesm "$d/aesm.sock" --collateral "$d/collateral"
  host_pids[$1.agent]=$!
}

start_sealiftd() {
  local d=$hosts_dir/$1
  # shellcheck disable=SC2086  # a command, options
  start "$d/sealiftd.log" ${host_enter[$1]:-} "$bin/softsgx" run "$d/host.machine" -- "$bin/sealiftd" --name "$1" \
    --socket "$d/sealiftd.sock" --listen "${host_address[$1]:-127.0.0.1}:${host_port[$1]:-0}" \
    --agent-socket "$d/agent.sock" --state-dir "$d/state" --stop-children \
    ${host_options[$1]:-}
  host_pids[$1.sealiftd]=$!
}

# host_up NAME EPC [OPTIONS of softsgx create]
host_up() {
  local name=$1 d=$hosts_dir/$1
  mkdir -p "$d"
  "$bin/softsgx" create "$d/host.machine" --epc "$2" "${@:3}" >/dev/null
  start "$d/aesmd.log" "$bin/softsgx-aesmd" "$d/host.machine" --socket "$d/aesm.sock" --collateral "$d/collateral"
  wait_line "$d/aesmd.log" 'serves' >/dev/null
  start_agent "$name"
  wait_line "$d/agent.log" 'quote installed' >/dev/null
  start_sealiftd "$name"
  host_port[$name]=$(wait_line "$d/sealiftd.log" 'serves' | sed -E 's/.*:([0-9]+)[^0-9]*$/\1/')
  wait_line "$d/sealiftd.log" 'agent is up' >/dev/null
}

# sealift_on NAME ARGUMENTS…: the command, against that host's daemon.
sealift_on() {
  local name=$1
  shift
  "$bin/sealift" --socket "$hosts_dir/$name/sealiftd.sock" "$@"
}

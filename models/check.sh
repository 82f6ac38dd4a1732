#!/bin/bash
# Checks the protocol's models exhaustively, and that the checks can fail.
#
#   models/check.sh            all of it (under a minute)
#   models/check.sh --trace X  the counterexample of one mutation or witness, e.g. MUT_UNBOUND_GRANT
#
# A property holds only if the search ended by itself, found no error, and was not truncated by depth or memory. Each
# mutation takes one defence away and must be caught; each witness shows that the good end is reachable at all, so that
# nothing holds for want of behaviour. Needs spin and a C compiler.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp "$here"/*.pml .
failures=0

# build MODEL [-D…]: ./pan from the model; CFLAGS_PAN for the verifier's own compile-time options.
build() {
  local model=$1
  shift
  rm -f pan pan.* ./*.trail
  if ! spin -a "$@" "$model.pml" >spin.log 2>&1; then
    cat spin.log
    exit 2
  fi
  # shellcheck disable=SC2086  # CFLAGS_PAN is a list
  "${CC:-cc}" -O2 -DCOLLAPSE -DMEMLIM=4096 ${CFLAGS_PAN:--DSAFETY} -o pan pan.c
}

# Depth far above what is reached: exceeding it would truncate the search, and says so.
search() { ./pan -m1000000 -w22 "$@" >out.log 2>&1 || true; }

complete() {
  ! grep -qE 'Search not completed|max search depth too small|out of memory|memory limit|interrupted' out.log
}

report() { printf '%-8s %-9s %-28s %s\n' "$1" "$2" "$3" "$4"; }

holds() {
  local model=$1 what=$2
  shift 2
  build "$model" "$@"
  search ${PAN_OPTIONS:-}
  local states
  states=$(awk '/states, stored/ {print $1}' out.log)
  if grep -q 'errors: 0' out.log && complete; then
    report ok "$model" "$what" "$states states, exhaustive"
  else
    report FAILED "$model" "$what" "see below"
    cat out.log
    failures=$((failures + 1))
  fi
}

# The search must stop at a violated assertion; any other error (a bad index, an invalid end) proves nothing.
caught() {
  local model=$1 mutation=$2
  shift 2
  build "$model" "-D$mutation" "$@"
  search
  if grep -q 'assertion violated' out.log; then
    report ok "$model" "$mutation" "caught: $(sed -n 's/.*assertion violated *//p' out.log | head -1 | cut -c1-60)"
  else
    report FAILED "$model" "$mutation" "not noticed"
    cat out.log
    failures=$((failures + 1))
  fi
}

trace() {
  local name=$1 model
  for model in migration recovery; do
    grep -q "$name" "$model.pml" || continue
    build "$model" "-D$name"
    search
    [ -e "$model.pml.trail" ] && spin -t -p -g "-D$name" "$model.pml"
  done
}

if [ "${1:-}" = --trace ]; then
  trace "$2"
  exit 0
fi

holds migration "S3 S4"
holds migration "S3 S4, with deaths" -DCRASHES -DDRAWS=3
caught migration WITNESS
for mutation in $(grep -oE 'MUT_[A-Z_]+' migration.pml | sort -u); do
  [ "$mutation" = MUT_ ] || caught migration "$mutation"
done

for mode in HOST VM; do
  holds recovery "S7, $mode" "-D$mode"
  # Every execution ends: without a cycle, the end states that were judged are the end of every history.
  CFLAGS_PAN='-DNP -DNOREDUCE' PAN_OPTIONS=-l holds recovery "every history ends, $mode" "-D$mode"
  caught recovery WITNESS "-D$mode"
  for mutation in $(grep -oE 'MUT_[A-Z_]+' recovery.pml | sort -u); do
    [ "$mutation" = MUT_ ] || caught recovery "$mutation" "-D$mode"
  done
done

if [ "$failures" -ne 0 ]; then
  echo "models: $failures checks failed"
  exit 1
fi
echo "models: every property holds, every mutation is caught"

#!/bin/sh
# on_section.sh SOFTSGX EXCHANGE [RUN-OPTIONS…] -- PROGRAM [ARGUMENTS…]: runs the program on an EPC section of machine A.
# The commands in SOFTSGX_TEST_EXCHANGE put a fresh section of machine B in its place, under the running process whose pid
# follows; SOFTSGX_TEST_INFO describes the section.
set -eu
softsgx=$1 exchange=$2
shift 2
options=
while [ "$1" != -- ]; do
  options="$options $1"
  shift
done
shift
d=$(mktemp -d "${SOFTSGX_TEST_DIR:-/dev/shm}/softsgx-test.XXXXXX")
trap 'rm -rf "$d"' EXIT
for m in a b; do
  "$softsgx" create "$d/$m.machine" --epc 1M
  "$softsgx" section "$d/$m.machine" "$d/$m.section" --epc 24M
done
clean='env -u LD_PRELOAD -u SOFTSGX_MACHINE'
export SOFTSGX_TEST_EXCHANGE="$clean $softsgx reset $d/b.section && $clean $exchange $d/a.section $d/b.section"
export SOFTSGX_TEST_INFO="$clean $softsgx info --json $d/a.section"
# shellcheck disable=SC2086 # options hold no spaces
"$softsgx" run $options "$d/a.section" -- "$@"

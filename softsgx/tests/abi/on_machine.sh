#!/bin/sh
# on_machine.sh SOFTSGX [RUN-OPTIONS…] -- PROGRAM [ARGUMENTS…]: runs the program on a fresh machine, then removes that.
set -eu
softsgx=$1
shift
options=
while [ "$1" != -- ]; do
  options="$options $1"
  shift
done
shift
directory=$(mktemp -d "${SOFTSGX_TEST_DIR:-/dev/shm}/softsgx-test.XXXXXX")
trap 'rm -rf "$directory"' EXIT
"$softsgx" create "$directory/A.machine" --epc "${SOFTSGX_TEST_EPC:-512M}" >/dev/null
# shellcheck disable=SC2086 # options hold no spaces
"$softsgx" run $options "$directory/A.machine" -- "$@"

#!/usr/bin/env bash
# Runs cells of nestmatrix as a test of tmt (result: custom), and writes a result for each. The arguments are those of run-matrix.
# NESTMATRIX says what runs them: a command, an archive of `cargo xtask dist`, or the folder of a checkout.
set -euo pipefail
: "${NESTMATRIX:=nestmatrix}" "${TMT_TEST_DATA:?is set by tmt}"
# tmt sets neither for a test on its own machine.
[ -n "${HOME-}" ] || HOME=~
export HOME PATH="$PATH:$HOME/.cargo/bin"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

program=("$NESTMATRIX")
if [ -d "$NESTMATRIX" ]; then
    cd "$NESTMATRIX"
    program=(cargo xtask)
elif [ "${NESTMATRIX%.tar.gz}" != "$NESTMATRIX" ]; then
    tar xf "$NESTMATRIX" -C "$scratch"
    program=("$scratch"/*/nestmatrix)
fi

# tmt takes what is in this folder from the machine. Logs must be in it, too.
results=$TMT_TEST_DATA/runs
# A cell of a disposable host may have rebooted the machine. Otherwise, verdicts of an earlier try must not count as those of this one.
if [ "${TMT_REBOOT_COUNT:-0}" != 0 ] && [ -e "$results/latest" ]; then
    set -- --resume "$results/latest"
else
    rm -f "$TMT_TEST_DATA/results.yaml" "$results/latest"
fi
status=0
"${program[@]}" run-matrix "$@" --results "$results" || status=$?
# The machine reboots now, and tmt runs this script again.
[ "$status" != 5 ] || exit "$status"
# If there is no run, this fails, and tmt reports an error, since it finds no results. Cells without a verdict are errors, too.
"${program[@]}" report --results "$results" --format tmt --output "$TMT_TEST_DATA/results.yaml"
exit "$status"

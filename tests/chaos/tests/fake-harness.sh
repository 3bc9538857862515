#!/bin/sh
# Plays `run-matrix` for the tests of campaigns: it works for a second, and then has a verdict. FAULT chooses what is wrong with it, in
# runs after the first one.
set -eu
while [ $# -gt 0 ]; do
    [ "$1" != --results ] || results=$2
    shift
done
fault=none
[ -z "${NESTMATRIX_CACHE+x}" ] || fault=${FAULT:-none}
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$results/run"
# Alone, so that the signals are handled at once.
sleep 1 &
wait $! || true
verdict() {
    printf '{"cell":"fake/amd/a","verdict":"%s","stage":null,"symptom":null,"attempts":[{"start":0,"end":1}]}\n' "$1"
}
case "$fault" in
lies) verdict fail | tee "$results/run/verdicts.jsonl" ;;
loses) verdict pass && : >"$results/run/verdicts.jsonl" ;;
panics)
    verdict pass | tee "$results/run/verdicts.jsonl"
    echo "thread 'main' panicked at src/main.rs:1:1:" >&2
    ;;
leaves-a-process)
    verdict pass | tee "$results/run/verdicts.jsonl"
    sleep 100 >/dev/null 2>&1 &
    ;;
leaves-a-folder)
    verdict pass | tee "$results/run/verdicts.jsonl"
    mkdir -p "$NESTMATRIX_CACHE/scratch/run-left"
    ;;
hangs) sleep 100 ;;
*) verdict pass | tee "$results/run/verdicts.jsonl" ;;
esac

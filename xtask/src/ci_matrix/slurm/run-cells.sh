#!/usr/bin/env bash
# Runs a shard of cells as an element of a Slurm job array, or resumes it if an earlier node was lost. The first argument is the name of
# the kind of machine, and the others are those of run-matrix. A failed cell does not fail the job, since regressions are reported after
# the merge. A cell without a verdict does.
set -euo pipefail
kind=$1
shift
results=$NIGHT/$kind-$SLURM_ARRAY_TASK_ID
# The newest run that was begun here. One without these files has no verdicts either.
begun=
for run in "$results"/20*; do
    if [ -e "$run/run.json" ] && [ -e "$run/cells.txt" ]; then begun=$run; fi
done
status=0
if [ -n "$begun" ]; then
    echo "resuming $begun on $(uname -n)"
    "$NESTMATRIX" run-matrix --resume "$begun" --results "$results" || status=$?
else
    "$NESTMATRIX" run-matrix "$@" --results "$results" || status=$?
fi
case $status in
# 1: a cell failed. 4: no cell of the shard could run.
0 | 1 | 4) ;;
*) exit "$status" ;;
esac

#!/usr/bin/env bash
# Submits the jobs of a night to Slurm: an array of shards for each kind of machine, and a last job that merges all results. Prints the
# folder of the night. NESTMATRIX_RESULTS is a folder that all nodes have. Arguments are passed on to sbatch, such as --partition.
set -euo pipefail
NESTMATRIX_TREE=$(cd "$(dirname "$0")" && pwd)
. "$NESTMATRIX_TREE/settings.sh"
program=$(command -v "$NESTMATRIX") || { echo "there is no program $NESTMATRIX" >&2 && exit 1; }
NESTMATRIX=$(realpath "$program")
case $NESTMATRIX in *[[:space:]]*) echo "the path of the program has a space: $NESTMATRIX" >&2 && exit 1 ;; esac
: "${NESTMATRIX_RESULTS:=$PWD/results}"
mkdir -p "$NESTMATRIX_RESULTS"
NIGHT=$(cd "$NESTMATRIX_RESULTS" && pwd)/night-$(date -u +%Y-%m-%dT%H-%M-%SZ)
mkdir "$NIGHT"
export NESTMATRIX NESTMATRIX_TREE NIGHT

arrays=()
for job in "$NESTMATRIX_TREE"/jobs/*.sbatch; do
    arrays+=("$(sbatch --parsable --output "$NIGHT/%x-%a.log" "$@" "$job" | cut -d ';' -f 1)")
done
after=$(IFS=: && echo "${arrays[*]}")
sbatch --output "$NIGHT/merge.log" --dependency "afterany:$after" "$@" "$NESTMATRIX_TREE/merge.sbatch" >&2
echo "$NIGHT"

#!/bin/sh
# Boots one cold AMD stack by hand and by nestmatrix in turn, and prints the seconds of both, their medians and the ratio.
#
# Usage: compare.sh ROUNDS CELL L0 L1 L2     from the checkout, with the images built
#   ROUNDS   how often each is booted; an odd number
#   CELL     the cell that nestmatrix boots, such as 'rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+'
#   L0 L1    recipes of its hypervisor images, such as debian-12-amd64
#   L2       recipe of its minimal image
set -eu

if [ $# -ne 5 ]; then
    echo "usage: $0 ROUNDS CELL L0 L1 L2" >&2
    exit 2
fi
rounds=$1 cell=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# folder RECIPE PRODUCT: where the cache has that image.
folder() {
    cargo xtask images show "$1" | awk -v product="$2" '$1 == product ":" { found = 1 } found && $1 == "folder" { print $2; exit }'
}

l0=$(folder "$3" hypervisor)
l1=$(folder "$4" hypervisor)
l2=$(folder "$5" minimal)
tree=$(folder qemu-x86-amd64 emulator)/tree

median() {
    sort -n "$1" | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

round=1
while [ "$round" -le "$rounds" ]; do
    "$(dirname "$0")/amd.sh" "$l0" "$l1" "$l2" "$tree/ld.so" --library-path "$tree/libraries" \
        "$tree/programs/qemu-system-x86_64" -L "$tree/data" 2>/dev/null >>"$work/by-hand"
    # The whole attempt: from the first process to the verdict, with all that is read of the levels and with their end.
    cargo xtask run-matrix "$cell" --metal emulated --offline --format json --results "$work/results" 2>/dev/null |
        sed -n 's/.*"attempts":\[{"start":\([0-9.]*\),"end":\([0-9.]*\),"verdict":"pass"}.*/\1 \2/p' |
        awk '{ printf "%.2f\n", $2 - $1 }' >>"$work/nestmatrix"
    echo "round $round: by hand $(tail -n 1 "$work/by-hand") s, nestmatrix $(tail -n 1 "$work/nestmatrix") s"
    round=$((round + 1))
done
hand=$(median "$work/by-hand")
ours=$(median "$work/nestmatrix")
echo "medians of $rounds: by hand $hand s, nestmatrix $ours s, ratio $(awk "BEGIN { printf \"%.2f\", $ours / $hand }")"

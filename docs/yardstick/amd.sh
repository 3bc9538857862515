#!/bin/sh
# The yardstick of a cold AMD stack: boots L0 -> L1 -> L2 on emulated metal by hand, without nestmatrix, and prints the
# seconds from the start of the outermost QEMU until L2's report is complete on the console. Everything is ended then.
#
# Usage: amd.sh L0 L1 L2 QEMU [ARGUMENT...]
#   L0 L1    folders with vmlinuz and initramfs.cpio of hypervisor images
#   L2       the same of a minimal image
#   QEMU     the emulator that plays L0's metal, with the arguments that it needs before a machine's own
#
# Machine types, memory, and the way of images to the levels (read-only disks) are those with which nestmatrix began. It
# stays as it is: what nestmatrix does since to shorten boots (docs/performance.md) is what is measured against it. A
# script also does without monitor, agent, and a look at what a CPU really got; consoles are serial lines inside each
# other.
set -eu

if [ $# -lt 4 ]; then
    echo "usage: $0 L0 L1 L2 QEMU [ARGUMENT...]" >&2
    exit 2
fi
l0=$1 l1=$2 l2=$3
shift 3

limit=600 # seconds after which a stack counts as hung
parameters="console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check"
common="-smp 1 -display none -nodefaults -no-user-config -no-reboot -serial stdio"

work=$(mktemp -d)
qemu=
finish() {
    # timeout(1) passes the signal on to its QEMU, and everything else runs inside that one.
    [ -z "$qemu" ] || { kill "$qemu" && wait "$qemu"; } 2>/dev/null || :
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# pad SIZE: zeros up to the next multiple of four.
pad() {
    rest=$(($1 % 4))
    while [ $((rest % 4)) -ne 0 ]; do
        printf '\0'
        rest=$((rest + 1))
    done
}

# entry NAME MODE FILE: one file of an initramfs (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
entry() {
    size=$(wc -c <"$3")
    printf 070701
    printf '%08X' 0 "$2" 0 0 1 0 "$size" 0 0 0 0 $((${#1} + 1)) 0
    printf '%s\0' "$1"
    pad $((110 + ${#1} + 1))
    cat "$3"
    pad "$size"
}

# with_init IMAGE INIT: the image's initramfs with /yardstick in it. The kernel unpacks archives one after the other.
with_init() {
    entry yardstick 0100755 "$2"
    entry 'TRAILER!!!' 0 /dev/null
    cat "$1/initramfs.cpio"
}

# init QEMU-ARGUMENTS: first process of a level. Does what the image's own init does, and then starts the next level
# from its first two disks. QEMU maps an initramfs as a file, which a disk can't be, hence the copies.
init() {
    cat <<EOF
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
modprobe -a virtio_pci virtio_mmio virtio_console virtio_blk kvm_amd
cat /dev/vda >/run/kernel
cat /dev/vdb >/run/initramfs
qemu-system-x86_64 $1 $common -kernel /run/kernel -initrd /run/initramfs
poweroff -f
EOF
}

# disk FILE: a read-only disk.
disk() {
    echo "-drive if=virtio,format=raw,readonly=on,file=$1"
}

init "-machine microvm,rtc=on,accel=kvm -cpu host -m 256M \
    -append '$parameters reboot=t nest.nonce=yardstick'" >"$work/l1-init"
init "-machine q35,accel=kvm -cpu host -m 1024M -append '$parameters rdinit=/yardstick' \
    $(disk /dev/vdc) $(disk /dev/vdd)" >"$work/l0-init"
with_init "$l0" "$work/l0-init" >"$work/l0-initramfs"
with_init "$l1" "$work/l1-init" >"$work/l1-initramfs"
mkfifo "$work/console"

# The clock of /proc counts hundredths of seconds and needs no process.
read -r began _ </proc/uptime
# shellcheck disable=SC2086 # words of $common are options
timeout "$limit" "$@" -machine q35,accel=tcg -cpu max,svm=on -m 1792M $common \
    -kernel "$l0/vmlinuz" -initrd "$work/l0-initramfs" -append "$parameters rdinit=/yardstick" \
    -drive if=virtio,format=raw,readonly=on,file="$l1/vmlinuz" \
    -drive if=virtio,format=raw,readonly=on,file="$work/l1-initramfs" \
    -drive if=virtio,format=raw,readonly=on,file="$l2/vmlinuz" \
    -drive if=virtio,format=raw,readonly=on,file="$l2/initramfs.cpio" \
    </dev/null >"$work/console" &
qemu=$!

while read -r line; do
    case $line in
    *nestmatrix-report-end*)
        read -r ended _ </proc/uptime
        hundredths=$((${ended%.*}${ended#*.} - ${began%.*}${began#*.}))
        printf '%d.%02d\n' $((hundredths / 100)) $((hundredths % 100))
        exit 0
        ;;
    esac
    echo "$line" >&2
done <"$work/console"
echo "$0: the stack ended without L2's report, or hung for $limit s" >&2
exit 1

#!/bin/sh
# Stands for Windows Setup and for what runs after it: looks for all that an installation gets, writes to the disk, reports on the first
# serial port, and powers off. With `nest.silent` on the kernel command line, it powers off without a report.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

say() {
    echo
    echo "$*"
}

finish() {
    say "nestmatrix-prepare-end $1"
    sync
    # The kernel waits for the console's last bytes only when its last user closes it.
    exec < /dev/null > /dev/null 2>&1
    poweroff -f
}

fail() {
    say "error=$*"
    finish 1
}

read -r line < /proc/cmdline
case $line in *nest.silent*) poweroff -f ;; esac

say nestmatrix-prepare-begin
say "progress=looking for disks"
for module in ahci sd_mod sr_mod isofs vfat nls_cp437 nls_ascii nls_iso8859_1 nls_utf8 xhci_pci usb_storage; do
    modprobe $module || fail "modprobe $module"
done

# The disk is fixed, the stick can be removed.
tries=0
while [ -z "$disk" ] || [ -z "$stick" ] || [ ! -b /dev/sr0 ] || [ ! -b /dev/sr1 ]; do
    disk="" stick=""
    for block in /sys/block/sd*; do
        [ -e "$block/removable" ] || continue
        read -r removable < "$block/removable"
        read -r sectors < "$block/size"
        case $removable in
        0) disk=/dev/${block##*/} ;;
        1) [ "$sectors" = 0 ] || stick=/dev/${block##*/} ;;
        esac
    done
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "disk: $disk, stick: $stick, CDs: $(echo /dev/sr*)"
    sleep 0.1
done

mkdir -p /stick /cd0 /cd1
mount -t vfat -o ro "$stick" /stick || fail "cannot mount the stick"
for number in 0 1; do
    mount -t iso9660 -o ro /dev/sr$number /cd$number || fail "cannot mount CD $number"
done
grep -q '<settings pass="windowsPE">' /stick/Autounattend.xml || fail "the stick has no answers"
[ -e /stick/nestmatrix/prepare.ps1 ] || fail "the stick has no script"
msi=$(echo /cd*/guest-agent/qemu-ga-x86_64.msi)
[ -e "$msi" ] || fail "no CD has the guest agent"
say "progress=writing the disk"
read -r sectors < /sys/block/"${disk##*/}"/size
say "change=a disk of $sectors sectors"
echo "installed by a stand-in" | dd of="$disk" bs=512 seek=2048 conv=notrunc 2> /dev/null || fail "cannot write to the disk"
sync
say system=windows-server
say version=2022
say kernel=10.0.20348.1
finish 0

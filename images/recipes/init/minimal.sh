#!/bin/sh
# Only process of a level that runs nothing: tells its console what it sees, then powers off, or with nest.stay on its
# kernel command line does what it is asked over the console.
# Every byte and every new process costs exits through all the levels below: builtins first.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

nonce=
stay=
read -r line < /proc/cmdline
for word in $line; do
    case $word in
    nest.nonce=*) nonce=${word#nest.nonce=} ;;
    nest.stay) stay=yes ;;
    esac
done
read -r release < /proc/sys/kernel/osrelease
read -r uptime _ < /proc/uptime
cpu=
while [ -z "$cpu" ] && IFS=: read -r key value; do
    case $key in "model name"* | "cpu	"* | "CPU part"*) cpu=${value# } ;; esac
done < /proc/cpuinfo
# How a level comes to know its hypervisor differs: its kernel says so (x86), has asked its firmware (Arm), or was told in its
# device tree (POWER) or by the machine itself (IBM Z).
hypervisor=$(dmesg | sed -n -e 's/.*Hypervisor detected: //p' -e 's/.*smccc: \(KVM\): hypervisor services detected.*/\1/p')
told=
[ -e /proc/device-tree/hypervisor/compatible ] && read -r told < /proc/device-tree/hypervisor/compatible
case $told in *linux,kvm*) hypervisor=KVM ;; esac
[ -e /proc/sysinfo ] && grep -q '^VM00 Control Program: KVM' /proc/sysinfo && hypervisor=KVM

echo "nestmatrix-report-begin
nonce=$nonce
kernel=$release
hypervisor=${hypervisor:-none}
cpu=$cpu
uptime=$uptime
nestmatrix-report-end"

if [ -n "$stay" ]; then
    # Goes on by itself, so that whoever looks at it twice sees whether this level lives.
    echo 0 > /count
    (count=0; while sleep 0.2; do count=$((count + 1)); echo $count > /count; done) < /dev/null &
    . /shell.sh
    serve_console
fi
# The console's last bytes are only waited for when its last user lets go of it.
exec < /dev/null > /dev/null 2>&1
poweroff -f

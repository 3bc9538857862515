#!/bin/sh
# The only process of a level without guests. It reports what it sees on the console and powers off. With nest.stay on the kernel
# command line, it stays and runs commands from the console.
# Every byte and every new process costs exits through all outer levels, so prefer builtins.
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
cpus=
read -r cpus < /sys/devices/system/cpu/online
cpu=
while [ -z "$cpu" ] && IFS=: read -r key value; do
    case $key in "model name"* | "cpu	"* | "CPU part"*) cpu=${value# } ;; esac
done < /proc/cpuinfo
# Each architecture names its hypervisor elsewhere: the kernel (x86), the firmware (Arm), the device tree (POWER), or the machine
# (IBM Z).
hypervisor=$(dmesg | sed -n -e 's/.*Hypervisor detected: //p' -e 's/.*smccc: \(KVM\): hypervisor services detected.*/\1/p')
told=
[ -e /proc/device-tree/hypervisor/compatible ] && read -r told < /proc/device-tree/hypervisor/compatible
case $told in *linux,kvm*) hypervisor=KVM ;; esac
[ -e /proc/sysinfo ] && grep -q '^VM00 Control Program: KVM' /proc/sysinfo && hypervisor=KVM

report="nonce=$nonce
kernel=$release
hypervisor=${hypervisor:-none}
cpu=$cpu
cpus=$cpus
uptime=$uptime"
# The size shows if the kernel's messages, or a fault of the console, have damaged a line.
echo "nestmatrix-report-begin
$report
size=${#report}
nestmatrix-report-end"

if [ -n "$stay" ]; then
    # A counter, which shows that this level is alive.
    echo 0 > /count
    (count=0; while sleep 0.2; do count=$((count + 1)); echo $count > /count; done) < /dev/null &
    . /shell.sh
    serve_console
fi
# The kernel waits for the console's last bytes only when its last user closes it.
exec < /dev/null > /dev/null 2>&1
poweroff -f

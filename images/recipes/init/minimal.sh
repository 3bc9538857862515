#!/bin/sh
# Only process of a level that runs nothing: tells its console what it sees, then powers off.
# Every byte and every new process costs exits through all the levels below: builtins first.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

nonce=
read -r line < /proc/cmdline
for word in $line; do
    case $word in nest.nonce=*) nonce=${word#nest.nonce=} ;; esac
done
read -r release < /proc/sys/kernel/osrelease
read -r uptime _ < /proc/uptime
cpu=
while [ -z "$cpu" ] && IFS=: read -r key value; do
    case $key in "model name"*) cpu=${value# } ;; esac
done < /proc/cpuinfo
hypervisor=$(dmesg | sed -n 's/.*Hypervisor detected: //p')

echo "nestmatrix-report-begin
nonce=$nonce
kernel=$release
hypervisor=${hypervisor:-none}
cpu=$cpu
uptime=$uptime
nestmatrix-report-end"
# The console's last bytes are only waited for when its last user lets go of it.
exec < /dev/null > /dev/null 2>&1
poweroff -f

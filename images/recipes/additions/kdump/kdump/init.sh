#!/bin/sh
# The only process of a crash kernel. It reports on the console what it sees of the kernel that crashed, and waits: the harness resets
# the machine.
mount -t proc proc /proc
# Only a panic may come between the lines of the report.
echo 1 > /proc/sys/kernel/printk
read -r release < /proc/sys/kernel/osrelease
read -r uptime _ < /proc/uptime
echo "nestmatrix: dump kernel up, kernel $release, uptime $uptime"
dump=/proc/vmcore
size=$(stat -c %s $dump 2> /dev/null)
# The notes are at its start. Pages may have 64 KiB.
crashed=$(head -c 262144 $dump 2> /dev/null | strings | sed -n 's/^OSRELEASE=//p' | head -n 1)
# In the log, the harness has left a nonce.
log=$(/usr/sbin/vmcore-dmesg $dump 2>&1)
status=$?
nonce=$(echo "$log" | grep -o 'nestmatrix-dump-nonce=[0-9a-f]*' | tail -n 1)
said=
[ $status = 0 ] || said=$(echo "$log" | tail -n 1)
echo "nestmatrix-dump-begin
kernel=$release
size=$size
crashed=$crashed
log=$status
nonce=${nonce#*=}
said=$said
nestmatrix-dump-end"
while :; do sleep 3600; done

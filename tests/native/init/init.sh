#!/usr/bin/bash
# First process of a machine that runs nestmatrix itself: makes it what an ordinary Debian is to its users, and does what it is
# given to do.
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t debugfs debugfs /sys/kernel/debug
chmod 1777 /dev/shm /tmp
ln -s ../usr/lib/os-release /etc/os-release
ln -sf dash /usr/bin/sh
mkdir -p /usr/sbin
for name in modprobe lsmod rmmod modinfo depmod; do
    ln -s ../bin/kmod /usr/sbin/$name
done
depmod
. /nest/procedure
# The console's last bytes are only waited for when its last user lets go of it.
exec < /dev/null > /dev/null 2>&1
echo o > /proc/sysrq-trigger
sleep 60

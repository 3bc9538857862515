#!/bin/sh
# First process of a level that runs guests: brings up its channels and KVM, then becomes the guest agent's keeper.
# It may run on an emulator inside an emulator, where each new process is dear: builtins first.
mount -t proc proc /proc
echo "sysfs /sys sysfs
devtmpfs /dev devtmpfs
tmpfs /tmp tmpfs
tmpfs /run tmpfs
debugfs /sys/kernel/debug debugfs" > /etc/fstab
mount -a
modprobe -a virtio_pci virtio_mmio virtio_console virtio_blk 2> /dev/null

# Where this level is rebooted, its modprobe configuration lies on a disk of its own, known by its serial number (which
# sysfs gives without a line end, so that `read` fails and has read all the same). An empty disk gets a file system.
read -r line < /proc/cmdline
case $line in *nest.disk=*)
    wanted=${line##*nest.disk=}
    wanted=${wanted%% *}
    for disk in /sys/block/vd*; do
        serial=
        read -r serial < "$disk/serial"
        [ "$serial" = "$wanted" ] || continue
        device=/dev/${disk##*/}
        mkdir -p /disk /etc/modprobe.d
        modprobe -a crc32c_generic ext4 2> /dev/null
        if mount -t ext4 "$device" /disk 2> /dev/null ||
            { mke2fs "$device" > /dev/null && mount -t ext4 "$device" /disk; }; then
            mkdir -p /disk/modprobe.d
            mount --bind /disk/modprobe.d /etc/modprobe.d
        else
            echo "nestmatrix: the disk $wanted can't be used"
        fi
    done
    ;;
esac

# On a bare machine without virtio, the agent is on a serial line. The channels of the levels inside come over the network card
# one after the other: who connects says his secret and a port of this level first.
agent=
method=virtio-serial
case $line in *nest.relay=*)
    secret=${line##*nest.relay=}
    secret=${secret%% *}
    modprobe e1000
    ifconfig lo 127.0.0.1 up
    ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
    echo "#!/bin/sh
read -r secret port
[ \"\$secret\" = $secret ] && echo nestmatrix-relay && exec nc 127.0.0.1 \"\$port\"" > /run/relay
    chmod +x /run/relay
    nc -ll -p 5000 -e /run/relay < /dev/null > /dev/null 2>&1 &
    agent=/dev/ttyS1
    method=isa-serial
    ;;
esac

# Ports appear some time after their device. Wait for the agent's, at most about 10 s.
tries=0
case $line in *nest.console=*) tries=100 ;; esac
while [ -z "$agent" ] && [ $tries -lt 100 ]; do
    for file in /sys/class/virtio-ports/*/name; do
        name=
        [ -e "$file" ] && read -r name < "$file"
        [ "$name" = org.qemu.guest_agent.0 ] && agent=/dev/virtio-ports/$name
    done
    tries=$((tries + 1))
    [ -z "$agent" ] && sleep 0.1
done
mkdir -p /dev/virtio-ports
for file in /sys/class/virtio-ports/*/name; do
    [ -e "$file" ] || continue
    read -r name < "$file"
    port=${file%/name}
    ln -s "../${port##*/}" "/dev/virtio-ports/$name"
done

# Whether KVM comes up is for the harness to judge, so a failure is told and no more.
case $line in *nest.kvm=*)
    module=${line##*nest.kvm=}
    modprobe "${module%% *}" || echo "nestmatrix: ${module%% *} can't be loaded"
    ;;
esac

read -r release < /proc/sys/kernel/osrelease
read -r uptime _ < /proc/uptime
up="nestmatrix: level up, kernel $release, uptime $uptime"
case $line in *nest.console=*)
    dmesg -n 1
    . /shell.sh
    tell echo "$up"
    serve_console
    poweroff -f
    ;;
esac
echo "$up"
if [ -n "$agent" ]; then
    qemu-ga -m "$method" -p "$agent" -t /run
    echo "nestmatrix: the guest agent ended with status $?"
else
    echo "nestmatrix: no guest agent port came within 10 s"
fi
# The console's last bytes are only waited for when its last user lets go of it.
exec < /dev/null > /dev/null 2>&1
poweroff -f

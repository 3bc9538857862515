#!/bin/sh
# The first process of a level that runs guests. It sets up the channels and KVM, and then runs the guest agent.
# It may run on an emulator inside an emulator, where new processes are slow, so prefer builtins.
mount -t proc proc /proc
echo "sysfs /sys sysfs
devtmpfs /dev devtmpfs
tmpfs /tmp tmpfs
tmpfs /run tmpfs
debugfs /sys/kernel/debug debugfs" > /etc/fstab
mount -a
modprobe -a virtio_pci virtio_mmio virtio_console virtio_blk 2> /dev/null

# If a scenario reboots this level, its modprobe configuration is on a separate disk, identified by its serial number. sysfs
# prints the serial number without a line end, so `read` fails but still reads it. An empty disk gets a file system.
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

# On a bare machine without virtio, the agent uses a serial line. The channels of the inner levels share the network card.
# Each client first sends the secret and a port of this level. If this machine is saved and restored, it gets another secret,
# and the processes that wait for the clients from before are ended.
agent=
method=virtio-serial
case $line in *nest.relay=*)
    secret=${line##*nest.relay=}
    secret=${secret%% *}
    modprobe e1000
    ifconfig lo 127.0.0.1 up
    ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
    echo "$secret" > /run/relay-secret
    echo '#!/bin/sh
read -r secret port
read -r wanted < /run/relay-secret
[ "$secret" = "$wanted" ] || exit
echo $$ >> /run/relayed
echo nestmatrix-relay
exec nc 127.0.0.1 "$port"' > /run/relay
    chmod +x /run/relay
    nc -ll -p 5000 -e /run/relay < /dev/null > /dev/null 2>&1 &
    agent=/dev/ttyS1
    method=isa-serial
    ;;
esac

# Ports appear some time after their device. Wait about 10 s at most for the agent's port.
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

# The harness judges whether KVM works, so only report a failure.
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
# The kernel waits for the console's last bytes only when its last user closes it.
exec < /dev/null > /dev/null 2>&1
poweroff -f

#!/bin/sh
# Loads the crash kernel of this level, which is its own kernel. The initramfs for it is made here, of this level's programs. The
# arguments are parameters for it, after those of this level.
size=
read -r size 2> /dev/null < /sys/kernel/kexec_crash_size
echo "reserved=$size"
case $size in "" | 0)
    dmesg | grep -i crashkernel | tail -n 1 | sed 's/^/said=/'
    exit
    ;;
esac
loaded=
read -r loaded 2> /dev/null < /sys/kernel/kexec_crash_loaded
# A restored level has it already.
if [ "$loaded" != 1 ]; then
    root=/tmp/kdump/root
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/usr/sbin"
    cp /usr/bin/busybox "$root/bin/"
    for name in grep head mount sed sh sleep stat strings tail; do
        ln -s busybox "$root/bin/$name"
    done
    reader=/usr/sbin/vmcore-dmesg
    cp "$reader" "$root$reader"
    # The program's loader prints `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
    LD_TRACE_LOADED_OBJECTS=1 "$reader" | while read -r name _ path _; do
        case $name in /*) path=$name ;; esac
        case $path in /*)
            mkdir -p "$root${path%/*}"
            cp "$path" "$root$path"
            ;;
        esac
    done
    cp /kdump/init.sh "$root/init"
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc 2> /dev/null) > /tmp/kdump/initramfs
    # Without `quiet`, its console shows how far it comes. It has no devices of the harness, and waits if it panics.
    line=
    read -r given < /proc/cmdline
    for word in $given; do
        case $word in
        crashkernel=* | nest.* | quiet) ;;
        *) line="$line $word" ;;
        esac
    done
    kexec -p /kdump/kernel --initrd=/tmp/kdump/initramfs --command-line="${line# } panic=0 $*"
    echo "kexec=$?"
    rm -r /tmp/kdump
    read -r loaded < /sys/kernel/kexec_crash_loaded
fi
echo "loaded=$loaded"

#!/.nestmatrix/bin/sh
# The first process of an innermost level that boots a guest of the user. It reports as an innermost level does, and then becomes the
# first process of the guest if the harness names that (nest.init). Otherwise the level powers off.
path=$PATH
PATH=/.nestmatrix/bin
mkdir -p /dev /proc /sys
# Without this file the kernel had no console for its first process.
[ -c /dev/console ] || { mount -t devtmpfs devtmpfs /dev && exec < /dev/console > /dev/console 2>&1; }
# The init of the image reports. The last thing that it does is to power off, which is left out.
(
    poweroff() { exit; }
    . /.nestmatrix/report
)
init=
read -r line < /proc/cmdline
for word in $line; do
    case $word in nest.init=*) init=${word#nest.init=} ;; esac
done
if [ -z "$init" ]; then
    # The kernel waits for the console's last bytes only when its last user closes it.
    exec < /dev/null > /dev/null 2>&1
    poweroff -f
fi
[ -x "$init" ] || echo "nestmatrix: the initramfs of the guest has no program $init"
# A mount may be there twice. Files that are open do not keep it.
for folder in /dev /proc /sys; do
    while umount -l $folder 2> /.nestmatrix/said; do :; done
done
rm -rf /.nestmatrix
PATH=$path
exec "$init" "$@"

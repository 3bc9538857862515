#!/bin/sh
# Prepares the system of a disk to be a level. cloud-init runs it as root at the first boot, from the volume CIDATA. It reports on the
# console, disables cloud-init, and powers off. What it changed stays in the overlay that the disk was booted with.
#
# prepare.env on the same volume sets:
#   NEST_COMMAND_CHANNEL  agent or console: how commands will run in the level
#   NEST_PACKAGES         names of packages to install from the volume NESTPKGS, separated by spaces
#   NEST_QEMU             path of the QEMU that will launch guests; empty for a level without guests
#   NEST_QEMU_OPTIONAL    not empty if the level may be without QEMU
#   NEST_KVM_MODULES      modules to load at boot if the CPU supports them, such as "kvm_amd kvm_intel"
#
# It prints lines `progress=`, `change=`, `system=`, `version=`, `kernel=`, `qemu=` and `error=` between `nestmatrix-prepare-begin` and
# `nestmatrix-prepare-end STATUS`.
#
# It must run with dash and bash, with cloud-init and systemd of Debian 12 and RHEL 8 or newer, and without network.

export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
seed=${0%/*}
work=/run/nestmatrix
home=/usr/local/lib/nestmatrix
log=$work/log
agent_port=org.qemu.guest_agent.0

mkdir -p $work
: > $log
: > $work/step

# The first serial line, which the machine records. Disks without console=ttyS0 have their console on the display.
case $(uname -m) in
aarch64) serial=ttyAMA0 ;;
ppc64*) serial=hvc0 ;;
s390x) serial=ttysclp0 ;;
*) serial=ttyS0 ;;
esac
read -r active < /sys/class/tty/console/active
consoles=/dev/console
if [ "${active##* }" != $serial ] && [ -c /dev/$serial ]; then
    # Otherwise, opening it waits for a modem.
    stty -F /dev/$serial clocal 2> /dev/null
    consoles="$consoles /dev/$serial"
fi

# Prints a line on the consoles. It begins with a line end, since other output may not end with one.
say() {
    said=$(printf %s "$*" | tr -c '[:print:]' ' ' | cut -c 1-240)
    for console in $consoles; do
        printf '\n%s\n' "$said" > "$console"
    done 2> /dev/null
    printf '%s\n' "$said" >> $log
}

step() {
    echo "$*" > $work/step
    say "progress=$*"
}

changed() {
    say "change=$*"
}

fail() {
    say "error=$*"
    exit 1
}

# Runs a command whose output matters only if it fails. Then its last lines are reported.
attempt() {
    "$@" > $work/output 2>&1 < /dev/null
    status=$?
    cat $work/output >> $log
    [ $status -eq 0 ] || explain
    return $status
}

explain() {
    grep . $work/output | tail -n 5 | while IFS= read -r line; do say "error=$line"; done
}

# A step can take minutes on emulated metal. These lines show that it has not stopped.
heartbeat() {
    seconds=0
    while sleep 10; do
        seconds=$((seconds + 10))
        read -r running < $work/step
        say "progress=$running ($seconds s since the start)"
    done
}

finish() {
    status=$?
    kill "$beating" 2> /dev/null
    # A copy of the log stays on the disk, for a user who looks for a mistake. A full disk gets none.
    cp $log /var/log/nestmatrix-prepare.log 2> /dev/null
    sync
    say "nestmatrix-prepare-end $status"
    # Services are not stopped in order, which takes long, but file systems are unmounted.
    systemctl poweroff --force
    # cloud-init must not continue.
    sleep 600
}

# Writes a file from standard input, which must not be a pipe: `fail` would end only its own end of that. Security contexts of new files depend on who writes them, so they are corrected.
put() {
    mkdir -p "${1%/*}" && cat > "$1" || fail "cannot write $1"
    if command -v restorecon > /dev/null; then restorecon -F "${1%/*}" "$1" 2>> $log; fi
    changed "wrote $1"
}

has_unit() {
    for folder in /etc/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
        [ ! -e $folder/"$1" ] || return 0
    done
    return 1
}

# cloud-init may run this before all file systems are mounted. A kernel's package needs /boot.
wait_for_file_systems() {
    tries=0
    until systemctl --quiet is-active local-fs.target || [ $tries -eq 60 ]; do
        tries=$((tries + 1))
        sleep 0.5
    done
}

mount_packages() {
    packages=$work/packages
    mkdir -p $packages
    tries=0
    until mount -o ro -L NESTPKGS $packages 2> $work/output; do
        tries=$((tries + 1))
        if [ $tries -eq 20 ]; then
            explain
            fail "cannot mount the volume NESTPKGS, which has the packages"
        fi
        sleep 1
    done
}

install_packages() {
    [ -n "$NEST_PACKAGES" ] || return 0
    step "mounting the packages"
    mount_packages
    step "reading the packages"
    if ls $packages/*.deb > /dev/null 2>&1; then
        list_installed=list_debs install=install_debs
    elif ls $packages/*.rpm > /dev/null 2>&1; then
        list_installed=list_rpms install=install_rpms
    else
        fail "the volume NESTPKGS has no packages"
    fi
    $list_installed > $work/before || fail "cannot list the installed packages"
    $install
    $list_installed > $work/after || fail "cannot list the installed packages"
    # Lines of the second list alone.
    grep -vxFf $work/before $work/after > $work/new
    while read -r package; do changed "installed $package"; done < $work/new
    umount $packages
}

list_debs() {
    dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p'
}

# Makes an archive of the packages, so that apt resolves: it installs what is missing, in the right order, and nothing else.
install_debs() {
    archive=$work/archive
    mkdir -p $archive $work/apt/lists/partial $work/apt/cache/archives/partial
    number=0
    for deb in $packages/*.deb; do
        # apt would decode %3a in a name.
        number=$((number + 1))
        ln -sf "$deb" $archive/$number.deb
        size=$(wc -c < "$deb")
        digest=$(sha256sum < "$deb")
        dpkg-deb --field "$deb" 2> $work/output || { explain; fail "cannot read the package ${deb##*/}"; }
        printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' $number "$size" "${digest%% *}"
    done > $archive/Packages
    echo "deb [trusted=yes] file:$archive ./" > $work/apt/sources.list
    # The system's own sources need a network. Nothing has to survive a crash, since the overlay is dropped then.
    cat > $work/apt/apt.conf << 'END'
Dir::Etc::sourcelist "/run/nestmatrix/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "/run/nestmatrix/apt/lists";
Dir::Cache "/run/nestmatrix/apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Dpkg::Options { "--force-confdef"; "--force-confold"; "--force-unsafe-io"; };
END
    export APT_CONFIG=$work/apt/apt.conf DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    attempt apt-get --quiet update || fail "cannot read the list of packages"
    # A service that starts now would wait for those that this script holds up.
    policy=/usr/sbin/policy-rc.d
    [ ! -e $policy ] || mv $policy $work/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    # shellcheck disable=SC2086 # names of packages, separated by spaces
    { apt-get --quiet --assume-yes --no-remove install $NEST_PACKAGES < /dev/null 2>&1; echo "status $?"; } |
        tee $work/output | while read -r line; do
            case $line in "Unpacking "* | "Setting up "*) step "${line%% (*}" ;; esac
        done
    rm -f $policy
    [ ! -e $work/policy-rc.d ] || mv $work/policy-rc.d $policy
    cat $work/output >> $log
    tail -n 1 $work/output | grep -qx "status 0" || { explain; fail "cannot install the packages"; }
}

list_rpms() {
    rpm --query --all --queryformat '%{NAME} %{EVR}.%{ARCH}\n' | sort
}

# Whether a version of RPM (epoch, version and release as three words) is older than another.
older_rpm() {
    [ "$1" -eq "$4" ] || { [ "$1" -lt "$4" ]; return; }
    compared=$(rpm --eval "%{lua: local v = rpm.vercmp('$2', '$5'); if v == 0 then v = rpm.vercmp('$3', '$6') end; print(v)}")
    [ "$compared" -lt 0 ]
}

# Installs the packages that are missing or older. dnf would also replace a newer one.
install_rpms() {
    format='%{NAME} %{EPOCHNUM} %{VERSION} %{RELEASE}'
    : > $work/install
    for file in $packages/*.rpm; do
        rpm --query --package --nosignature --queryformat "$format\n" "$file" > $work/package 2> $work/output ||
            { explain; fail "cannot read the package ${file##*/}"; }
        read -r name epoch version release < $work/package
        # The newest one, since several kernels may be installed.
        if installed=$(rpm --query --queryformat "$format\n" "$name" 2> /dev/null); then
            # shellcheck disable=SC2046 # three words
            older_rpm $(echo "$installed" | tail -n 1 | cut -d ' ' -f 2-) "$epoch" "$version" "$release" || continue
        fi
        echo "$file" >> $work/install
    done
    [ -s $work/install ] || return 0
    step "installing packages"
    # Without repositories and plugins, which need a network. The host has verified the signatures.
    set -- dnf --assumeyes --disablerepo='*' --disableplugin='*' --nogpgcheck --setopt=install_weak_deps=False install
    command -v dnf > /dev/null || set -- rpm --upgrade --nosignature
    while read -r file; do set -- "$@" "$file"; done < $work/install
    attempt "$@" || fail "cannot install the packages"
}

# Distributions forbid commands in different files (RHEL 8: BLACKLIST_RPC, RHEL 9: FILTER_RPC_ARGS, newer: QEMU_GA_ARGS, each in
# /etc/sysconfig/qemu-ga; all: /etc/qemu/qemu-ga.conf), and a package's update may restore them. So the service gets another command
# line and another file with settings.
allow_agent() {
    step "allowing commands of the guest agent"
    program=$(command -v qemu-ga) || fail "the guest agent is missing: there is no program qemu-ga"
    has_unit qemu-guest-agent.service || fail "the guest agent has no service qemu-guest-agent.service"
    put /etc/nestmatrix/qemu-ga.conf << END
[general]
method=virtio-serial
path=/dev/virtio-ports/$agent_port
END
    put /etc/systemd/system/qemu-guest-agent.service.d/nestmatrix.conf << END
# Allows all commands of the guest agent. nestmatrix wrote this.
[Service]
Environment=QGA_CONF=/etc/nestmatrix/qemu-ga.conf
ExecStart=
ExecStart=$program
END
    # The service starts when its port appears, also if it was disabled.
    put /etc/udev/rules.d/99-nestmatrix-agent.rules << END
SUBSYSTEM=="virtio-ports", ATTR{name}=="$agent_port", SYMLINK+="virtio-ports/$agent_port", TAG+="systemd", ENV{SYSTEMD_WANTS}+="qemu-guest-agent.service"
END
    if [ "$(readlink /etc/systemd/system/qemu-guest-agent.service)" = /dev/null ]; then
        systemctl --no-reload unmask qemu-guest-agent.service 2>> $log
        changed "unmasked qemu-guest-agent.service"
    fi
    # SELinux confines the agent to its own files. Only the agent is freed.
    if command -v selinuxenabled > /dev/null && selinuxenabled; then
        step "lifting SELinux' confinement of the guest agent"
        echo '(typepermissive virt_qemu_ga_t)' > $work/nestmatrix_agent.cil
        attempt semodule --install=$work/nestmatrix_agent.cil || fail "cannot change SELinux' policy"
        changed "SELinux does not confine the guest agent (module nestmatrix_agent)"
    fi
}

# A shell as root on the first serial line, instead of a login.
serve_on_console() {
    step "setting up the shell on the console"
    put $home/shell.sh < "$seed/shell.sh"
    put $home/console.sh << 'END'
# Runs commands that come on the first serial line.
read -r line < /proc/cmdline
. /usr/local/lib/nestmatrix/shell.sh
serve_console
END
    put /etc/systemd/system/nestmatrix-console.service << END
[Unit]
Description=Commands on the console
Conflicts=serial-getty@$serial.service
# Messages about services that start would stand between the answers.
After=multi-user.target
[Service]
Type=idle
ExecStart=/bin/sh $home/console.sh
# On another terminal, systemd asks for the size of the window, and waits for the answer.
Environment=HOME=/root TERM=dumb
WorkingDirectory=/root
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/$serial
# A process that a command leaves behind continues.
KillMode=process
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
END
    attempt systemctl --no-reload enable nestmatrix-console.service || fail "cannot enable nestmatrix-console.service"
    attempt systemctl --no-reload mask serial-getty@$serial.service || fail "cannot mask serial-getty@$serial.service"
    changed "masked serial-getty@$serial.service"
    # Only errors: other messages of the kernel would stand in the middle of answers.
    put /etc/sysctl.d/99-nestmatrix.conf << 'END'
kernel.printk = 4 4 1 7
END
}

# Modules of a hypervisor. Their options stay as the distribution has them.
load_modules() {
    step "setting up modules"
    put /etc/modules-load.d/nestmatrix.conf << 'END'
virtio_console
END
    if [ -n "$NEST_KVM_MODULES" ]; then
        put $home/load-kvm.sh << 'END'
# Loads the modules that its arguments name, as far as the CPU supports them.
for module; do
    case $module in
    kvm_amd) feature=svm ;;
    kvm_intel) feature=vmx ;;
    *) feature= ;;
    esac
    if [ -z "$feature" ] || grep -qw "$feature" /proc/cpuinfo; then modprobe "$module"; fi
done
END
        # Before the agent answers, so that a level that answers can host.
        put /etc/systemd/system/nestmatrix-kvm.service << END
[Unit]
Description=Modules of KVM
DefaultDependencies=no
After=systemd-modules-load.service
Before=sysinit.target qemu-guest-agent.service
[Service]
Type=oneshot
ExecStart=-/bin/sh $home/load-kvm.sh $NEST_KVM_MODULES
[Install]
WantedBy=sysinit.target
END
        attempt systemctl --no-reload enable nestmatrix-kvm.service || fail "cannot enable nestmatrix-kvm.service"
    fi
    # Evidence is read from it. systemd mounts it in all distributions that were seen.
    if ! has_unit sys-kernel-debug.mount && ! grep -q '[[:space:]]/sys/kernel/debug[[:space:]]' /etc/fstab; then
        echo 'debugfs /sys/kernel/debug debugfs nofail 0 0' >> /etc/fstab || fail "cannot write /etc/fstab"
        changed "/etc/fstab mounts debugfs"
    fi
}

# What only takes time in a level: a level runs for minutes, has no network, and no user logs in.
mask_units() {
    step "masking units"
    present=
    for unit in \
        apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service man-db.timer dpkg-db-backup.timer e2scrub_all.timer \
        e2scrub_reap.service fstrim.timer logrotate.timer exim4-base.timer motd-news.timer ua-timer.timer update-notifier-download.timer \
        update-notifier-motd.timer fwupd-refresh.timer pollinate.service snapd.service snapd.socket snapd.seeded.service \
        dnf-makecache.timer dnf-automatic.timer dnf-automatic-install.timer man-db-cache-update.service unbound-anchor.timer \
        insights-client.timer insights-client-boot.service insights-client-results.path rhsmcertd.service rhcd.service kdump.service \
        mlocate-updatedb.timer plocate-updatedb.timer packagekit.service \
        NetworkManager-wait-online.service systemd-networkd-wait-online.service ifupdown-wait-online.service; do
        if has_unit $unit && [ ! -e /etc/systemd/system/$unit ]; then present="$present $unit"; fi
    done
    # shellcheck disable=SC2086 # names of units, separated by spaces
    [ -z "$present" ] || attempt systemctl --no-reload mask $present || fail "cannot mask units"
    for unit in $present; do changed "masked $unit"; done
}

# The release of the kernel that the boot loader starts next.
next_kernel() {
    next=
    if command -v grubby > /dev/null; then next=$(grubby --default-kernel 2>> $log); fi
    for link in /vmlinuz /boot/vmlinuz; do
        [ -n "$next" ] || next=$(readlink $link)
    done
    case $next in
    */vmlinu[xz]-* | vmlinu[xz]-*) echo "${next##*vmlinu[xz]-}" ;;
    *) uname -r ;;
    esac
}

heartbeat &
beating=$!
trap finish EXIT
# Messages of the kernel and of systemd would stand between these lines.
echo 1 > /proc/sys/kernel/printk
# SIGRTMIN+21, which dash does not know by name.
kill -55 1
say nestmatrix-prepare-begin
# shellcheck disable=SC1091 # it is made for each disk
. "$seed/prepare.env" || fail "cannot read prepare.env"
say "system=$(. /etc/os-release && echo "$ID")"
say "version=$(. /etc/os-release && echo "$VERSION_ID")"
step "waiting for file systems"
wait_for_file_systems
install_packages
case $NEST_COMMAND_CHANNEL in
agent) allow_agent ;;
console) serve_on_console ;;
*) fail "NEST_COMMAND_CHANNEL is neither agent nor console" ;;
esac
load_modules
mask_units
step "disabling cloud-init"
put /etc/cloud/cloud-init.disabled < /dev/null
version=
if [ -n "$NEST_QEMU" ]; then
    step "asking for QEMU's version"
    version=$("$NEST_QEMU" --version 2>> $log | head -n 1)
    [ -n "$version" ] || [ -n "$NEST_QEMU_OPTIONAL" ] || fail "there is no QEMU: $NEST_QEMU does not run"
fi
say "kernel=$(next_kernel)"
say "qemu=$version"

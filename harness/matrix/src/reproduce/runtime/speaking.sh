# --- Talking to levels and their QEMUs

# to CHANNEL: writes standard input to it. A write to a FIFO without a reader would wait forever.
to() {
    timeout 10 sh -c 'cat > "$1"' sh "$1.in" 4>&-
}

# ask LEVEL: types the script on standard input at the shell on the level's console, as one line with line ends written as `\n`,
# in pieces that a terminal accepts. Sets $status to its exit status and $answer to its output.
ask() {
    id=$((id + 1))
    console=$logs/$1.console.log
    sed -e 's/\\/\\\\/g' -e 's/$/\\n/' | tr -d '\n' | fold -b -w "$piece_length" > pieces
    echo >> pieces
    while IFS= read -r piece; do
        piece_number=$((piece_number + 1))
        tries=0
        until [ "$tries" -gt 0 ] && await "$console" "nestmatrix-answer-more ${piece_number}[^0-9]*\$" 20; do
            # A lost piece is typed again; an accepted piece is not accepted twice.
            tries=$((tries + 1))
            printf '%s+%s:%s:%s.\n' "$typed_behind" "$piece_number" "$id" "$piece" | to "$1.console"
        done
    done < pieces
    printf '%s%s\n' "$typed_behind" "$id" | to "$1.console"
    await "$console" "nestmatrix-answer-end $id [0-9]"
    status=$(text "$console" | sed -n "s/.*nestmatrix-answer-end $id \([0-9]*\).*/\1/p" | head -n 1)
    answer=$(text "$console" | sed -n "/nestmatrix-answer-begin $id\$/,/nestmatrix-answer-end $id /p" |
        sed -e '1d' -e '/^\/(/d' -e "s/nestmatrix-answer-end $id .*//" | plain)
    # A slow console breaks its lines.
    [ -z "$typed_behind" ] || answer=$(say "$answer" | sed -e :more -e '/\\$/N' -e 's/\\\n//' -e 't more')
}

# qmp LEVEL COMMAND [ARGUMENTS]: asks the QEMU that runs a level. Sets $reply to the reply.
qmp() {
    id=$((id + 1))
    printf '{"execute": "%s", "id": %s%s}\n' "$2" "$id" "${3:+, \"arguments\": $3}" | to "$1.qmp"
    await "$logs/$1.qmp.log" "\"id\": ${id}[,}]"
    reply=$(text "$logs/$1.qmp.log" | grep -e "\"id\": ${id}[,}]")
}

monitor() {
    await "$logs/$1.qmp.log" '"QMP"'
    qmp "$1" qmp_capabilities
}

# launch HOST LEVEL: starts a QEMU in HOST with the command on standard input. Its output goes to the console of HOST.
launch() {
    host=$1
    {
        say "nonce=$nonce"
        bring_files "$2"
        say '{'
        cat
        say "echo \$! > /run/nest/$2.pid"
        say 'wait $!'
        say 'echo nestmatrix-ended $?'
        say "} 2>&1 < /dev/null | while IFS= read -r said; do echo \"qemu-$2| \$said\"; done &"
    } > launched
    up="$up $2"
    ask "$host" < launched
    [ "$status" = 0 ] || stopped "$2: QEMU could not be started" "$2's QEMU could not be started in $host: $answer"
    monitor "$2"
}

must_run_with_kvm() {
    qmp "$1" query-kvm
    case $reply in
    *'"enabled": true'*) ;;
    *) stopped "$1: not run with KVM" "$1's QEMU does not run it with KVM ($reply)" ;;
    esac
}

# must_have_property LEVEL NAME: a property of its machine.
must_have_property() {
    qmp "$1" qom-get "{\"path\": \"/machine\", \"property\": \"$2\"}"
    case $reply in
    *'"return": true'*) ;;
    *) stopped "missing machine property: $2" "missing machine property: $2" ;;
    esac
}

# must_have_feature LEVEL NAME MODEL: a feature of its CPU, which QEMU omits with a warning if it is not available.
must_have_feature() {
    qmp "$1" query-cpus-fast
    cpu=$(say "$reply" | sed 's/.*"qom-path": "\([^"]*\)".*/\1/')
    qmp "$1" qom-get "{\"path\": \"$cpu\", \"property\": \"$2\"}"
    given=$reply
    qmp "$1" qom-get "{\"path\": \"$cpu\", \"property\": \"unavailable-features\"}"
    case $given-$reply in
    *'"return": true'*-*"\"$2\""*) ;;
    *'"return": true'*-*) return 0 ;;
    esac
    stopped "missing CPU feature: $2" "missing CPU feature: $2 (model $3)"
}

# must_have_cpus LEVEL NUMBER
must_have_cpus() {
    qmp "$1" query-cpus-fast
    given=$(say "$reply" | sed 's/"cpu-index"/\
&/g' | grep -c '^"cpu-index"')
    [ "$given" = "$2" ] || stopped "$1: another number of CPUs" "$1 has $given CPUs instead of $2"
}

# must_not_have_feature LEVEL NAME: a feature of its CPU that is switched off.
must_not_have_feature() {
    qmp "$1" query-cpus-fast
    cpu=$(say "$reply" | sed 's/.*"qom-path": "\([^"]*\)".*/\1/')
    qmp "$1" qom-get "{\"path\": \"$cpu\", \"property\": \"$2\"}"
    case $reply in
    *'"return": false'*) ;;
    *) stopped "CPU feature is on: $2" "CPU feature $2 is on, it was switched off" ;;
    esac
}

# must_have_device LEVEL NAME: a device that the scenario gives to it.
must_have_device() {
    qmp "$1" qom-get "{\"path\": \"/machine/peripheral/nest-$2\", \"property\": \"realized\"}"
    case $reply in
    *'"return": true'*) ;;
    *) stopped "missing device: $2" "device $2 of $1 is missing" ;;
    esac
}

# take_commands LEVEL: waits for the shell on its console. `quiet` decides which messages of its kernel are shown.
take_commands() {
    await "$logs/$1.console.log" nestmatrix-shell-ready
    hosts="$hosts $1"
}

# must_host LEVEL MODULE: whether it can be a hypervisor.
must_host() {
    ask "$1" << END
dmesg -n 4
[ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ -d /sys/module/$2 ] && echo usable
cat /sys/module/$2/parameters/nested 2> /dev/null
true
END
    case $answer in
    usable*) say "  $1: $2 has nested=$(say "$answer" | sed -n 2p)" ;;
    *) stopped "$1: no usable /dev/kvm" "$1 has no usable /dev/kvm" ;;
    esac
}

# must_host_here MODULE: the same for this machine.
must_host_here() {
    if [ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ -d "/sys/module/$1" ]; then return 0; fi
    cannot "this machine has no KVM that can be used: /dev/kvm must be there, be yours to read and write, and $1 be loaded"
}

# must_report LEVEL HYPERVISOR: its report must be of this boot, and its hypervisor must be KVM.
must_report() {
    await "$logs/$1.console.log" nestmatrix-report-end
    text "$logs/$1.console.log" | sed -n '/nestmatrix-report-begin/,/nestmatrix-report-end/p' > report
    given=$(sed -n 's/^nonce=//p' report | plain)
    hypervisor=$(sed -n 's/^hypervisor=//p' report | plain)
    told="$1 reported kernel $(sed -n 's/^kernel=//p' report | plain), hypervisor $hypervisor, nonce $given"
    reported="$given-$hypervisor" wanted_report="$nonce-$2" reporter=$1 check=$stage
}

# must_work LEVEL TEXT: waits until the user's guest in it prints this. From then on it may power off.
must_work() {
    # What it prints before its report is its kernel's, or the report itself.
    after=nestmatrix-report-end
    await "$logs/$1.console.log" "$(printf '%s' "$2" | sed 's/[][\\.*^$]/\\&/g')"
    after=
    may_shut_down=$1
}

# Judged at the end, when all steps are done.
weigh_report() {
    stage=$check
    case $reported in
    "$wanted_report") ;;
    "$nonce-"*) stopped "another hypervisor" "$reporter says that its hypervisor is $hypervisor" ;;
    *) stopped "another nonce" "$reporter gave back nonce $given, it was started with $nonce" ;;
    esac
}

# must_give_back LEVEL: the same for a host without guests.
must_give_back() {
    ask "$1" << END
cat /proc/cmdline
END
    case $answer in
    *"nest.nonce=$nonce"*) told="$1 gave back nonce $nonce" ;;
    *) stopped "another nonce" "$1 does not give back nonce $nonce" ;;
    esac
}

# step LEVEL FAILS OUTPUT: a command of the scenario, on standard input, and its expected result. FAILS is yes, no, or the exit
# status that it must have.
step() {
    ask "$1"
    case $status in
    126 | 127) cannot "a program of $stage was not found in $1: $answer" ;;
    129 | 1[3-8]? | 19[0-2]) cannot "a signal ended a command of $stage in $1: $answer" ;;
    esac
    ended=$status
    case $2 in
    yes)
        should="should fail"
        [ "$status" = 0 ] || ended=yes
        ;;
    no)
        should="should not fail"
        [ "$status" != 0 ] || ended=no
        ;;
    *) should="should exit with $2" ;;
    esac
    [ "$ended" = "$2" ] ||
        stopped "another exit status" "$stage on $1: it exited with status $status, it $should; it printed $answer"
    case $answer in
    *"$3"*) ;;
    *) stopped "another output" "$stage on $1: it printed $answer" ;;
    esac
}

# reboot LEVEL MODULE: resets it from outside, since a reset by a guest was seen to hang an emulator's firmware. Afterwards it
# must be able to host again.
reboot() {
    # A guest that reboots by itself has given up, so each QEMU must not allow that.
    qmp "$1" set-action '{"reboot": "reset"}'
    echo sync | ask "$1"
    ready=$(text "$logs/$1.console.log" | grep -c nestmatrix-shell-ready)
    qmp "$1" system_reset
    until [ "$(text "$logs/$1.console.log" | grep -c nestmatrix-shell-ready)" -gt "$ready" ]; do
        sleep 1
        look
    done
    qmp "$1" set-action '{"reboot": "shutdown"}'
    must_host "$1" "$2"
}


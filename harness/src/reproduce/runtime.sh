# ---------------------------------------------------------------------------------------------------------------------
# What follows is the same in every such script. Nothing of it runs in a level but what is typed at a console.

usage() {
    say "usage: sh reproduce.sh [-v]"
    say "  -v  show what the levels and their QEMUs say as it comes; it is in files in any case"
    say "  The comments at the top of this script tell what it boots, and the variables that change that."
}

say() {
    printf '%s\n' "$*"
}

# Text of a level, with what a terminal would obey taken out.
plain() {
    tr -d '\000-\010\013-\037\177'
}

cannot() {
    say "can't run: $*" >&2
    exit 2
}

# A path of the user's, whatever folder this script works in.
absolute() {
    case $1 in
    "" | /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$called_in" "$1" ;;
    esac
}

main() {
    verbose=
    for option in "$@"; do
        case $option in
        -v) verbose=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            exit 2
            ;;
        esac
    done
    for program in awk cat cp cut date dd fold grep head kill ln mkdir mkfifo mktemp od rm sed sha256sum sleep tail timeout tr wc; do
        command -v "$program" > /dev/null 2>&1 || cannot "there is no $program in PATH"
    done
    [ -z "$impossible" ] || cannot "$impossible"
    called_in=$(pwd)
    here=$(cd "$(dirname "$0")" && pwd) || cannot "the folder of this script can't be entered"
    cache=${NESTMATRIX_CACHE:-}
    [ -n "$cache" ] || [ -z "${XDG_CACHE_HOME:-}" ] || cache=$XDG_CACHE_HOME/nestmatrix
    [ -n "$cache" ] || [ -z "${HOME:-}" ] || cache=$HOME/.cache/nestmatrix
    cache=$(absolute "$cache")
    scale=${TIMEOUT_SCALE:-1}
    case $scale in "" | *[!0-9]* | 0) cannot "TIMEOUT_SCALE=$scale is no whole number from 1" ;; esac
    work=$(mktemp -d "${TMPDIR:-/tmp}/nestmatrix-reproduce.XXXXXX") || cannot "no temporary folder can be made"
    keeper=
    trap 'end' EXIT
    trap 'say interrupted; exit 130' INT
    trap 'exit 129' HUP
    trap 'exit 143' TERM
    cd "$work" || cannot "$work can't be entered"

    say "$cell"
    images
    number=1
    logs=$called_in/reproduced
    while ! mkdir "$logs" 2> /dev/null; do
        [ -e "$logs" ] || cannot "the folder $logs can't be made"
        number=$((number + 1))
        logs=$called_in/reproduced-$number
    done
    nonce=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    started=$(date +%s)
    up= hosts= decided= id=0 piece_number=0 shown_at=0 last_sign=$started last_size=0 busy_since=$started used_then=0
    say "consoles and QMP go to $logs"
    stack
    works
}

# Ends all that was started. The keeper does so itself once this process is gone, whatever ended it.
end() {
    code=$?
    trap '' HUP INT TERM
    if [ -n "$keeper" ]; then
        exec 4>&-
        wait "$keeper"
    fi
    cd /
    rm -rf "$work"
    exit "$code"
}

# --- Images

# find_image NAME DIGEST: its folder comes to $image, empty if there is none. A damaged one is an end.
find_image() {
    image=
    for place in "$here/images/$1" "${cache:-/nonexistent}/images/$2"; do
        [ -e "$place/image.toml" ] || continue
        image=$place
        break
    done
    [ -n "$image" ] || return 0
    # Its record has the SHA-256 of each file. A disk of kernel and initramfs together is not needed here.
    awk -F '"' '/^path = / { path = $2 }
        /^sha256 = / { if (path != "" && path != "disk") print $2 "  " path; path = "" }' "$image/image.toml" > files
    [ -s files ] || cannot "the image $image is damaged: its image.toml names no files"
    (cd "$image" && sha256sum -c -) < files > checked 2>&1 || {
        bad=$(grep -v ': OK$' checked | head -n 1 | plain)
        cannot "the image $image is damaged: $bad"
    }
}

# level_image LEVEL NAME DIGEST KERNEL INITRAMFS: links the level's kernel and initramfs, or those that are given in their place.
level_image() {
    kernel=$(absolute "$4") initramfs=$(absolute "$5")
    if [ -z "$kernel" ] || [ -z "$initramfs" ]; then
        find_image "$2" "$3"
        if [ -z "$image" ]; then
            say "There is no image $2 in $here/images, nor $3 in ${cache:-a cache folder, since HOME is not set,}/images." >&2
            say "A bundle of this cell has it (cargo xtask repro CELL --bundle). nestmatrix builds the newest one" >&2
            say "of this kind from Debian's packages: cargo xtask images build ${2%-*}" >&2
            cannot "the image $2 is missing"
        fi
    fi
    link "$1-kernel" "${kernel:-$image/vmlinuz}"
    link "$1-initramfs" "${initramfs:-$image/initramfs.cpio}"
    [ -z "$4" ] || say "$1 boots the kernel $kernel"
    [ -z "$5" ] || say "$1 boots the initramfs $initramfs"
}

link() {
    [ -r "$2" ] && [ -f "$2" ] || cannot "there is no file $2 that can be read"
    ln -s "$2" "$1"
}

# emulator NAME DIGEST PROGRAM ISA: how PROGRAM is started. QEMU=... goes first, then the image, which has its own libraries.
emulator() {
    own= program=$3 emulator=
    case $program in qemu*) own=${QEMU:-} ;; esac
    case $own in
    */*) own=$(absolute "$own") ;;
    ?*) own=$(command -v "$own") || cannot "there is no QEMU=$QEMU in PATH" ;;
    esac
    if [ -n "$own" ]; then
        [ -x "$own" ] || cannot "QEMU=$own can't be run"
    else
        [ -z "$2" ] || [ "$(uname -m)" != "$4" ] || find_image "$1" "$2"
        emulator=${image:-}
        [ -n "$emulator" ] || own=$(command -v "$program") ||
            cannot "there is no $program in PATH, and no image of it in $here/images (a bundle of the cell has it)" \
                "or ${cache:-a cache folder, since HOME is not set,}/images; a QEMU can be named by QEMU=..."
    fi
    say "the outermost level runs on ${own:-$emulator/tree/programs/$program}"
}

run_emulator() {
    if [ "$program" = hercules ]; then
        HERCULES_RC=hercules.rc
        export HERCULES_RC
        [ -n "$own" ] || set -- -p "$emulator/tree/modules" "$@"
        # Opened both ways, since it would be waited for whoever writes to it.
        exec 0<> "$first.console.in" > "$logs/$first.console.log" 2> "$logs/$first.hercules.err"
    fi
    [ -z "$own" ] || exec "$own" "$@"
    tree=$emulator/tree
    libraries=$tree/libraries
    [ ! -d "$tree/modules" ] || libraries=$libraries:$tree/modules
    case $program in qemu*) set -- -L "$tree/data" "$@" ;; esac
    exec "$tree/ld.so" --library-path "$libraries" --argv0 "$program" "$tree/programs/$program" "$@"
}

# --- The outermost level, and what ends it

# outermost LEVEL ARGUMENTS...: starts the emulator, with two FIFOs for each channel.
outermost() {
    first=$1
    shift
    for channel in $channels; do
        mkfifo "$channel.in" "$channel.out" || cannot "FIFOs can't be made in $work"
        : > "$logs/$channel.log"
    done
    mkfifo life
    # Held open for as long as this process lives, and by nobody else for longer than a moment.
    exec 4<> life
    # The shell's own word on what was killed is of no use to anybody.
    keep "$@" 2> /dev/null &
    keeper=$!
    up=$first
}

# hercules_files LEVEL PARAMETERS ADDRESS: what Hercules loads besides its kernel: as files that are no links, and with the place
# and the size of the initramfs as numbers of 8 bytes.
hercules_files() {
    cp "$1-kernel" kernel && cp "$1-initramfs" initramfs || cannot "$work can't be written"
    printf '%s\000' "$2" > parameters
    eight_bytes "$3" > at
    eight_bytes "$(wc -c < initramfs)" > size
    echo "ipl l0.ins" > hercules.rc
}

eight_bytes() {
    for shift in 56 48 40 32 24 16 8 0; do
        # shellcheck disable=SC2059
        printf "\\$(printf %03o $((($1 >> shift) & 255)))"
    done
}

# Starts the emulator, and ends it once nobody holds `life` open any more: also where this script was killed.
keep() {
    trap '' HUP INT TERM
    trap - EXIT
    exec 3< life 4>&-
    readers=
    for channel in $channels; do
        # Hercules, whose console is its own, opens one way of it alone.
        [ "$program" != hercules ] || break
        cat < "$channel.out" > "$logs/$channel.log" 2> /dev/null 3<&- &
        readers="$readers $!"
    done
    (run_emulator "$@") < /dev/null > "$logs/$first.qemu.log" 2>&1 3<&- &
    emulator_pid=$!
    echo "$emulator_pid" > emulator.pid
    {
        cat <&3
        [ -e emulator.ended ] || kill -9 "$emulator_pid"
    } > /dev/null 2>&1 &
    watcher=$!
    wait "$emulator_pid"
    echo $? > emulator.ended
    wait "$watcher"
    # shellcheck disable=SC2086
    kill -9 $readers 2> /dev/null
    cd /
    rm -rf "$work"
}

# --- Stages, waiting, trouble

# stage NAME SILENCE TOTAL: what is waited for from now on, and how long, in seconds.
stage() {
    stage=$1 silence=$(($2 * scale)) total=$(($3 * scale))
    now=$(date +%s)
    began=$now last_sign=$now
    say "[$((now - started)) s] $stage"
}

# await FILE PATTERN [LOOKS]: until a line of it matches, or for so many looks; trouble meanwhile ends the script.
await() {
    looks=0
    until grep -q -e "$2" -- "$1" 2> /dev/null; do
        looks=$((looks + 1))
        [ "$looks" -le "${3:-$looks}" ] || return 1
        # Not every sleep knows parts of a second.
        if [ "$looks" -gt 15 ] || ! sleep 0.2 2> /dev/null; then sleep 1; fi
        look
    done
    show
}

look() {
    now=$(date +%s)
    show
    [ -z "$decided" ] || return 0
    if trouble; then
        # What is the cause may be told a moment after its consequence.
        sleep 2
        show
        explain
    fi
    patience
}

# With -v, what is new on the consoles.
show() {
    [ -n "$verbose" ] || return 0
    for level in $up; do
        log=$logs/$level.console.log
        [ -e "shown.$level" ] || echo 0 > "shown.$level"
        before=$(cat "shown.$level")
        lines=$(wc -l < "$log")
        [ "$lines" -gt "$before" ] || continue
        tail -n "+$((before + 1))" "$log" | head -n "$((lines - before))" | plain | sed "s/^/$level| /"
        echo "$((lines))" > "shown.$level"
    done
}

trouble() {
    [ ! -e emulator.ended ] || return 0
    for level in $up; do
        [ -z "$(ended_in "$level")" ] && [ -z "$(fatal_line "$level")" ] && [ -z "$(event "$level")" ] || return 0
    done
    return 1
}

# How the QEMU of a level that runs in another one has ended, if it has.
ended_in() {
    outer=$(outer_of "$1")
    [ -n "$outer" ] || return 0
    sed -n "s/^qemu-$1| nestmatrix-ended \([0-9]*\).*/\1/p" "$logs/$outer.console.log"
}

outer_of() {
    before=
    for level_of in $up; do
        [ "$level_of" != "$1" ] || break
        before=$level_of
    done
    printf '%s' "$before"
}

# What QEMU says unasked of a level that will not go on.
event() {
    [ -e "$logs/$1.qmp.log" ] || return 0
    if [ "$1" = "$may_shut_down" ] && grep -q nestmatrix-report-end "$logs/$1.console.log"; then return 0; fi
    sed -n -e 's/.*"event": "\(SHUTDOWN\)".*/\1/p' -e 's/.*"event": "\(GUEST_PANICKED\)".*/\1/p' \
        -e 's/.*"event": "\(STOP\)".*/\1/p' "$logs/$1.qmp.log" | head -n 1
}

# The outermost QEMU that has ended goes before what a console said, and that before what a monitor said.
explain() {
    if [ -e emulator.ended ]; then
        said=$(grep . "$logs/$first.qemu.log" | tail -n 1 | plain)
        # A QEMU that does not know its options, or lacks its firmware, says nothing of the stack.
        [ "$stage" != "$first-launch" ] ||
            cannot "the QEMU that is to run $first ended with status $(cat emulator.ended)${said:+: $said}"
        stopped "$first: QEMU ended" "$first's QEMU ended with status $(cat emulator.ended)${said:+: $said}"
    fi
    for level in $up; do
        status=$(ended_in "$level")
        [ -n "$status" ] || continue
        said=$(grep "^qemu-$level| " "$logs/$(outer_of "$level").console.log" | grep -v nestmatrix-ended | tail -n 1 | plain)
        stopped "$level: QEMU ended" "$level's QEMU ended with status $status${said:+: ${said#*| }}"
    done
    for level in $up; do
        said=$(fatal_line "$level")
        [ -z "$said" ] || stopped "$level: $(fatal_name "$said")" "$level: $said"
    done
    for level in $up; do
        case $(event "$level") in
        SHUTDOWN) stopped "$level: shut down" "$level shut down before its work was done" ;;
        GUEST_PANICKED) stopped "$level: the guest panicked" "$level: the guest panicked (GUEST_PANICKED)" ;;
        STOP) stopped "$level: stopped by QEMU" "$level's QEMU stopped it" ;;
        esac
    done
}

# A stage is given up after its time, or before, where there is neither a word nor work.
patience() {
    size=$(cat "$logs"/*.log | wc -c)
    used=$(cpu_seconds)
    if [ "$size" != "$last_size" ]; then
        last_size=$size last_sign=$now
    fi
    # Looked at in spans of ten seconds.
    if [ $((now - busy_since)) -ge 10 ]; then
        if [ $(((used - used_then) * 10)) -ge $(((now - busy_since) * 4)) ]; then last_sign=$now; fi
        busy_since=$now used_then=$used
    fi
    if [ $((now - last_sign)) -gt "$silence" ]; then
        stopped "not done in time" "no progress for $((now - last_sign)) s"
    elif [ $((now - began)) -gt "$total" ]; then
        stopped "not done in time" "busy, but not done after $((now - began)) s"
    fi
}

# CPU time that the emulator has used, by Linux' /proc.
cpu_seconds() {
    pid=$(cat emulator.pid 2> /dev/null) || pid=none
    stat=$(cat "/proc/$pid/stat" 2> /dev/null) || stat=
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    echo $(((${12:-0} + ${13:-0}) / $(getconf CLK_TCK 2> /dev/null || echo 100)))
}

# --- What is said to levels and their QEMUs

# to CHANNEL: what is on standard input goes in. A FIFO that nobody reads any more would be waited for without end.
to() {
    timeout 10 sh -c 'cat > "$1"' sh "$1.in" 4>&-
}

# ask LEVEL: types the script on standard input at the shell on the level's console, as one line with line ends written as `\n`,
# and in pieces that a terminal takes. Its exit status comes to $status, what it printed to $answer.
ask() {
    id=$((id + 1))
    console=$logs/$1.console.log
    sed -e 's/\\/\\\\/g' -e 's/$/\\n/' | tr -d '\n' | fold -b -w "$piece_length" > pieces
    echo >> pieces
    while IFS= read -r piece; do
        piece_number=$((piece_number + 1))
        tries=0
        until [ "$tries" -gt 0 ] && await "$console" "nestmatrix-answer-more $piece_number[^0-9]*\$" 20; do
            # What was lost on its way is typed again; what was taken is not taken twice.
            tries=$((tries + 1))
            printf '%s+%s:%s:%s.\n' "$typed_behind" "$piece_number" "$id" "$piece" | to "$1.console"
        done
    done < pieces
    printf '%s%s\n' "$typed_behind" "$id" | to "$1.console"
    await "$console" "nestmatrix-answer-end $id [0-9]"
    status=$(sed -n "s/.*nestmatrix-answer-end $id \([0-9]*\).*/\1/p" "$console" | head -n 1)
    answer=$(tr -d '\r' < "$console" | sed -n "/nestmatrix-answer-begin $id\$/,/nestmatrix-answer-end $id /p" |
        sed -e '1d' -e '/^\/(/d' -e "s/nestmatrix-answer-end $id .*//" | plain)
    # A slow console breaks its lines.
    [ -z "$typed_behind" ] || answer=$(say "$answer" | sed -e :more -e '/\\$/N' -e 's/\\\n//' -e 't more')
}

# qmp LEVEL COMMAND [ARGUMENTS]: asks the QEMU that runs a level. The reply comes to $reply.
qmp() {
    id=$((id + 1))
    printf '{"execute": "%s", "id": %s%s}\n' "$2" "$id" "${3:+, \"arguments\": $3}" | to "$1.qmp"
    await "$logs/$1.qmp.log" "\"id\": $id[,}]"
    reply=$(grep -e "\"id\": $id[,}]" "$logs/$1.qmp.log" | tr -d '\r')
}

monitor() {
    await "$logs/$1.qmp.log" '"QMP"'
    qmp "$1" qmp_capabilities
}

# launch HOST LEVEL: starts a QEMU in HOST by the command on standard input. What it says comes on the console of HOST.
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

# must_have_feature LEVEL NAME MODEL: a feature of its CPU, which QEMU leaves out with a warning where it can't be given.
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

# take_commands LEVEL: waits for the shell on its console. Its kernel's messages are shown as `quiet` lets them be.
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

# must_host_here MODULE: the same of this machine.
must_host_here() {
    if [ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ] && [ -d "/sys/module/$1" ]; then return 0; fi
    cannot "this machine has no KVM that can be used: /dev/kvm must be there, be yours to read and write, and $1 be loaded"
}

# must_report LEVEL HYPERVISOR: what it gives back must be of this boot, and its hypervisor KVM.
must_report() {
    await "$logs/$1.console.log" nestmatrix-report-end
    tr -d '\r' < "$logs/$1.console.log" | sed -n '/nestmatrix-report-begin/,/nestmatrix-report-end/p' > report
    given=$(sed -n 's/^nonce=//p' report | plain)
    hypervisor=$(sed -n 's/^hypervisor=//p' report | plain)
    told="$1 reported kernel $(sed -n 's/^kernel=//p' report | plain), hypervisor $hypervisor, nonce $given"
    reported="$given-$hypervisor" wanted_report="$nonce-$2" reporter=$1 check=$stage
}

# Weighed at the end, when all steps are done.
weigh_report() {
    stage=$check
    case $reported in
    "$wanted_report") ;;
    "$nonce-"*) stopped "another hypervisor" "$reporter says that its hypervisor is $hypervisor" ;;
    *) stopped "another nonce" "$reporter gave back nonce $given, it was started with $nonce" ;;
    esac
}

# must_give_back LEVEL: the same of a host without guests.
must_give_back() {
    ask "$1" << END
cat /proc/cmdline
END
    case $answer in
    *"nest.nonce=$nonce"*) told="$1 gave back nonce $nonce" ;;
    *) stopped "another nonce" "$1 does not give back nonce $nonce" ;;
    esac
}

# step LEVEL FAILS OUTPUT: a command of the scenario's own, on standard input, and what must come of it.
step() {
    ask "$1"
    failed=no
    [ "$status" = 0 ] || failed=yes
    case $status in
    126 | 127) cannot "a program of $stage was not found in $1: $answer" ;;
    esac
    [ "$failed" = "$2" ] || stopped "another exit status" "$stage on $1: exit status $status; it printed $answer"
    case $answer in
    *"$3"*) ;;
    *) stopped "another output" "$stage on $1: it printed $answer" ;;
    esac
}

# reboot LEVEL MODULE: by a reset from outside, since a guest's own was seen to hang an emulator's firmware. Afterwards it must be
# able to host again.
reboot() {
    # A guest that reboots by itself has given up, so each QEMU is told not to let it.
    qmp "$1" set-action '{"reboot": "reset"}'
    echo sync | ask "$1"
    ready=$(grep -c nestmatrix-shell-ready "$logs/$1.console.log")
    qmp "$1" system_reset
    until [ "$(grep -c nestmatrix-shell-ready "$logs/$1.console.log")" -gt "$ready" ]; do
        sleep 1
        look
    done
    qmp "$1" set-action '{"reboot": "shutdown"}'
    must_host "$1" "$2"
}

# --- The end

# last_words LEVEL: its kernel's messages go to its console's file, if it still answers.
last_words() {
    id=$((id + 1))
    printf '%s%s dmesg | tail -n 200\n' "$typed_behind" "$id" | to "$1.console" 2> /dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! grep -q "nestmatrix-answer-end $id " "$logs/$1.console.log" || return 0
        sleep 1
    done
    return 1
}

works() {
    [ -z "${reported:-}" ] || weigh_report
    outcome works "${told:-it came up}"
}

# stopped KIND WHAT: the stack stops here.
stopped() {
    outcome "$stage: $1" "stopped at $stage: $2"
}

# not_here WHAT: the recorded run did what a script does not.
not_here() {
    outcome "" "came to $stage, where nestmatrix $1; that is not done here"
}

# kill_qemu LEVEL [HOST]: as the scenario has it done, to see that it is noticed.
kill_qemu() {
    say "  the QEMU that runs $1 is killed, as the scenario has it"
    case ${2:-} in
    "") kill -9 "$(cat emulator.pid)" ;;
    *) say "kill -9 \$(cat /run/nest/$1.pid)" | ask "$2" ;;
    esac
}

outcome() {
    decided=yes
    if [ "$1" != works ]; then
        for level in $hosts; do
            last_words "$level" || break
        done
    fi
    show
    # Where consoles can't be written, silence is no outcome.
    say test > "$logs/space" 2> /dev/null && [ -s "$logs/space" ] || cannot "$logs can't be written; is the disk full?"
    rm "$logs/space"
    now=$(date +%s)
    say "[$((now - started)) s] the logs are in $logs"
    # One line, whatever a level has printed.
    set -- "$1" "$(say "$2" | tr '\n' ' ' | sed 's/ *$//')"
    if [ -z "$1" ]; then
        say "$2, so nothing can be said of the outcome that was recorded: $recorded_text"
        exit 2
    elif [ -z "$recorded" ]; then
        say "$2; it can't be compared with what was recorded: $recorded_text"
        exit 2
    elif [ "$1" = "$recorded" ]; then
        say "$2; the same as recorded"
        exit 0
    else
        say "$2; ANOTHER outcome than recorded: $recorded_text"
        exit 1
    fi
}

main "$@"

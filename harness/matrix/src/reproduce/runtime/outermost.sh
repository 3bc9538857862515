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
    # This process holds it open until it ends; no other process holds it for longer than a moment.
    exec 4<> life
    # The shell's message about a killed process helps no user.
    keep "$@" 2> /dev/null &
    keeper=$!
    up=$first
}

# hercules_files LEVEL PARAMETERS ADDRESS: what Hercules loads in addition to its kernel: as files that are not links, with the
# address and the size of the initramfs as numbers of 8 bytes.
hercules_files() {
    cp "$1-kernel" kernel && cp "$1-initramfs" initramfs || cannot "$work can't be written"
    printf '%s\000' "$2" > parameters
    eight_bytes "$3" > ./at
    eight_bytes "$(wc -c < initramfs)" > size
    echo "ipl l0.ins" > hercules.rc
}

eight_bytes() {
    for shift in 56 48 40 32 24 16 8 0; do
        # shellcheck disable=SC2059
        printf "\\$(printf %03o $((($1 >> shift) & 255)))"
    done
}

# Becomes the swtpm of the outermost level. It ends when QEMU closes its connection.
run_swtpm() {
    cd "$tpm" || exit
    # None of the arguments has a blank.
    # shellcheck disable=SC2086
    set -- $swtpm_arguments
    [ -n "$swtpm_tree" ] || exec swtpm "$@"
    exec "$swtpm_tree/ld.so" --library-path "$swtpm_tree/libraries" --argv0 swtpm "$swtpm_tree/programs/swtpm" "$@"
}

# Starts that swtpm, if there is one, and waits until it takes connections. If it does not, QEMU says so.
start_swtpm() {
    [ -n "${tpm:-}" ] || return 0
    mkdir -m 700 "$tpm"
    (run_swtpm) < /dev/null > "$logs/$first.swtpm.log" 2>&1 3<&- &
    swtpm_pid=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -e "$tpm/pid" ] || break
        sleep 1
    done
}

# Starts the emulator, and ends it as soon as no process holds `life` open: also if this script was killed.
keep() {
    trap '' HUP INT TERM
    trap - EXIT
    exec 3< life 4>&-
    readers=
    for channel in $channels; do
        # Hercules is its own console, and opens only one direction of it.
        [ "$program" != hercules ] || break
        cat < "$channel.out" > "$logs/$channel.log" 2> /dev/null 3<&- &
        readers="$readers $!"
    done
    swtpm_pid=
    start_swtpm
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
    kill -9 $readers $swtpm_pid 2> /dev/null
    cd /
    rm -rf "$work"
}


# --- Stages, waiting, trouble

# stage NAME SILENCE TOTAL: what the script waits for from now on, and how long, in seconds.
stage() {
    stage=$1 silence=$(($2 * scale)) total=$(($3 * scale))
    now=$(date +%s)
    began=$now last_sign=$now
    say "[$((now - started)) s] $stage"
}

# await FILE PATTERN [POLLS]: waits until a line matches, or for so many polls. Trouble meanwhile ends the script.
await() {
    looks=0
    until text "$1" | beyond "${after:-}" | grep -q -e "$2"; do
        looks=$((looks + 1))
        [ "$looks" -le "${3:-$looks}" ] || return 1
        # Not every sleep accepts fractions of a second.
        if [ "$looks" -gt 15 ] || ! sleep 0.2 2> /dev/null; then sleep 1; fi
        look
    done
    show
}

# beyond TEXT: only the lines after one with this text, if one is given.
beyond() {
    if [ -n "$1" ]; then sed "1,/$1/d"; else cat; fi
}

look() {
    now=$(date +%s)
    show
    [ -z "$decided" ] || return 0
    if trouble; then
        # The cause may be printed a moment after its consequence.
        sleep 2
        show
        explain
    fi
    patience
}

# With -v, shows new lines of the consoles.
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

# How the QEMU of a level inside another one has ended, if it has.
ended_in() {
    outer=$(outer_of "$1")
    [ -n "$outer" ] || return 0
    text "$logs/$outer.console.log" | sed -n "s/^qemu-$1| nestmatrix-ended \([0-9]*\).*/\1/p"
}

outer_of() {
    before=
    for level_of in $up; do
        [ "$level_of" != "$1" ] || break
        before=$level_of
    done
    printf '%s' "$before"
}

# QEMU's own messages about a level that will not continue.
event() {
    [ -e "$logs/$1.qmp.log" ] || return 0
    if [ "$1" = "$may_shut_down" ] && text "$logs/$1.console.log" | grep -q nestmatrix-report-end; then return 0; fi
    text "$logs/$1.qmp.log" | sed -n -e 's/.*"event": "\(SHUTDOWN\)".*/\1/p' -e 's/.*"event": "\(GUEST_PANICKED\)".*/\1/p' \
        -e 's/.*"event": "\(STOP\)".*/\1/p' | head -n 1
}

# If the outermost QEMU has ended, that comes first; then what a console shows, then what a monitor reports. $heard gets all
# that such a QEMU has printed, because its last line need not name the reason.
explain() {
    if [ -e emulator.ended ]; then
        heard=$(text "$logs/$first.qemu.log" | plain)
        said=$(say "$heard" | grep . | tail -n 1)
        # A QEMU that rejects its options, or finds no firmware, says nothing about the stack.
        [ "$stage" != "$first-launch" ] ||
            cannot "the QEMU that is to run $first ended with status $(cat emulator.ended)${said:+: $said}"
        stopped "$first: QEMU ended" "$first's QEMU ended with status $(cat emulator.ended)${said:+: $said}"
    fi
    for level in $up; do
        status=$(ended_in "$level")
        [ -n "$status" ] || continue
        heard=$(text "$logs/$(outer_of "$level").console.log" | grep "^qemu-$level| " | grep -v nestmatrix-ended | plain)
        said=$(say "$heard" | tail -n 1)
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

# A stage ends at its time limit, or earlier if there is neither output nor work.
patience() {
    size=$(cat "$logs"/*.log | wc -c)
    used=$(cpu_seconds)
    if [ "$size" != "$last_size" ]; then
        last_size=$size last_sign=$now
    fi
    # Checked every ten seconds.
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

# CPU time that the emulator has used, from Linux' /proc.
cpu_seconds() {
    pid=$(cat emulator.pid 2> /dev/null) || pid=none
    stat=$(cat "/proc/$pid/stat" 2> /dev/null) || stat=
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    echo $(((${12:-0} + ${13:-0}) / $(getconf CLK_TCK 2> /dev/null || echo 100)))
}


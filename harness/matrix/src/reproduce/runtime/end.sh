# --- The end

# last_words LEVEL: copies its kernel's messages to its console's file, if it still answers.
last_words() {
    id=$((id + 1))
    printf '%s%s dmesg | tail -n 200\n' "$typed_behind" "$id" | to "$1.console" 2> /dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! text "$logs/$1.console.log" | grep -q "nestmatrix-answer-end $id " || return 0
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

# not_here WHAT: the recorded run did something that a script does not do.
not_here() {
    outcome "" "came to $stage, where nestmatrix $1; that is not done here"
}

# kill_qemu LEVEL [HOST]: the fault that the scenario injects, to show that it is noticed.
kill_qemu() {
    say "  the scenario kills the QEMU that runs $1"
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
    # If consoles can't be written, their silence means nothing.
    say test > "$logs/space" 2> /dev/null && [ -s "$logs/space" ] || cannot "$logs can't be written; is the disk full?"
    rm "$logs/space"
    now=$(date +%s)
    say "[$((now - started)) s] the logs are in $logs"
    # One line, whatever a level has printed.
    set -- "$1" "$(say "$2" | tr '\n' ' ' | sed 's/ *$//')"
    if [ -z "$1" ]; then
        say "$2, so it says nothing about the recorded outcome: $recorded_text"
        exit 2
    elif [ -z "$recorded" ]; then
        say "$2; it can't be compared with the recorded outcome: $recorded_text"
        exit 2
    elif [ "$1" != "$recorded" ]; then
        say "$2; ANOTHER outcome than recorded: $recorded_text"
        exit 1
    fi
    # The limitation is what the document says about it: a QEMU may end for many reasons.
    case $2$heard in
    *"$documented"*)
        say "$2; the same kind of outcome as recorded: $recorded_text"
        exit 0
        ;;
    *)
        say "$2; ANOTHER outcome than recorded, of the same kind but without \"$documented\": $recorded_text"
        exit 1
        ;;
    esac
}

main "$@"

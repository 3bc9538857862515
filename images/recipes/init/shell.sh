# Sourced by init scripts: a shell on the console, for a level without a guest agent. A command is a line `ID COMMAND`, with `\n`
# for a line end and `\\` for a backslash. A slow console (nest.console=slow) accepts only short lines and loses some. There, a
# command comes in pieces `+NUMBER:ID:PIECE.`, each of which is acknowledged, and then as an `ID` alone. Repeated and truncated
# pieces are ignored.

# Prints slowly, since the console loses fast output: in short lines, and waits for each. A line that continues ends in a
# backslash.
paced() {
    sed 's/.\{120\}/&\\\n/g' | while IFS= read -r said || [ -n "$said" ]; do
        echo "$said"
        # Changing terminal settings waits until all output is sent.
        stty -echo -opost < /dev/console
    done
}

# busybox' shell prefers its own modprobe to kmod's, and kmod reads only its own modules.dep. The system of a disk
# has both as they must be.
if [ -x /usr/bin/kmod ] && [ ! -d /run/systemd/system ]; then
    mkdir -p /run/kmod
    ln -sf /usr/bin/kmod /run/kmod/modprobe
    ln -sf /usr/bin/kmod /run/kmod/depmod
    /run/kmod/depmod 2> /dev/null
    modprobe() { /run/kmod/modprobe "$@"; }
fi

# Runs a command and prints its output at the console's speed.
tell() {
    if [ -n "$slow" ]; then "$@" | paced; else "$@"; fi
}

answer() {
    echo "nestmatrix-answer-begin $id"
    (eval "$(printf %b "$command")") < /dev/null 2>&1
    echo "nestmatrix-answer-end $id $?"
}

slow=
case $line in *nest.console=slow*) slow=yes ;; esac

# Runs commands until the console is closed.
serve_console() {
    # No echo: each byte costs exits.
    stty -echo
    tell echo nestmatrix-shell-ready
    command=
    of=
    pieces=0
    answered=0
    while IFS= read -r typed; do
        case $typed in
        +*:*:*.)
            piece=${typed#+}
            number=${piece%%:*}
            piece=${piece#*:}
            if [ "$number" -gt "$pieces" ]; then
                # Drop the pieces of an abandoned command.
                [ "$of" = "${piece%%:*}" ] || command=
                of=${piece%%:*}
                piece=${piece#*:}
                command=$command${piece%.}
                pieces=$number
            fi
            tell echo "nestmatrix-answer-more $number"
            continue
            ;;
        *" "*) id=${typed%% *} command=${typed#* } ;;
        *) id=$typed ;;
        esac
        case $id in "" | *[!0-9]*) continue ;; esac
        [ "$id" -gt "$answered" ] || continue
        answered=$id
        tell answer
        command=
    done
}

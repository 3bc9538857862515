# Read in by init scripts: a shell on the console, for a level that has no guest agent. A command is one line, `ID COMMAND`,
# in which `\n` stands for a line end and `\\` for a backslash. A console that takes only short lines, and not all of them
# (nest.console=slow), gets a command in pieces, `+NUMBER:ID:PIECE.`, each of which is acknowledged, before an `ID` alone. What was
# taken is not taken again; what was cut short on its way is not taken.

# Passes on what a console would lose if it came faster: in short lines, and each waited for. A line that goes on in the next one
# ends in a backslash.
paced() {
    sed 's/.\{120\}/&\\\n/g' | while IFS= read -r said || [ -n "$said" ]; do
        echo "$said"
        # Setting a terminal waits until all that was written to it is out.
        stty -echo -opost < /dev/console
    done
}

# busybox' shell prefers its own modprobe to that of kmod, where a level has it; and kmod reads no modules.dep but its own.
if [ -x /usr/bin/kmod ]; then
    mkdir -p /run/kmod
    ln -sf /usr/bin/kmod /run/kmod/modprobe
    ln -sf /usr/bin/kmod /run/kmod/depmod
    /run/kmod/depmod 2> /dev/null
    modprobe() { /run/kmod/modprobe "$@"; }
fi

# Says a line, or what a function prints, at the pace of the console.
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

# Takes commands until the console ends.
serve_console() {
    # What is typed must not come back: each byte costs exits.
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
                # What is left of a command that nobody asks for any more goes.
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

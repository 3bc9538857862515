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

# text FILE: what was said by a level or a QEMU, as text: for a NUL in it grep would take it for binary, and show none of it.
text() {
    tr -d '\000\015' 2> /dev/null < "$1"
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
    up='' hosts='' decided='' heard='' id=0 piece_number=0 last_sign=$started last_size=0 busy_since=$started used_then=0
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


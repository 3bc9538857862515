# ---------------------------------------------------------------------------------------------------------------------
# The rest is the same in every such script. It runs on this machine; levels run only what is typed at their consoles.

usage() {
    say "usage: sh reproduce.sh [-v]"
    say "  -v  also print the output of the levels and their QEMUs; the logs have it in any case"
    say "  The comments at the top of this script describe what it boots, and the variables that change it."
}

say() {
    printf '%s\n' "$*"
}

# Text of a level, without control characters for the terminal.
plain() {
    tr -d '\000-\010\013-\037\177'
}

# text FILE: the output of a level or a QEMU as text. Without this, grep would treat a file with a NUL as binary and show
# nothing.
text() {
    tr -d '\000\015' 2> /dev/null < "$1"
}

cannot() {
    say "can't run: $*" >&2
    exit 2
}

# A path that the user gave, independent of the script's working folder.
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
    case $scale in "" | *[!0-9]* | 0) cannot "TIMEOUT_SCALE=$scale is not a whole number of at least 1" ;; esac
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
    tpm='' up='' hosts='' decided='' heard='' id=0 piece_number=0 last_sign=$started last_size=0 busy_since=$started used_then=0
    say "consoles and QMP go to $logs"
    stack
    works
}

# Ends everything that was started. If this process is killed, the keeper does the same.
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


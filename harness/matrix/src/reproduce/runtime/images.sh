# --- Images

# find_image NAME DIGEST: sets $image to its folder, or to nothing if there is none. A damaged image ends the script.
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

# level_image LEVEL NAME DIGEST KERNEL INITRAMFS: links the level's kernel and initramfs, or the files given instead of them.
level_image() {
    kernel=$(absolute "$4") initramfs=$(absolute "$5")
    if [ -z "$kernel" ] || [ -z "$initramfs" ]; then
        find_image "$2" "$3"
        if [ -z "$image" ]; then
            say "There is no image $2 in $here/images, nor $3 in ${cache:-a cache folder, since HOME is not set,}/images." >&2
            say "A bundle of this cell has it (cargo xtask repro CELL --bundle)." >&2
            case $2 in
            *+*)
                # No recipe has such a name: it is that of an image with a replaced part.
                say "Its kernel or QEMU was replaced (run-matrix --kernel, bisect), so it can't be built by its name, and those" >&2
                say "commands remove it after its test. With --keep-images, they keep it." >&2
                ;;
            *)
                say "nestmatrix builds the newest one of this kind from Debian's packages: cargo xtask images build ${2%-*}" >&2
                ;;
            esac
            cannot "the image $2 is missing"
        fi
    fi
    link "$1-kernel" "${kernel:-$image/vmlinuz}"
    link "$1-initramfs" "${initramfs:-$image/initramfs.cpio}"
    [ -z "$4" ] || say "$1 boots the kernel $kernel"
    [ -z "$5" ] || say "$1 boots the initramfs $initramfs"
}

# firmware_image LEVEL NAME DIGEST CODE VARIABLES: links the level's UEFI firmware. Its variables are copied, since it writes to them.
firmware_image() {
    find_image "$2" "$3"
    [ -n "$image" ] || cannot "the image $2 is missing; a bundle of this cell has it (cargo xtask repro CELL --bundle)"
    link "$1-code" "$image/$4"
    cat "$image/$5" > "$1-variables" || cannot "the firmware's variables can't be copied"
}

# swtpm_image LEVEL NAME DIGEST: links the archive with the swtpm that plays the level's TPM in the level around it.
swtpm_image() {
    find_image "$2" "$3"
    [ -n "$image" ] || cannot "the image $2 is missing; a bundle of this cell has it (cargo xtask repro CELL --bundle)"
    link "$1-swtpm" "$image/tree.cpio"
}

# swtpm_here FOLDER NAME DIGEST ISA ARGUMENTS...: the swtpm that plays the TPM of the outermost level: that of the image with its own
# libraries, or an installed one.
swtpm_here() {
    tpm=$1 swtpm_tree='' image=
    [ -z "$3" ] || [ "$(uname -m)" != "$4" ] || find_image "$2" "$3"
    [ -z "$image" ] || swtpm_tree=$image/tree
    [ -n "$swtpm_tree" ] || command -v swtpm > /dev/null 2>&1 ||
        cannot "there is no swtpm in PATH (Debian and Fedora: package swtpm), and no image of it"
    shift 4
    swtpm_arguments=$*
}

link() {
    [ -r "$2" ] && [ -f "$2" ] || cannot "there is no file $2 that can be read"
    ln -s "$2" "$1"
}

# emulator NAME DIGEST PROGRAM ISA: how PROGRAM is started. QEMU=... comes first, then the image with its own libraries.
emulator() {
    own='' program=$3 emulator=
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
        [ -n "$emulator" ] || own=$(command -v "$program" || qemu_of_rhel) ||
            cannot "there is no $program in PATH, and no image of it in $here/images (a bundle of the cell has it)" \
                "or ${cache:-a cache folder, since HOME is not set,}/images; a QEMU can be named by QEMU=..."
    fi
    say "the outermost level runs on ${own:-$emulator/tree/programs/$program}"
}

# RHEL's QEMU has another name, and is for machines of the same kind as this one.
qemu_of_rhel() {
    [ "$program" = "qemu-system-$(uname -m)" ] && [ -x /usr/libexec/qemu-kvm ] && echo /usr/libexec/qemu-kvm
}

run_emulator() {
    if [ "$program" = hercules ]; then
        HERCULES_RC=hercules.rc
        export HERCULES_RC
        [ -n "$own" ] || set -- -p "$emulator/tree/modules" "$@"
        # Opened for reading and writing, since opening it for reading alone would wait for a writer.
        exec 0<> "$first.console.in" > "$logs/$first.console.log" 2> "$logs/$first.hercules.err"
    fi
    [ -z "$own" ] || exec "$own" "$@"
    tree=$emulator/tree
    libraries=$tree/libraries
    [ ! -d "$tree/modules" ] || libraries=$libraries:$tree/modules
    case $program in
    qemu*)
        set -- -L "$tree/data" "$@"
        QEMU_MODULE_DIR=$tree/modules
        export QEMU_MODULE_DIR
        ;;
    esac
    exec "$tree/ld.so" --library-path "$libraries" --argv0 "$program" "$tree/programs/$program" "$@"
}


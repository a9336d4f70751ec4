#!/usr/bin/env bash
# Makes images for pods in the Docker engine at hand, unless it has them from the same files, and prints
# their names.
#   scripts/images.sh                              those of images/
#   scripts/images.sh NAME PROGRAM [PATH=FILE]...  one that runs a program, with the libraries it needs,
#                                                  and has these files at these paths
# SINFONIA_DEBIAN_IMAGE is where those of images/ take Debian's files from (debian:bookworm-slim).
set -euo pipefail

images=$(dirname "$(realpath "$0")")/../images
label=org.findcloudlet.made-from

main() {
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    if [ $# = 0 ]; then
        ours helloworld 0.1.0
        ours toolbox 0.1.0
    else
        program "$@"
    fi
}

say() { echo "==> $*" >&2; }
die() {
    say "$*"
    exit 1
}

ours() {
    local name=localhost/sinfonia/$1:$2 debian=${SINFONIA_DEBIAN_IMAGE:-debian:bookworm-slim} key
    key=$(fingerprint "$images/$1" "$debian")
    if ! made "$name" "$key"; then
        replace "$name"
        cp -r "$images/$1" "$stage/"
        docker build --quiet --tag "$name" --label $label="$key" --build-arg DEBIAN="$debian" \
            --file "$stage/$1/Containerfile" "$stage/$1" >/dev/null
    fi
    echo "$name"
}

program() {
    local name=$1 program=$2 path=/usr/local/bin/${2##*/} root=$stage/root file key
    shift 2
    [ -x "$program" ] || die "$program is not a program"
    install -D "$program" "$root$path"
    # Debug information makes it several times as large.
    strip --strip-debug "$root$path" 2>/dev/null || true
    libraries "$root" "$program"
    install -d -m 1777 "$root/tmp"
    for file in "$@"; do
        cp --dereference -r "${file#*=}" "$(parent "$root/${file%%=*}")"
    done
    key=$(fingerprint "$root")
    if ! made "$name" "$key"; then
        replace "$name"
        tar -C "$root" -c . | docker import --change "LABEL $label=$key" --change "ENTRYPOINT [\"$path\"]" \
            --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$name" >/dev/null
    fi
    echo "$name"
}

# The engine would keep the image that had the name.
replace() {
    say "making the image $1"
    docker image rm "$1" >/dev/null 2>&1 || true
}

# A static program needs none, and ldd fails.
libraries() {
    local needed
    needed=$(ldd "$2" 2>/dev/null | grep -o '/[^ ]*') || return 0
    xargs cp --dereference --parents --target-directory="$1" <<<"$needed"
}

# Makes the directory of a file, and says the file again.
parent() {
    mkdir -p "${1%/*}"
    echo "$1"
}

# What an image is made from: a directory's files with their names and modes, and anything else.
fingerprint() {
    local directory=$1
    shift
    (
        cd "$directory"
        printf '%s\n' "$@"
        find . -printf '%p %m\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 cat
    ) | sha256sum | cut -c -32
}

made() {
    [ "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = "$2" ]
}

main "$@"

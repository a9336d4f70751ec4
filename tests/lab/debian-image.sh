#!/usr/bin/env bash
# Makes a Debian image with the packages that the images of this project take files from, for an engine
# that cannot pull one, unless the engine has it, and prints its name.
#   tests/lab/debian-image.sh
set -euo pipefail

suite=bookworm
packages=busybox-static,conntrack,iproute2,iptables,kmod,nftables,nginx-light
key=$(sha256sum "$0" | cut -c -12)
tag=localhost/sinfonia/debian:$suite-$key

main() {
    if ! docker image inspect "$tag" >/dev/null 2>&1; then
        echo "lab: making a Debian image" >&2
        mmdebstrap --quiet --variant=minbase --include=$packages \
            --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
            --dpkgopt=path-exclude='/usr/share/locale/*' $suite - | docker import - "$tag" >/dev/null
    fi
    echo "$tag"
}

main

#!/usr/bin/env bash
# Tests WireGuard of the kernel where this machine's has none: boots Debian's kernel for clouds in QEMU, by
# emulation, which works everywhere, and runs tunnel/tests/kernel.rs in it as the first process's only child. Nothing is installed but QEMU
# and busybox; the kernel is unpacked in the cache.
#   tests/lab/qemu-kernel.sh [ARGUMENT OF THE TEST RUNNER]...
# SINFONIA_TEST_PACKAGE=sinfonia-gateway runs gateway/tests/kernel.rs instead.
set -euo pipefail
cd "$(dirname "$0")/../.."

lab=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/lab
limit=1200
modules=(wireguard tun veth)

main() {
    need qemu-system-x86_64:qemu-system-x86 busybox:busybox cpio:cpio kmod:kmod
    kernel
    local test
    test=$(build)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    initramfs "$test" "$@"
    boot
}

die() {
    echo "qemu-kernel: $*" >&2
    exit 1
}

# Takes command:package pairs and installs the packages whose commands are missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    [ "$(id -u)" = 0 ] || die "please install as root: apt-get install ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Unpacks the newest kernel that apt knows of, once.
kernel() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" {print $2; exit}')
    [ -n "$package" ] || die "apt knows no linux-image-cloud-amd64: run apt-get update, on Debian"
    release=${package#linux-image-}
    root=$lab/kernel-$release
    [ -e "$root/boot/vmlinuz-$release" ] && return
    echo "qemu-kernel: fetching $package" >&2
    mkdir -p "$root.new"
    (cd "$root.new" && apt-get download -qq "$package" && dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb)
    depmod --basedir "$root.new" "$release"
    rm -rf "$root"
    mv "$root.new" "$root"
}

# The test program, as cargo says.
build() {
    cargo test --locked -p "${SINFONIA_TEST_PACKAGE:-sinfonia-tunnel}" --test kernel --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\/kernel-[^"]*\)".*/\1/p'
}

# Everything that the virtual machine has: modules, programs and the libraries they need, at the paths they have here.
initramfs() {
    local program=$1 module file helper
    shift
    [ -x "$program" ] || die "the test program was not built"
    mkdir -p "$work"/{bin,dev/net,proc,sys,run,tmp,etc,root}
    : >"$work/modules.list"
    for module in "${modules[@]}"; do
        modprobe --dirname "$root" --set-version "$release" --show-depends "$module" |
            sed -n 's/^insmod \([^ ]*\).*/\1/p' >>"$work/modules.list"
    done
    while read -r file; do
        install -D -m 644 "$file" "$work/modules/$(basename "$file")"
    done <"$work/modules.list"
    helper=$(dirname "$(dirname "$program")")/sinfonia-netns
    for file in "$program" "$helper" "$(command -v busybox)"; do
        copy "$file"
        while read -r library; do copy "$library"; done < <(ldd "$file" | grep -o '/[^ ]*' || true)
    done
    ln -s "$(command -v busybox)" "$work/bin/sh"
    cat >"$work/init" <<INIT
#!/bin/sh
busybox=$(command -v busybox)
\$busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do insmod "/modules/\${module##*/}"; done </modules.list
uname -sr
"$program" --ignored --test-threads=1 $(printf '%q ' "$@")
echo "qemu-kernel: exit status \$?"
poweroff -f
INIT
    chmod 755 "$work/init"
}

copy() {
    [ -e "$work$1" ] || install -D -m 755 "$(readlink -f "$1")" "$work$1"
}

boot() {
    (cd "$work" && find . | cpio --quiet --create --format=newc --owner=0:0 | gzip -1) >"$work.cpio.gz"
    timeout "$limit" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -m 512 -nodefaults -no-reboot \
        -display none -serial stdio -kernel "$root/boot/vmlinuz-$release" -initrd "$work.cpio.gz" \
        -append "console=ttyS0 quiet panic=-1" </dev/null | tee "$work.log" || true
    rm "$work.cpio.gz"
    local log
    log=$(cat "$work.log")
    rm "$work.log"
    [[ $log == *"qemu-kernel: exit status 0"* ]] || die "the tests did not pass within $limit s"
}

main "$@"

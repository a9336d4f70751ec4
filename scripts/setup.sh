#!/usr/bin/env bash
# Installs what is missing on this machine for the demo, the lint or the tests, and says so.
#   scripts/setup.sh build|demo|lint|test
# Nothing is asked of apt, pip or cargo when nothing is missing.
set -euo pipefail

purpose=${1:?build, demo, lint or test}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev
cargo_deny=0.20.2
reference_client=0.7.4

main() {
    have cargo || die "Rust is missing: install it as https://rustup.rs says, then try again"
    case $purpose in
    build) packages cc:gcc cc:libc6-dev ;;
    demo)
        packages cc:gcc cc:libc6-dev busybox:busybox
        tun 2
        namespaces
        ;;
    lint)
        packages cc:gcc cc:libc6-dev shellcheck:shellcheck git:git
        deny
        ;;
    test)
        packages cc:gcc cc:libc6-dev busybox:busybox ip:iproute2
        tun 6
        namespaces
        reference
        ;;
    *) die "unknown purpose '$purpose'" ;;
    esac
}

say() { echo "setup: $*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: run '$*' as root, then try again"
    fi
}

# Takes command:package pairs and installs the packages whose commands are missing.
packages() {
    local pair missing=()
    for pair in "$@"; do
        have "${pair%%:*}" || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || die "please install: ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# Makes /dev/net/tun usable by this user, or by all of them if the digit asked for is 6.
tun() {
    if ! [ -c /dev/net/tun ]; then
        say "making /dev/net/tun"
        as_root mkdir -p /dev/net
        as_root mknod /dev/net/tun c 10 200
    fi
    local mode
    mode=$(stat -c %a /dev/net/tun)
    if ! [ -w /dev/net/tun ] || { [ "$1" = 6 ] && [ $((${mode: -1} & 6)) != 6 ]; }; then
        say "letting all users open /dev/net/tun (chmod 0666, as most distributions have it)"
        as_root chmod 0666 /dev/net/tun
    fi
}

# Ordinary users need user namespaces; root does without.
namespaces() {
    if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user true 2>/dev/null; then
        die "this kernel does not let ordinary users make namespaces. As root, try:
  sysctl -w user.max_user_namespaces=15000
  sysctl -w kernel.unprivileged_userns_clone=1           (Debian)
  sysctl -w kernel.apparmor_restrict_unprivileged_userns=0   (Ubuntu)
or run this as root"
    fi
}

deny() {
    [ "$("$cache/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $cargo_deny" ] && return
    say "building cargo-deny $cargo_deny, once (some minutes)"
    CARGO_TARGET_DIR=$cache/target cargo install --quiet --locked --root "$cache" \
        --version $cargo_deny cargo-deny
    rm -rf "$cache/target"
}

# The reference client in a Python environment of its own.
reference() {
    local venv=$cache/reference-client-$reference_client python
    [ -e "$venv/ready" ] && return
    say "installing the reference client, sinfonia-tier3 $reference_client from PyPI"
    mkdir -p "$cache"
    # The system's Python: one in somebody's home is out of reach for the tests' user.
    python=/usr/bin/python3
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 || {
        packages no-venv:python3-venv
        "$python" -m venv --clear "$venv"
    }
    "$venv/bin/pip" install --quiet --disable-pip-version-check "sinfonia-tier3==$reference_client"
    ln -sfn "${venv##*/}" "$cache/reference-client"
    touch "$venv/ready"
}

main

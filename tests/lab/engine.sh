#!/usr/bin/env bash
# A Docker engine for machines where none answers. All it runs has namespaces of processes, mounts and
# network in common: when their first process ends, so does everything, and nothing stays mounted.
#   tests/lab/engine.sh up     start it unless it runs
#   tests/lab/engine.sh down   stop it, and remove what a killed one left
#   tests/lab/engine.sh env    print shell assignments for its users, or fail if it does not run
# Only root can start and stop it. Its images stay in the cache.
set -euo pipefail

here=$(dirname "$(realpath "$0")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/lab/engine
run=/run/sinfonia-lab
netns=sinfonia-lab
cgroup=sinfonia-lab

main() {
    case ${1:-} in
    up) up ;;
    down) down ;;
    env) settings ;;
    *) die "up, down or env?" ;;
    esac
}

say() { echo "lab: $*" >&2; }
die() {
    say "$*"
    exit 1
}

up() {
    answers && return
    [ "$(id -u)" = 0 ] || die "no Docker engine answers: start Docker, or become root, who can start an engine for this"
    unpack
    down
    say "starting a Docker engine in the network namespace $netns"
    start && return
    say "it does not start: $(tail -n 3 "$run/dockerd.log")"
    say "trying again without the images and containers it had"
    down
    rm -rf --one-file-system "$cache/data"
    start || die "it does not start: $(tail -n 20 "$run/dockerd.log")"
}

settings() {
    alive || return
    [ -w "$run/docker.sock" ] || die "the engine that runs here is root's: become root"
    echo "netns=$netns"
    echo "export DOCKER_HOST=unix://$run/docker.sock"
    echo "export PATH=$cache/root/usr/bin:\$PATH"
}

# Debian's packages, unpacked: installed ones would start an engine in the machine's own network.
unpack() {
    [ -e "$cache/root/ready" ] && return
    say "unpacking Docker"
    rm -rf "$cache/root"
    mkdir -p "$cache/root"
    cd "$cache/root"
    download 2>/dev/null || {
        apt-get update -qq
        download
    }
    local package
    for package in *.deb; do
        dpkg -x "$package" .
    done
    rm -f ./*.deb
    touch ready
    cd "$here"
}

download() { apt-get -o APT::Sandbox::User=root download -qq docker.io tini; }

start() {
    # shellcheck disable=SC2016  # for the shells below
    local first='echo $$ >"$1"; shift; exec "$@"'
    # Dockerd would use a containerd of the machine if it saw it.
    # shellcheck disable=SC2016
    local second='[ ! -d /run/containerd ] || mount -t tmpfs tmpfs /run/containerd; exec "$@"'
    mkdir -p "$run" "$cache/data"
    configuration >"$run/daemon.json"
    ip netns add $netns
    ip -n $netns link set lo up
    PATH=$cache/root/usr/sbin:$cache/root/usr/bin:$PATH setsid bash -c "$first" - "$run/pid" \
        nsenter --net=/run/netns/$netns unshare --mount --pid --fork --kill-child --mount-proc \
        bash -c "$second" - docker-init -- dockerd --config-file "$run/daemon.json" \
        >"$run/dockerd.log" 2>&1 </dev/null 9>&- &
    local deadline=$((SECONDS + 20))
    until answers; do
        if [ $SECONDS -ge $deadline ] || ! kill -0 $! 2>/dev/null; then
            return 1
        fi
        sleep 0.1
    done
}

configuration() {
    cat <<EOF
{
  "data-root": "$cache/data",
  "exec-root": "$run/docker",
  "pidfile": "$run/docker.pid",
  "hosts": ["unix://$run/docker.sock"],
  "storage-driver": "overlay2",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "cgroup-parent": "/$cgroup",
  "runtimes": {"without-sys-resource": {"path": "$here/runc-without-sys-resource"}},
  "default-runtime": "without-sys-resource",
  "oom-score-adjust": 0,
  "userland-proxy-path": "$cache/root/usr/sbin/docker-proxy",
  "init-path": "$cache/root/usr/bin/docker-init",
  "ip6tables": false,
  "bip": "172.30.0.1/24",
  "default-address-pools": [{"base": "172.31.0.0/16", "size": 24}]
}
EOF
}

# The process whose end is the end of all others; after a restart of the machine its number may be
# another's.
alive() {
    local pid
    pid=$(cat "$run/pid" 2>/dev/null) && grep -qs "$run/daemon.json" "/proc/$pid/cmdline"
}

answers() { alive && DOCKER_HOST=unix://$run/docker.sock timeout 5 "$cache/root/usr/bin/docker" info >/dev/null 2>&1; }

down() {
    local pid cgroups
    if alive; then
        pid=$(cat "$run/pid")
        kill -KILL "$pid" || true
        while [ -e "/proc/$pid" ]; do
            sleep 0.05
        done
    fi
    if [ -e /run/netns/$netns ]; then
        ip netns delete $netns
    fi
    for cgroups in "/sys/fs/cgroup/$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
        remove_cgroups "$cgroups"
    done
    rm -rf --one-file-system $run
}

# A cgroup cannot be removed before the last of its processes has been reaped.
remove_cgroups() {
    local tries=100
    while [ -d "$1" ] && ! find "$1" -depth -type d -exec rmdir {} + 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || die "cannot remove $1: is a process left in it?"
        sleep 0.05
    done
}

main "$@"

#!/usr/bin/env bash
# Runs tier1, one cloudlet and a client on this machine, and stops them again.
#   scripts/demo.sh         fetch a page through the tunnel and explain its path
#   scripts/demo.sh shell   open a shell at the client's end of the tunnel
# DEMO_PORT (5000) is tier1's port; the cloudlet takes the next one.
set -euo pipefail
cd "$(dirname "$0")/.."

port1=${DEMO_PORT:-5000}
port2=$((port1 + 1))
tier1=http://127.0.0.1:$port1
tier2=http://127.0.0.1:$port2
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
run=${TMPDIR:-/tmp}/sinfonia-demo.$(id -u).$port1
pids=()
client=

main() {
    prepare
    start tier1 --port "$port1" --recipes RECIPES --allow-local-endpoints
    start tier2 --port "$port2" --tunnel-port 0 --recipes RECIPES --driver local \
        --state-directory "$run/state" --tier1-url "$tier1" --tier2-url "$tier2"
    await "tier1 to be ready" fetch "$tier1/readyz"
    await "the cloudlet to be ready" fetch "$tier2/readyz"
    await "the cloudlet to report to tier1" cloudlet
    say "tier1 ($tier1) and a cloudlet ($tier2) are up"
    if [ "${1:-page}" = shell ]; then shell; else page; fi
}

page() {
    local command=(busybox wget -q -O - http://helloworld/)
    say "sinfonia-tier3 $tier1 helloworld ${command[*]}"
    client "${command[@]}"
    # The same key gets the same deployment, so this shows the tunnel that was used.
    (cd "$run" && "$bin/sinfonia-tier3" --config-debug "$tier1" helloworld true >/dev/null)
    say "the path it took:
  1. tier3 asked tier1 at $tier1; tier1 chose the cloudlet at $(cloudlet), which started a backend for this client.
  2. tier3 ran wget in a network namespace with nothing in it but a WireGuard tunnel: address $(setting Address), cloudlet's end UDP $(setting Endpoint).
  3. In there the name helloworld leads through the tunnel to the backend; outside of it, on this machine, there is no such name."
}

shell() {
    say "try: busybox wget -q -O - http://helloworld/   (exit or Ctrl-D ends the demo)"
    client bash --norc || say "the shell ended with status $?"
}

# Makes the directory of this run, after removing what a killed run left of its own.
prepare() {
    local port
    for port in "$port1" "$port2"; do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "port $port is in use; choose another with DEMO_PORT=$((port1 + 1000)) (the next one is taken too)"
        fi
    done
    if [ -e "$run" ] && ! [ -O "$run" ]; then
        die "$run belongs to somebody else; remove it, or choose another port with DEMO_PORT=$((port1 + 1000))"
    fi
    rm -rf "$run"
    mkdir -m 700 "$run"
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    export XDG_CACHE_HOME=$run/cache
}

# Starts a program that ends with this script, even if the script is killed.
start() {
    local name=$1
    shift
    setsid setpriv --pdeathsig TERM "$bin/sinfonia-$name" "$@" </dev/null >"$run/$name.log" 2>&1 &
    pids+=($!)
}

# Runs a command at the client's end of the tunnel: in the background, so that this script can be
# stopped meanwhile, but on the terminal and with the signals of a foreground program.
client() {
    env --default-signal=INT,QUIT setpriv --pdeathsig HUP \
        "$bin/sinfonia-tier3" "$tier1" helloworld "$@" <&0 &
    client=$!
    local status=0
    wait $client || status=$?
    client=
    return $status
}

finish() {
    local status=$?
    trap '' INT TERM HUP
    # A shell in there heeds SIGHUP, but not SIGTERM.
    if [ -n "$client" ]; then
        kill -HUP "$client" 2>/dev/null || true
        wait "$client" 2>/dev/null || true
    fi
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    if [ "$status" != 0 ] && [ "$status" -lt 128 ]; then
        tail -n 20 "$run"/*.log >&2 || true
    fi
    rm -rf "$run"
    exit "$status"
}

# Repeats a command until it succeeds, for at most 15 s.
await() {
    local what=$1 deadline=$((SECONDS + 15)) pid
    shift
    until "$@" >/dev/null 2>&1; do
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || die "a program ended while waiting for $what"
        done
        [ $SECONDS -lt $deadline ] || die "waited in vain for $what"
        sleep 0.05
    done
}

# BusyBox has a time limit of its own, which crashes in Debian 12.
fetch() { timeout 2 busybox wget -q -O - "$1"; }

# The endpoint of the cloudlet that tier1 knows.
cloudlet() { fetch "$tier1/api/v1/cloudlets/" | grep -o "$tier2/[^\"]*"; }

# A setting of the tunnel's configuration.
setting() { sed -n "s/^$1 *= *//p" "$run/wg.conf"; }

say() { echo "==> $*"; }
die() {
    say "$*" >&2
    exit 1
}

main "$@"

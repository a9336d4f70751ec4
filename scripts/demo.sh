#!/usr/bin/env bash
# Runs tier1, one cloudlet and a client on this machine, and stops them again.
#   scripts/demo.sh         fetch a page through the tunnel and explain its path
#   scripts/demo.sh shell   open a shell at the client's end of the tunnel
#   scripts/demo.sh observe fetch the page again and again, with Prometheus and Jaeger beside it, until stopped
# DEMO_PORT (5000) is tier1's port; the cloudlet takes the next one, Prometheus and Jaeger the three after that.
set -euo pipefail
cd "$(dirname "$0")/.."

port1=${DEMO_PORT:-5000}
port2=$((port1 + 1))
tier1=http://127.0.0.1:$port1
tier2=http://127.0.0.1:$port2
bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
prometheus=http://127.0.0.1:$((port1 + 2))
jaeger=http://127.0.0.1:$((port1 + 3))
collector=http://127.0.0.1:$((port1 + 4))
mode=${1:-page}
own_jaeger=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/jaeger
run=${TMPDIR:-/tmp}/sinfonia-demo.$(id -u).$port1
pids=()
client=

main() {
    prepare
    [ "$mode" != observe ] || watchers
    start tier1 "$bin/sinfonia-tier1" --port "$port1" --recipes RECIPES --allow-local-endpoints
    start tier2 "$bin/sinfonia-tier2" --port "$port2" --tunnel-port 0 --recipes RECIPES --driver local \
        --state-directory "$run/state" --tier1-url "$tier1" --tier2-url "$tier2"
    await "tier1 to be ready" fetch "$tier1/readyz"
    await "the cloudlet to be ready" fetch "$tier2/readyz"
    await "the cloudlet to report to tier1" cloudlet
    say "tier1 ($tier1) and a cloudlet ($tier2) are up"
    "$mode"
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

# What sees everything: Prometheus with the shipped rules, and Jaeger, whose own web pages only a released program has.
watchers() {
    local program
    program=$(command -v jaeger-all-in-one) || program=$own_jaeger
    cp deploy/prometheus/rules.yaml "$run/"
    cat >"$run/prometheus.yaml" <<EOF
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [rules.yaml]
scrape_configs:
- {job_name: sinfonia-tier1, static_configs: [{targets: ["${tier1#http://}"]}]}
- {job_name: sinfonia-tier2, static_configs: [{targets: ["${tier2#http://}"]}]}
EOF
    start prometheus prometheus --config.file="$run/prometheus.yaml" --storage.tsdb.path="$run/data" \
        --web.listen-address="${prometheus#http://}"
    local unused options=()
    for unused in admin.http.host-port collector.grpc-server.host-port collector.http-server.host-port \
        collector.otlp.grpc.host-port query.grpc-server.host-port http-server.host-port \
        processor.jaeger-binary.server-host-port processor.jaeger-compact.server-host-port \
        processor.zipkin-compact.server-host-port; do
        options+=("--$unused=127.0.0.1:0")
    done
    OTEL_TRACES_SAMPLER=always_off start jaeger "$program" --collector.otlp.http.host-port="${collector#http://}" \
        --query.http-server.host-port="${jaeger#http://}" "${options[@]}"
    await "Prometheus" fetch "$prometheus/-/ready"
    await "Jaeger" fetch "$jaeger/api/services"
    export OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=$collector/v1/traces OTEL_BSP_SCHEDULE_DELAY=500
}

observe() {
    local command=(busybox wget -q -O - http://helloworld/)
    say "sinfonia-tier3 $tier1 helloworld ${command[*]}"
    client "${command[@]}"
    await "the client's trace" trace
    say "its trace, as Jaeger has it:"
    trace
    await "Prometheus to see the deployment" figures
    say "what Prometheus says: $(figures)"
    say "where to look:
  Prometheus  $prometheus/graph?g0.expr=sinfonia_deployments&g0.tab=0   targets: $prometheus/targets   alerts: $prometheus/alerts
  Jaeger      $jaeger/search?service=sinfonia-tier3   its API: $jaeger/api/traces?service=sinfonia-tier3
  Grafana     import deploy/dashboards/*.json, with these two as data sources
  metrics     $tier1/metrics   $tier2/metrics   what they mean: docs/telemetry.md"
    if ! command -v jaeger-all-in-one >/dev/null; then
        say "this Jaeger has no web pages; with jaeger-all-in-one of a Jaeger release in the path it has"
    fi
    say "a client comes every 10 s; Ctrl-C ends the demo"
    while true; do
        sleep 10 &
        wait $!
        client --release "${command[@]}" >/dev/null
    done
}

# The newest run of a client, as a tree; fails until it reaches the cloudlet and no span lacks the one it belongs to.
trace() {
    fetch "$jaeger/api/traces?service=sinfonia-tier3&operation=sinfonia-tier3&limit=1" | jq --exit-status --raw-output '
        .data[0] as $trace
        | [$trace.spans[] | {
            id: .spanID,
            parent: ([.references[] | select(.refType == "CHILD_OF") | .spanID][0]),
            text: "\($trace.processes[.processID].serviceName): \(.operationName)",
            begin: .startTime,
            ms: (.duration / 1000)
          }] as $spans
        | def below($parent; $indent):
            $spans | map(select(.parent == $parent)) | sort_by(.begin)[]
            | "\($indent)\(.text)  \(.ms) ms", below(.id; $indent + "  ");
        if any($spans[]; .text | startswith("sinfonia-tier2"))
            and all($spans[]; .parent as $parent | $parent == null or any($spans[]; .id == $parent))
        then below(null; "  ") else empty end'
}

# What Prometheus knows; fails until it has seen both servers since the deployment.
figures() {
    local cloudlets deployments requests
    cloudlets=$(number sinfonia_tier1_cloudlets) &&
        deployments=$(number 'sum(sinfonia_deployments{state="deployed"}) > 0') &&
        requests=$(number 'sinfonia_tier1_deploys_total{outcome="deployed"} > 0') &&
        echo "cloudlets $cloudlets, deployments $deployments, deploy requests $requests"
}

# The first value that a query has.
number() {
    busybox wget -q -O - --post-data "query=$(jq --null-input --raw-output --arg query "$1" '$query | @uri')" \
        "$prometheus/api/v1/query" | jq --exit-status --raw-output '.data.result[0].value[1]'
}

# Makes the directory of this run, after removing what a killed run left of its own.
prepare() {
    local port ports=("$port1" "$port2")
    [ "$mode" != observe ] || ports+=("$((port1 + 2))" "$((port1 + 3))" "$((port1 + 4))")
    for port in "${ports[@]}"; do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "port $port is in use; choose another with DEMO_PORT=$((port1 + 1000)) (the next ones are taken too)"
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
    setsid setpriv --pdeathsig TERM "$@" </dev/null >"$run/$name.log" 2>&1 &
    pids+=($!)
}

# Runs a command, after options if there are any, at the client's end of the tunnel: in the background, so that this
# script can be stopped meanwhile, but on the terminal and with the signals of a foreground program.
client() {
    local options=()
    while [[ $1 = --* ]]; do
        options+=("$1")
        shift
    done
    env --default-signal=INT,QUIT setpriv --pdeathsig HUP \
        "$bin/sinfonia-tier3" "${options[@]}" "$tier1" helloworld "$@" <&0 &
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

#!/usr/bin/env bash
# Builds the programs as they are released and measures them: on this machine as an ordinary user, and on
# the cluster of `make cluster-up` as root.
#   scripts/bench.sh [FIGURE]
set -euo pipefail
cd "$(dirname "$0")/.."

built=${CARGO_TARGET_DIR:-target}/release
bench=$built/sinfonia-bench

main() {
    cargo build --locked --release -p sinfonia-tier1 -p sinfonia-tier2 -p sinfonia-tier3 -p sinfonia-gateway \
        -p sinfonia-bench
    # What is measured where, by the beginning of the figures' names.
    case ${1:-} in
    tier2_* | gateway_* | helm_* | pod_*) ;;
    *) here "$@" ;;
    esac
    case ${1:-} in
    '' | tier2_* | gateway_* | helm_* | pod_*) on_cluster "$@" ;;
    esac
}

here() {
    if [ "$(id -u)" != 0 ]; then
        env --unset=KUBECONFIG "$bench" "$@"
        return
    fi
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    scripts/stage.sh "$stage" release
    cp "$bench" "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/wireguard-go" "$stage/bin/"
    export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
    export SINFONIA_WIREGUARD_GO=$stage/bin/wireguard-go
    env --unset=KUBECONFIG scripts/as-user.sh "$stage/bin/sinfonia-bench" "$@"
}

on_cluster() {
    scripts/setup.sh cluster
    scripts/cluster.sh up
    scripts/cloudlet.sh release
    # shellcheck disable=SC2046  # names
    scripts/cluster.sh load $(scripts/images.sh tier1 tier2 gateway postgres)
    local settings
    settings=$(scripts/cluster.sh env)
    eval "$settings"
    SINFONIA_BIN_DIR=$PWD/$built scripts/cluster.sh run "$bench" "$@"
}

main "$@"

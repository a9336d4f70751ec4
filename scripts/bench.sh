#!/usr/bin/env bash
# Builds the programs as they are released and measures them: on this machine as an ordinary user, and on
# the cluster of `make cluster-up` as root. Measures the images too, and how long they take to make.
#   scripts/bench.sh [FIGURE]
set -euo pipefail
cd "$(dirname "$0")/.."

bench=${CARGO_TARGET_DIR:-target}/release/sinfonia-bench

main() {
    case ${1:-} in
    image_mb_* | images_build_s_*) ;;
    *)
        built=$(scripts/programs.sh)
        cargo build --locked --release -p sinfonia-bench
        ;;
    esac
    # What is measured where, by the beginning of the figures' names.
    case ${1:-} in
    tier2_* | gateway_* | helm_* | pod_* | image_mb_* | images_build_s_*) ;;
    *) here "$@" ;;
    esac
    case ${1:-} in
    '' | tier2_* | gateway_* | helm_* | pod_*) on_cluster "$@" ;;
    esac
    case ${1:-} in
    '' | image_mb_* | images_build_s_*) images "$@" ;;
    esac
}

here() {
    if [ "$(id -u)" != 0 ]; then
        env --unset=KUBECONFIG SINFONIA_BIN_DIR="$built" "$bench" "$@"
        return
    fi
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    scripts/stage.sh "$stage" "$built"
    cp "$bench" "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/wireguard-go" "$stage/bin/"
    export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
    export SINFONIA_WIREGUARD_GO=$stage/bin/wireguard-go
    env --unset=KUBECONFIG scripts/as-user.sh "$stage/bin/sinfonia-bench" "$@"
}

on_cluster() {
    scripts/setup.sh cluster
    scripts/cluster.sh up
    scripts/cloudlet.sh
    scripts/cluster.sh images tier1 tier2 gateway postgres
    local settings
    settings=$(scripts/cluster.sh env)
    eval "$settings"
    SINFONIA_BIN_DIR=$built scripts/cluster.sh run "$bench" "$@"
}

# Of the images' files, without compression; and the time to make them all with everything compiled, and with nothing
# compiled and no packages, but with crates and Go's modules on this machine.
images() {
    local wanted=${1:-} directory fresh name
    scripts/setup.sh images
    scripts/images.sh >/dev/null
    directory=$(cargo metadata --locked --no-deps --format-version 1 | jq -r .target_directory)/images
    for name in tier1 tier2 tier3 gateway helloworld; do
        case $wanted in '' | "image_mb_$name") figure "image_mb_$name" "$(megabytes "$directory/sinfonia-$name"-*.tar)" MB ;; esac
    done
    case $wanted in
    '' | images_build_s_warm)
        rm -f "$directory"/sinfonia-*.key
        figure images_build_s_warm "$(seconds scripts/images.sh)" s
        ;;
    esac
    case $wanted in
    '' | images_build_s_cold)
        fresh=$(mktemp -d)
        figure images_build_s_cold "$(seconds env XDG_CACHE_HOME="$fresh/cache" CARGO_TARGET_DIR="$fresh/target" \
            CARGO_BUILD_BUILD_DIR="$fresh/target" GOCACHE="$fresh/go" scripts/images.sh)" s
        rm -rf "$fresh"
        ;;
    esac
}

figure() { echo "figure $1 $2 $3"; }

megabytes() {
    local manifest layer
    blob() { tar -xOf "$1" "blobs/${2/://}"; }
    manifest=$(tar -xOf "$1" index.json | jq -r '.manifests[0].digest')
    for layer in $(blob "$1" "$manifest" | jq -r '.layers[].digest'); do
        blob "$1" "$layer" | gzip -dc
    done | wc -c | awk '{printf "%.3f", $1 / 1e6}'
}

seconds() {
    local begin=$EPOCHREALTIME
    "$@" >/dev/null
    awk -v begin="$begin" -v end="$EPOCHREALTIME" 'BEGIN {printf "%.3f", end - begin}'
}

main "$@"

#!/usr/bin/env bash
# A kind cluster of two nodes to try things on and to test on, in the Docker engine of this machine or,
# where none answers, in one of its own, whose network is closed (tests/lab).
#   scripts/cluster.sh up              make it, unless it is there and well, and load the images for pods
#   scripts/cluster.sh down            remove it, and what a run that was killed left
#   scripts/cluster.sh env             print how a shell uses it, as export lines
#   scripts/cluster.sh run COMMAND...  run a command where the nodes can be reached
#   scripts/cluster.sh load IMAGE...   load images, by name or archive, into the nodes
#   scripts/cluster.sh images NAME...  make and load these of images/; without a name those that are released
# SINFONIA_NODE_IMAGE is the nodes' image where a registry can be reached: kindest/node.
set -euo pipefail

project=$(dirname "$(dirname "$(realpath "$0")")")
lab=$project/tests/lab
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/lab
# Where setup.sh puts Go.
PATH=${cache%/lab}/go/bin:$PATH
name=sinfonia
# What kind 0.33, which tests/lab/go.mod names, takes by itself.
kindest=${SINFONIA_NODE_IMAGE:-kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5}
# What is known of the present cluster: key says what it was made from, images/ what was loaded.
state=$cache/cluster
export KUBECONFIG=$cache/kubeconfig

main() {
    local verb=${1:-}
    [ $# = 0 ] || shift
    case $verb in
    up) up ;;
    # The part of up that ends with it.
    up-tied) up_tied "$@" ;;
    down) down ;;
    env)
        use
        settings
        ;;
    run)
        use
        # In the place of this script, so that signals reach the command.
        exec ${netns:+nsenter --net="/run/netns/$netns"} "$@"
        ;;
    load)
        use
        load "$@"
        ;;
    images)
        use
        images "$@"
        ;;
    *) die "what should be done: up, down, env, run, load or images?" ;;
    esac
}

say() { echo "==> $*" >&2; }
die() {
    say "$*"
    exit 1
}

up() {
    one_at_a_time
    engine || "$lab/engine.sh" up
    engine || die "the Docker engine does not answer"
    tied "$(realpath "$0")" up-tied "$netns"
}

# Runs a command that is killed if this script is; where root does it, with all that it started and
# mounted.
tied() {
    local namespaces=()
    if [ "$(id -u)" = 0 ]; then
        namespaces=(unshare --mount --pid --fork --kill-child --mount-proc)
    fi
    setpriv --pdeathsig KILL "${namespaces[@]}" "$@"
}

up_tied() {
    netns=$1
    tools build
    well || create
    inside kubectl apply -f "$project/deploy/kind/namespace.yaml" >/dev/null
    images helloworld toolbox
    "$project/scripts/charts.sh" >/dev/null
    hint
}

down() {
    one_at_a_time
    # An engine that was killed still has the nodes' files.
    if ! engine && [ -n "$(ls -A "$cache/engine/data/containers" 2>/dev/null)" ]; then
        "$lab/engine.sh" up
    fi
    if engine; then
        remove
    fi
    if [ "$(id -u)" = 0 ]; then
        "$lab/engine.sh" down
    fi
    say "the cluster is gone"
}

use() {
    { engine && [ -e "$state/key" ]; } || die "there is no cluster: make cluster-up"
    tools
}

hint() {
    say "the cluster is up. What to tell a shell:"
    settings
    if [ -n "$netns" ]; then
        say "its nodes are reached from its network namespace only; to be there, as root:"
        echo "nsenter --net=/run/netns/$netns"
    fi
}

settings() {
    local paths=$tools
    if [ -n "$netns" ]; then
        echo "export DOCKER_HOST=$DOCKER_HOST"
        paths=${paths:+$paths:}$cache/engine/root/usr/bin
    fi
    echo "export KUBECONFIG=$KUBECONFIG"
    echo "export SINFONIA_CLUSTER_NETNS=$netns"
    [ -z "$paths" ] || echo "export PATH=$paths:\$PATH"
}

# The lab's engine if it runs, else the machine's. Sets netns, which is empty for the machine's.
engine() {
    local found
    netns=
    if found=$("$lab/engine.sh" env); then
        eval "$found"
    else
        timeout 10 docker info >/dev/null 2>&1
    fi
}

# Finds the tools, and builds them if told so. The lab has its own, which fit its node image; elsewhere
# those of the machine do. Sets tools to the directory of those built here.
tools() {
    local programs=()
    tools=
    if [ -z "$netns" ]; then
        if have kind && have kubectl && have helm; then
            return
        fi
        programs=(kind kubectl helm)
    fi
    tools=$("$lab/tools.sh" --directory)
    PATH=$tools:$PATH
    if [ "${1:-}" = build ]; then
        "$lab/tools.sh" "${programs[@]}" >/dev/null
    fi
}

have() { command -v "$1" >/dev/null; }

inside() {
    if [ -n "$netns" ]; then
        nsenter --net="/run/netns/$netns" "$@"
    else
        "$@"
    fi
}

one_at_a_time() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    if ! flock --nonblock 9; then
        say "waiting for another run"
        flock 9
    fi
}

# Whether the cluster was made from the present files and all of it works.
well() {
    [ "$(cat "$state/key" 2>/dev/null)" = "$(key)" ] && ready 30
}

key() {
    {
        cat "$project/deploy/kind/cluster.yaml"
        if [ -n "$netns" ]; then "$lab/node-image.sh" --name; else echo "$kindest"; fi
    } | sha256sum
}

ready() {
    inside kubectl wait node --all --for=condition=Ready --timeout="$1s" >/dev/null 2>&1 &&
        inside kubectl wait --namespace kube-system deployment/coredns --for=condition=Available \
            --timeout="$1s" >/dev/null 2>&1
}

create() {
    local image
    remove
    image=$(node_image)
    say "making the cluster"
    kind_create "$image" || {
        say "trying once more"
        remove
        kind_create "$image" || die "kind cannot make the cluster"
    }
    ready 120 || die "the nodes do not become ready: $(inside kubectl get node,pod -A 2>&1)"
    mkdir -p "$state/images"
    key >"$state/key"
}

kind_create() {
    inside timeout --foreground 300 kind create cluster --quiet --name $name \
        --config "$project/deploy/kind/cluster.yaml" --image "$1" --wait 120s
}

remove() {
    local nodes
    rm -rf "$state"
    mapfile -t nodes < <(docker ps --all --quiet --filter "label=io.x-k8s.kind.cluster=$name")
    if [ ${#nodes[@]} -gt 0 ]; then
        say "removing the present cluster"
        docker rm --force --volumes "${nodes[@]}" >/dev/null
    fi
    rm -f "$KUBECONFIG"
}

# Kind's own image where it can be had, else the lab's.
node_image() {
    if [ -z "$netns" ] && pull "$kindest"; then
        echo "$kindest"
    else
        "$project/scripts/setup.sh" lab
        "$lab/node-image.sh"
    fi
}

pull() {
    docker image inspect "$1" >/dev/null 2>&1 || docker pull --quiet "$1" >/dev/null 2>&1
}

images() {
    local made
    made=$("$project/scripts/images.sh" "$@")
    # shellcheck disable=SC2086  # one name a line
    load $made
}

# Loads images that the nodes do not have yet.
load() {
    local image id known
    for image in "$@"; do
        if [ -f "$image" ]; then
            inside kind load image-archive --name $name "$image"
            continue
        fi
        id=$(docker image inspect --format '{{.Id}}' "$image") || die "the Docker engine has no image $image"
        known=$state/images/$(sha256sum <<<"$image" | cut -c -32)
        if [ "$(cat "$known" 2>/dev/null)" != "$id" ]; then
            say "loading $image into the nodes"
            inside kind load docker-image --quiet --name $name "$image"
            echo "$id" >"$known"
        fi
    done
}

main "$@"

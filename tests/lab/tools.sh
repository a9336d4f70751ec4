#!/usr/bin/env bash
# Builds the programs that go.mod names, once for each state of it, and prints the directory they are in.
#   tests/lab/tools.sh [PROGRAM]...      all of them, or those named (kind, kubectl, helm, ...)
#   tests/lab/tools.sh --directory       print only
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/lab
key=$(cat go.mod go.sum | sha256sum | cut -c -12)
directory=$cache/tools-$key

main() {
    if [ "${1:-}" != --directory ]; then
        build "$@"
        prune
    fi
    echo "$directory"
}

say() { echo "lab: $*" >&2; }

build() {
    local package missing=()
    for package in $(packages "$@"); do
        [ -x "$directory/$(program "$package")" ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "building $(for package in "${missing[@]}"; do program "$package"; done | paste -sd ' '); all of them take some 10 minutes"
    mkdir -p "$directory"
    rm -rf "$directory.new"
    # Go names each package that it compiles.
    if ! CGO_ENABLED=0 GOBIN=$directory.new go install -v -trimpath -ldflags "$(versions)" "${missing[@]}" 2>&1 |
        tee "$directory.log" | awk 'NR % 500 == 0 { print "lab: " NR " packages compiled" > "/dev/stderr" }'; then
        tail -n 20 "$directory.log" >&2
        exit 1
    fi
    # A program appears in its place when it is whole.
    mv "$directory.new"/* "$directory"
    rmdir "$directory.new"
}

# The packages of the programs, as go.mod lists them.
packages() {
    local package name
    sed -n '/^tool (/,/^)/s/^\t//p' go.mod | while read -r package; do
        if [ $# = 0 ]; then
            echo "$package"
        fi
        for name in "$@"; do
            [ "$name" != "$(program "$package")" ] || echo "$package"
        done
    done
}

# What go calls the program of a package: its last element that is no version.
program() {
    local path=${1%/v[0-9]}
    echo "${path##*/}"
}

# Without these kubeadm and Helm take themselves and the cluster for v0.0.0.
versions() {
    local version rest package flags='-s -w'
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    rest=${version#v*.}
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${rest%%.*}"
    done
    echo "$flags"
}

# Other checkouts may use those of other states of go.mod.
prune() {
    touch "$directory"
    find "$cache" -maxdepth 1 -name 'tools-*' -mtime +14 -exec rm -rf {} +
}

main "$@"

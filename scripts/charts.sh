#!/usr/bin/env bash
# Packages the charts: the one that recipes name beside the recipes and into the charts that serve it, and
# those of the tiers. The same files make the same package.
#   scripts/charts.sh [DIRECTORY]            the demo backend's, into RECIPES or another directory
#   scripts/charts.sh --packages DIRECTORY   all of them
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    if [ "${1:-}" != --packages ]; then
        package helloworld "${1:-RECIPES}"
        package helloworld charts/sinfonia-tier2/files
        return
    fi
    local chart
    package helloworld charts/sinfonia-tier2/files
    for chart in sinfonia-tier1 sinfonia-tier2 helloworld; do
        package $chart "$2"
    done
}

package() {
    local version package
    version=$(sed -n 's/^version: *//p' "charts/$1/Chart.yaml")
    package=$2/$1-$version.tgz
    mkdir -p "$2"
    tar -C charts --exclude='*.gotmpl' --exclude=ci --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
        --mode=go=rX,u+rw -c "$1" | gzip -n >"$package.new"
    mv "$package.new" "$package"
    echo "$package"
}

main "$@"

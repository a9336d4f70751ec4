#!/usr/bin/env bash
# Packages the charts that recipes name, beside the recipes. The same files make the same package.
#   scripts/charts.sh [DIRECTORY]     RECIPES, or another directory
set -euo pipefail
cd "$(dirname "$0")/.."

directory=${1:-RECIPES}

main() { package helloworld; }

package() {
    local version package
    version=$(sed -n 's/^version: *//p' "charts/$1/Chart.yaml")
    package=$directory/$1-$version.tgz
    mkdir -p "$directory"
    tar -C charts --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw -c "$1" |
        gzip -n >"$package.new"
    mv "$package.new" "$package"
}

main

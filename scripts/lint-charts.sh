#!/usr/bin/env bash
# Checks the charts: Helm's own lint, all they render against Kubernetes' schemas, and whether what is generated from
# them (their READMEs, deploy/kubernetes) is up to date.
#   scripts/lint-charts.sh [--write]      or brings the latter up to date
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev
# What setup.sh lint provides.
PATH=$cache/go/bin:$(tests/lab/tools.sh --directory):$cache/bin:$PATH
kubernetes=1.35
charts=(charts/helloworld charts/sinfonia-tier1 charts/sinfonia-tier2)

main() {
    rendered=$(mktemp -d)
    trap 'rm -rf "$rendered"' EXIT
    scripts/charts.sh >/dev/null
    if [ "${1:-}" = --write ]; then
        scripts/manifests.sh
        documentation charts
        return
    fi
    for chart in "${charts[@]}"; do
        render "$chart" default
        for values in "$chart"/ci/*.yaml; do
            [ -e "$values" ] || continue
            render "$chart" "$(basename "$values" .yaml)" --values "$values"
        done
    done
    # It has no schema of the Prometheus operator's resources, and says so.
    "$cache/kubernetes-validate/bin/kubernetes-validate" --strict --quiet --no-warn --kubernetes-version $kubernetes \
        "$rendered"/*.yaml
    up_to_date
}

render() {
    local chart=$1 name=$2
    shift 2
    helm lint --strict --quiet "$chart" "$@"
    helm template test "$chart" --namespace sinfonia --kube-version $kubernetes.0 "$@" \
        >"$rendered/${chart##*/}-$name.yaml"
    # Helm writes large numbers so, which programs do not read.
    if grep -n '"[0-9.]*e+[0-9]*"' "$rendered/${chart##*/}-$name.yaml" >&2; then
        echo "$chart renders numbers as above: int64 helps" >&2
        exit 1
    fi
}

up_to_date() {
    scripts/manifests.sh --check
    mkdir "$rendered/charts"
    cp -r "${charts[@]}" "$rendered/charts/"
    documentation "$rendered/charts"
    for chart in "${charts[@]}"; do
        diff "$chart/README.md" "$rendered/$chart/README.md" >&2 ||
            { echo "$chart/README.md is not what its values say: run scripts/lint-charts.sh --write" >&2 && exit 1; }
    done
}

documentation() { helm-docs --chart-search-root "$1" --sort-values-order file --log-level warning; }

main "$@"

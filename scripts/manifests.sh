#!/usr/bin/env bash
# Renders deploy/kubernetes from the chart sinfonia-tier2: the resources, rights and gateway of a cloudlet whose tier2
# runs elsewhere, for those who do without Helm.
#   scripts/manifests.sh           write them
#   scripts/manifests.sh --check   fail if they are not what the chart gives
set -euo pipefail
cd "$(dirname "$0")/.."

chart=charts/sinfonia-tier2
directory=deploy/kubernetes

main() {
    rendered=$(mktemp -d)
    trap 'rm -rf "$rendered"' EXIT
    mkdir "$rendered/crds"
    cp $chart/files/crds/*.yaml "$rendered/crds/"
    render rbac tier2
    render deployer deployer
    render gateway gateway
    if [ "${1:-}" = --check ]; then
        diff -r $directory "$rendered" >&2 || {
            echo "$directory is not what the chart gives: run scripts/manifests.sh" >&2
            exit 1
        }
    else
        rm -rf $directory
        cp -r "$rendered" $directory
        chmod -R go+rX $directory
    fi
}

render() {
    {
        echo "# Rendered from $chart/templates/$1.yaml by scripts/manifests.sh."
        # Nothing here belongs to a release.
        helm template sinfonia-tier2 $chart --namespace sinfonia --kube-version 1.35.0 --set gateway.enabled=true \
            --show-only "templates/$1.yaml" |
            grep -v -e '^# Source: ' -e '^ *helm.sh/chart: ' -e '^ *app.kubernetes.io/managed-by: '
    } >"$rendered/$2.yaml"
}

main "$@"

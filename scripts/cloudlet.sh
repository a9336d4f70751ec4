#!/usr/bin/env bash
# Puts on the cluster what a cloudlet needs beside tier2, which tests and measurements start themselves: the chart
# sinfonia-tier2 without pods of tier2.
set -euo pipefail
cd "$(dirname "$0")/.."

image=sinfonia-gateway:0.1.0

kubectl() { scripts/cluster.sh run kubectl "$@"; }

eval "$(scripts/cluster.sh env)"
scripts/cluster.sh images gateway
scripts/charts.sh >/dev/null
# The name of the image stays the same when its content does not. On another node after a restart, the gateway would
# have another endpoint.
scripts/cluster.sh run helm upgrade --install sinfonia-tier2 charts/sinfonia-tier2 --namespace sinfonia --take-ownership \
    --reset-values --set replicas=0 --set gateway.enabled=true \
    --set-string "gateway.podAnnotations.image-id=$(docker image inspect --format '{{.Id}}' $image | cut -c 8-47)" \
    --set 'gateway.nodeSelector.kubernetes\.io/hostname=sinfonia-worker' >/dev/null
kubectl wait --for=condition=Established --timeout=60s crd/cloudletdeployments.findcloudlet.org >/dev/null
kubectl -n sinfonia rollout status --timeout=120s deployment/sinfonia-gateway || {
    echo "==> the gateway does not come up:" >&2
    kubectl -n sinfonia describe pods >&2
    kubectl -n sinfonia logs deployment/sinfonia-gateway --all-containers >&2
    exit 1
}

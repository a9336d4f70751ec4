#!/usr/bin/env bash
# Puts on the cluster what a cloudlet needs beside tier2: the custom resource, the rights, and the gateway.
set -euo pipefail
cd "$(dirname "$0")/.."

image=sinfonia-gateway:0.1.0

kubectl() { scripts/cluster.sh run kubectl "$@"; }

eval "$(scripts/cluster.sh env)"
before=$(docker image inspect --format '{{.Id}}' $image 2>/dev/null || true)
scripts/cluster.sh images gateway
kubectl apply -f deploy/kubernetes/crds/ -f deploy/kubernetes/ >/dev/null
# On another node after a restart, it would have another endpoint.
kubectl -n sinfonia patch deployment sinfonia-gateway --patch \
    '{"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "sinfonia-worker"}}}}}' >/dev/null
# The name of the image stays the same when its content does not.
if [ "$before" != "$(docker image inspect --format '{{.Id}}' $image)" ]; then
    kubectl -n sinfonia rollout restart deployment/sinfonia-gateway >/dev/null
fi
kubectl wait --for=condition=Established --timeout=60s crd/cloudletdeployments.findcloudlet.org >/dev/null
kubectl -n sinfonia rollout status --timeout=120s deployment/sinfonia-gateway || {
    echo "==> the gateway does not come up:" >&2
    kubectl -n sinfonia describe pods >&2
    kubectl -n sinfonia logs deployment/sinfonia-gateway --all-containers >&2
    exit 1
}

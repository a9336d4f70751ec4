# What deploy/kind/up, down and demo share. Sourced.
# shellcheck shell=bash disable=SC2034

cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../.." || exit
namespace=sinfonia
# tier1's port on every node.
node_port=30500

say() { echo "==> $*" >&2; }
die() {
    say "$*"
    exit 1
}

kubectl() { scripts/cluster.sh run kubectl "$@"; }
helm() { scripts/cluster.sh run helm "$@"; }

# Where a laptop reaches tier1.
tier1_url() {
    local address
    address=$(kubectl get nodes --output jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
    [ -n "$address" ] || die "the cluster's nodes have no addresses"
    echo "http://$address:$node_port"
}

#!/bin/sh
# The pod network of a node, in the place of kind's own, whose image only a registry has: a bridge with
# the node's range of pod addresses, routes to the other nodes' ranges, and masquerading of what leaves
# the pod network. Runs in a DaemonSet with NODE and POD_SUBNET set, and follows the nodes as they change.
set -u

nodes='{.metadata.name}|{.spec.podCIDR}|{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}'

main() {
    masquerade
    while :; do
        kubectl get nodes --watch -o jsonpath="$nodes" | while IFS='|' read -r name range address; do
            if [ -z "$range" ] || [ -z "$address" ]; then
                continue
            elif [ "$name" = "$NODE" ]; then
                configure "$range"
            else
                ip route replace "$range" via "$address"
            fi
        done
        # The API server ends watches now and then, and is not always there.
        sleep 1
    done
}

masquerade() {
    nft -f - <<EOF
table ip bridge-cni
delete table ip bridge-cni
table ip bridge-cni {
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr $POD_SUBNET ip daddr != $POD_SUBNET masquerade
    }
}
EOF
}

# Whole or not at all: containerd reads the file whenever it changes.
configure() {
    file=/etc/cni/net.d/10-bridge.conflist
    cat >/tmp/conflist <<EOF
{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$1"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
EOF
    cmp -s /tmp/conflist "$file" && return
    cp /tmp/conflist "$file.new"
    mv "$file.new" "$file"
}

main

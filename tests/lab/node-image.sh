#!/usr/bin/env bash
# Makes kind's node image where no registry has one, unless the engine has it, and prints its name.
#   tests/lab/node-image.sh          make it
#   tests/lab/node-image.sh --name   print only
# The programs in it come from tools.sh, everything else from Debian and from kind's Go module. As root,
# with DOCKER_HOST as engine.sh says. It differs from kind's own image in what machines without
# CAP_SYS_RESOURCE or with cgroups v1 need, and in its pod network (bridge-cni.sh).
set -euo pipefail
cd "$(dirname "$0")"

suite=bookworm
cni=localhost/sinfonia/bridge-cni:1
key=$(cat go.mod go.sum debian-image.sh node-image.sh bridge-cni.* pause.c runc-* | sha256sum | cut -c -12)
tag=localhost/sinfonia/node:$key
work=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/lab/node-image
root=$work/root

main() {
    if [ "${1:-}" != --name ] && ! docker image inspect "$tag" >/dev/null 2>&1; then
        make
    fi
    echo "$tag"
}

say() { echo "lab: $*" >&2; }

make() {
    local debian
    programs=$(./tools.sh)
    say "making the node image, which takes some 2 minutes"
    clear_work
    mkdir -p "$work"
    debian &
    debian=$!
    pod_images
    wait $debian
    kind_files
    services
    kubernetes
    preload
    commit
    clear_work
}

clear_work() { rm -rf --one-file-system "$work"; }

debian() {
    local packages=systemd,systemd-sysv,dbus,conntrack,iptables,nftables,iproute2,ethtool,util-linux,mount,kmod
    packages+=,libseccomp2,pigz,e2fsprogs,bash,ca-certificates,curl,jq,procps,containerd,runc,socat
    mmdebstrap --quiet --variant=minbase --include=$packages \
        --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
        --dpkgopt=path-exclude='/usr/share/locale/*' $suite "$root"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
}

# The images of the control plane and of the pod network, by the names that kubeadm asks for.
pod_images() {
    local version image name images=()
    version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    for image in $("$programs/kubeadm" config images list --kubernetes-version "$version"); do
        images+=("$image")
        name=${image##*/}
        name=${name%:*}
        case $name in
        kube-proxy) debian_image "$image" "$programs/kube-proxy" ;;
        etcd) program_image "$image" "$programs/server" /usr/local/bin/etcd ;;
        coredns) program_image "$image" "$programs/coredns" /coredns ;;
        pause)
            pause=$image
            gcc -static -O2 -o "$work/pause" pause.c
            program_image "$image" "$work/pause" /pause
            ;;
        *) program_image "$image" "$programs/$name" "/usr/local/bin/$name" ;;
        esac
    done
    debian_image $cni "$programs/kubectl" bridge-cni.sh --entrypoint bridge-cni.sh
    images+=("$cni")
    docker save --output "$work/images.tar" "${images[@]}"
    docker image rm "${images[@]}" >/dev/null
}

# An image with nothing but one program: NAME, FILE, its path in there.
program_image() {
    rm -rf "$work/image"
    install -D "$2" "$work/image$3"
    tar -C "$work/image" -c . |
        docker import --change "ENTRYPOINT [\"$3\"]" --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$1" >/dev/null
}

# An image with Debian's network programs and others: NAME, FILE..., and which one it runs.
debian_image() {
    local name=$1 files=() entrypoint=''
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --entrypoint)
            entrypoint="ENTRYPOINT [\"$2\"]"
            shift
            ;;
        *) files+=("$1") ;;
        esac
        shift
    done
    rm -rf "$work/image"
    mkdir "$work/image"
    install "${files[@]}" "$work/image"
    printf 'FROM %s\nCOPY . /usr/local/bin/\n%s\n' "$(./debian-image.sh)" "$entrypoint" |
        docker build --quiet --tag "$name" --file - "$work/image" >/dev/null
}

# What the Dockerfile of kind's base image does, with the files beside it.
kind_files() {
    local unit files wants=$root/etc/systemd/system/multi-user.target.wants
    files=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/images/base/files
    cp -r --no-preserve=mode,ownership "$files/." "$root"
    chmod 755 "$root"/usr/local/bin/* "$root/kind" "$root"/kind/bin "$root"/kind/bin/*
    rm -f "$root"/lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* \
        "$root"/etc/systemd/system/*.wants/* \
        "$root"/lib/systemd/system/sockets.target.wants/*{udev,initctl}* \
        "$root"/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
    echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
    mkdir -p "$wants"
    for unit in kubelet containerd undo-mount-hacks; do
        ln -sf "/etc/systemd/system/$unit.service" "$wants/"
    done
    ln -sf /dev/null "$root/etc/systemd/system/systemd-binfmt.service"
    ln -sf /usr/lib/systemd/systemd "$root/sbin/init"
    ln -sf /usr/bin/containerd /usr/bin/ctr "$root/usr/local/bin/"
    chroot "$root" ctr oci spec |
        jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
            >"$root/etc/containerd/cri-base.json"
}

# Debian's containerd is older than the one of kind's image, and may be without CAP_SYS_RESOURCE.
services() {
    sed -i '/^OOMScoreAdjust/d; /^LimitN/d; /^LimitCORE/d' "$root/etc/systemd/system/containerd.service"
    sed -i "s/restrict_oom_score_adj = false/restrict_oom_score_adj = true/; s#^  sandbox_image = .*#  sandbox_image = \"$pause\"#" \
        "$root/etc/containerd/config.toml"
    install runc-without-sys-resource "$root/usr/local/sbin/runc"
    sed -i 's/containerd.service$/containerd.service --fail-cgroupv1=false/' "$root/etc/default/kubelet"
    # Docker turns forwarding on in its own network namespace; a node has it from the machine's, which may not forward.
    install -d "$root/etc/systemd/system/kubelet.service.d"
    printf '[Service]\nExecStartPre=/sbin/sysctl --quiet --write net.ipv4.ip_forward=1\n' \
        >"$root/etc/systemd/system/kubelet.service.d/20-forward.conf"
}

# What kind adds to its base image.
kubernetes() {
    mkdir -p "$root"/{etc/kubernetes/manifests,etc/cni/net.d,opt/cni/bin,kind/manifests}
    install "$programs"/{kubeadm,kubelet,kubectl} "$root/usr/bin/"
    install "$programs"/{bridge,host-local,loopback,portmap} "$root/opt/cni/bin/"
    printf %s "$(go list -m -f '{{.Version}}' k8s.io/kubernetes)" >"$root/kind/version"
    install -m 644 bridge-cni.yaml "$root/kind/manifests/default-cni.yaml"
    cat >"$root/kind/manifests/default-storage.yaml" <<EOF
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
provisioner: kubernetes.io/no-provisioner
EOF
}

# Puts the pod images into the store of the node's containerd.
preload() {
    local socket=$work/containerd.sock containerd image
    cat >"$work/containerd.toml" <<EOF
version = 2
root = "$root/var/lib/containerd"
state = "$work/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$socket"
EOF
    containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
    containerd=$!
    until ctr --address "$socket" version >/dev/null 2>&1; do
        kill -0 $containerd || {
            tail -n 5 "$work/containerd.log" >&2
            exit 1
        }
        sleep 0.1
    done
    store() { ctr --address "$socket" --namespace k8s.io images "$@"; }
    store import --all-platforms --no-unpack --digests "$work/images.tar" >/dev/null
    for image in $(store ls --quiet); do
        store label "$image" io.cri-containerd.pinned=pinned >/dev/null
    done
    kill $containerd
    wait $containerd || true
}

commit() {
    tar -C "$root" -c . | docker import --change 'ENV container=docker' \
        --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' - localhost/sinfonia/node:raw >/dev/null
    # Import knows no stop signal.
    printf 'FROM localhost/sinfonia/node:raw\nSTOPSIGNAL SIGRTMIN+3\n' | docker build --quiet --tag "$tag" - >/dev/null
    docker image rm localhost/sinfonia/node:raw >/dev/null
    # A cluster that runs keeps its own.
    docker image ls --format '{{.Repository}}:{{.Tag}}' localhost/sinfonia/node | grep -vxF "$tag" |
        xargs --no-run-if-empty docker image rm >/dev/null 2>&1 || true
}

main "$@"

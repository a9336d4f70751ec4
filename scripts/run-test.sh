#!/usr/bin/env bash
# Cargo's runner for the end-to-end tests: the test targets named root, cluster* and images run as root, the others
# as an ordinary user, whoever calls.
set -euo pipefail

test=$1
shift
here=$(dirname "$0")
me=$(id -u)

main() {
    case ${test##*/} in
    root-*) as_root "$test" "$@" ;;
    cluster*-* | charts-*)
        # Makes the user as whom these tests run clients.
        as_root "$here/as-user.sh" true
        # Where the cluster's nodes can be reached, which is a network namespace unless the host reaches them.
        if [ -n "${SINFONIA_CLUSTER_NETNS:-}" ]; then
            as_root nsenter --net="/run/netns/$SINFONIA_CLUSTER_NETNS" "$test" "$@"
        else
            as_root "$test" "$@"
        fi
        ;;
    images-*)
        # Containers, mounts and files end with the test, however that ends.
        # shellcheck disable=SC2016  # for the shell below
        as_root ${SINFONIA_CLUSTER_NETNS:+nsenter --net="/run/netns/$SINFONIA_CLUSTER_NETNS"} \
            unshare --mount --pid --fork --kill-child --mount-proc \
            bash -c 'mount -t tmpfs tmpfs /mnt && TMPDIR=/mnt exec "$@"' - "$test" "$@"
        ;;
    *)
        [ "$me" != 0 ] && exec "$test" "$@"
        # The checkout may lie where only root can read.
        cp "$test" "$SINFONIA_STAGE/"
        exec "$here/as-user.sh" "$SINFONIA_STAGE/${test##*/}" "$@"
        ;;
    esac
}

as_root() {
    if [ "$me" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --preserve-env "$@"
    elif [ -n "${CI:-}" ]; then
        echo "${test##*/} has to run as root, and there is no sudo" >&2
        exit 1
    else
        echo "skipped: ${test##*/} has to run as root, and there is no sudo" >&2
        exit 0
    fi
}

main "$@"

#!/usr/bin/env bash
# Cargo's runner for the end-to-end tests: the test target named root runs as root, the others as an
# ordinary user, whoever calls.
set -euo pipefail

test=$1
shift
me=$(id -u)
case ${test##*/} in
root-*)
    if [ "$me" = 0 ]; then
        exec "$test" "$@"
    elif command -v sudo >/dev/null; then
        exec sudo --preserve-env "$test" "$@"
    elif [ -n "${CI:-}" ]; then
        echo "${test##*/} has to run as root, and there is no sudo" >&2
        exit 1
    fi
    echo "skipped: ${test##*/} has to run as root, and there is no sudo" >&2
    ;;
*)
    [ "$me" != 0 ] && exec "$test" "$@"
    # The checkout may lie where only root can read.
    cp "$test" "$SINFONIA_STAGE/"
    exec "$(dirname "$0")/as-user.sh" "$SINFONIA_STAGE/${test##*/}" "$@"
    ;;
esac

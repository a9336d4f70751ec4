#!/usr/bin/env bash
# Builds the three programs and runs the end-to-end tests on them.
#   scripts/e2e.sh [ARGUMENT OF THE TEST RUNNER]...
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked
cargo test --locked -p sinfonia-tests --tests --no-run

# What the tests need, where every user can read it.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
mkdir "$stage/bin"
for tier in 1 2 3; do
    cp "${CARGO_TARGET_DIR:-target}/debug/sinfonia-tier$tier" "$stage/bin/"
done
cp -r "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/reference-client/" "$stage/reference-client"
sed -i "1s|^#!.*|#!$stage/reference-client/bin/python3|" \
    "$stage"/reference-client/bin/{sinfonia-tier3,wireguard4netns,wg-py}
chmod -R a+rX "$stage"

export SINFONIA_STAGE=$stage
export SINFONIA_BIN_DIR=$stage/bin
export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
cargo test --locked -p sinfonia-tests --tests --no-fail-fast \
    --config "target.'cfg(unix)'.runner='$PWD/scripts/run-test.sh'" -- "$@"

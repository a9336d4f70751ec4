#!/usr/bin/env bash
# Builds the three programs and runs the end-to-end tests on them, and those of namespaces as the user
# who may do least.
#   scripts/e2e.sh [ARGUMENT OF THE TEST RUNNER]...
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked
cargo test --locked -p sinfonia-tests --tests --no-run

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
scripts/stage.sh "$stage" debug

export SINFONIA_STAGE=$stage
export SINFONIA_BIN_DIR=$stage/bin
export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
runner="target.'cfg(unix)'.runner='$PWD/scripts/run-test.sh'"
cargo test --locked -p sinfonia-tunnel --test namespace --config "$runner" -- "$@"
cargo test --locked -p sinfonia-tests --tests --no-fail-fast --config "$runner" -- "$@"

#!/usr/bin/env bash
# Builds the three programs as they are released and measures them, always as an ordinary user.
#   scripts/bench.sh [FIGURE]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --release -p sinfonia-tier1 -p sinfonia-tier2 -p sinfonia-tier3 -p sinfonia-bench
bench=${CARGO_TARGET_DIR:-target}/release/sinfonia-bench
[ "$(id -u)" = 0 ] || exec "$bench" "$@"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
scripts/stage.sh "$stage" release
cp "$bench" "$stage/bin/"
export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
scripts/as-user.sh "$stage/bin/sinfonia-bench" "$@"

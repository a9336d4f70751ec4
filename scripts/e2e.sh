#!/usr/bin/env bash
# Builds all programs and images and runs the end-to-end tests on them: on this machine as the user who may do least
# and as root, in containers, and on a cluster.
#   scripts/e2e.sh [ARGUMENT OF THE TEST RUNNER]...
# SINFONIA_E2E names other test targets than those that always have to pass.
set -euo pipefail
cd "$(dirname "$0")/.."

# As they are released, but for optimisation across crates, which takes minutes more and changes nothing that is tested.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

cargo build --locked --workspace --all-targets
targets=${SINFONIA_E2E:-namespace e2e database root images cluster charts}
scripts/cluster.sh up
scripts/cloudlet.sh

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
scripts/stage.sh "$stage" "${CARGO_TARGET_DIR:-target}/debug"

# Only for what needs it: deploy/kind/up is to find by itself what there is.
settings=$(scripts/cluster.sh env)
with_cluster() { (eval "$settings" && "$@"); }

with_cluster scripts/images.sh >/dev/null
export SINFONIA_STAGE=$stage
export SINFONIA_BIN_DIR=$stage/bin
SINFONIA_IMAGES=$(realpath "${CARGO_TARGET_DIR:-target}/images")
export SINFONIA_IMAGES
export SINFONIA_REFERENCE_CLIENT=$stage/reference-client/bin/sinfonia-tier3
export SINFONIA_SCHEMATHESIS=$stage/schemathesis/bin/schemathesis
runner="target.'cfg(unix)'.runner='$PWD/scripts/run-test.sh'"
status=0
# The whole workspace, so that nothing is built a second time with other features.
run_tests() {
    # shellcheck disable=SC2046  # words
    with_cluster cargo test --locked --workspace --no-fail-fast --config "$runner" \
        $(printf -- '--test %s ' "${chosen[@]}") -- "$@" || status=$?
}

read -ra chosen <<<"${targets/charts/}"
[ ${#chosen[@]} = 0 ] || run_tests "$@"
if [[ " $targets " = *" charts "* ]]; then
    # As people do it, and once more, which changes nothing.
    deploy/kind/up
    deploy/kind/up
    page=$(deploy/kind/demo)
    grep 'Hello, world!' <<<"$page" >&2
    scripts/cluster.sh images postgres
    # These remove the cloudlet that the others use.
    chosen=(charts)
    run_tests "$@"
fi
exit $status

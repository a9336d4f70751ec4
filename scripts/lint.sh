#!/usr/bin/env bash
# Checks format, lints, dependencies, scripts and charts.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --locked --workspace --all-targets -- -D warnings
# Those that are not run by a plain `cargo test` are not among all targets.
cargo clippy --locked --workspace --test '*' -- -D warnings
scripts/queries.sh --check
"${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/hadolint/bin/hadolint" images/*/Containerfile
shellcheck -x scripts/*.sh deploy/kind/{lib.sh,up,down,demo} tests/lab/*.sh tests/lab/runc-without-sys-resource .ci/run
scripts/lint-charts.sh

(cd deploy/prometheus && promtool check rules rules.yaml && promtool test rules rules_test.yaml) >/dev/null

deny=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/cargo-deny
"$deny" --locked --log-level error check --hide-inclusion-graph bans licenses sources
# Known vulnerabilities are listed in a git repository, which not every machine can reach.
if timeout 60 "$deny" --log-level off fetch db >/dev/null 2>&1; then
    "$deny" --locked --offline --log-level error check --hide-inclusion-graph advisories
else
    echo "advisories not checked: their database cannot be reached from here" >&2
fi

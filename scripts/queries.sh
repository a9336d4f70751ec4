#!/usr/bin/env bash
# Writes down what Postgres says of tier1's queries (.sqlx), with which they are checked where no database is.
#   scripts/queries.sh           writes it
#   scripts/queries.sh --check   fails if it is not up to date
set -euo pipefail
cd "$(dirname "$0")/.."

kept=$PWD/.sqlx
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT

# The compiler looks at what has changed only; the queries may not have, but the schema.
touch tier1/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh scripts/postgres.sh cargo check --locked --quiet -p sinfonia-tier1 --all-targets
if [ "${1:-}" != --check ]; then
    rm -rf "$kept"
    mkdir "$kept"
    cp "$fresh"/query-*.json "$kept/"
elif ! diff --recursive --brief "$fresh" "$kept" >&2; then
    echo "the committed query data is not that of the queries and migrations: run scripts/queries.sh and commit .sqlx" >&2
    exit 1
fi

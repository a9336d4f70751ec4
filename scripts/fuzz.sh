#!/usr/bin/env bash
# Builds the fuzz targets with coverage counters, which the stable compiler can do, and runs them.
#   scripts/fuzz.sh SECONDS [TARGET]...
# Each target, or each that is named, runs for so long, several at once. What they learn is kept in
# ${XDG_CACHE_HOME:-~/.cache}/sinfonia-dev/fuzz/corpus and used the next time; fuzz/corpus holds the seeds. An input that
# breaks something is kept beside, and printed: run the target with that file alone to see it again.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?seconds for each target}
shift
kept=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
coverage='-Cpasses=sancov-module'
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=" -Cllvm-args=-sanitizer-coverage-$argument"
done

# With a target named, the flags are for what is fuzzed only, not for what runs while it is built.
CARGO_TARGET_DIR=$kept/target RUSTFLAGS=$coverage \
    cargo build --locked --quiet --release --target "$host" --manifest-path fuzz/Cargo.toml

run() {
    local target=$1 log=$kept/log/$1
    mkdir -p "$kept/corpus/$target" "$kept/found"
    # Time and memory are what a stranger could waste.
    if "$kept/target/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="$kept/found/$target-" "$kept/corpus/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
        echo "fuzz: $target: $(grep -E '^Done [0-9]+ runs' "$log")" >&2
    else
        echo "fuzz: $target failed; all it said is in $log:" >&2
        grep -Ev '^#[0-9]|NEW_FUNC|^INFO:|^WARNING:' "$log" | head -40 >&2
        return 1
    fi
}

mkdir -p "$kept/log"
if [ $# = 0 ]; then
    for file in fuzz/targets/*.rs; do
        set -- "$@" "$(basename "$file" .rs)"
    done
fi
export -f run
export seconds kept host
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'run {}'

#!/usr/bin/env bash
# Makes images twice and compares their digests: here, and from a copy elsewhere with another home of cargo, umask, time zone
# and time, with nothing compiled and nothing fetched from Debian.
#   scripts/images-again.sh [NAME]...     as images.sh; those that are released
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- tier1 tier2 gateway tier3 helloworld
# Changes that are not committed are in both.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
SINFONIA_REVISION=$(git rev-parse HEAD)
export SOURCE_DATE_EPOCH SINFONIA_REVISION
cargo_home=${CARGO_HOME:-$HOME/.cargo}

main() {
    local name first second differ=0
    again=$(mktemp -d)
    trap 'rm -rf "$again"' EXIT
    scripts/images.sh "$@" >/dev/null
    copy
    (
        cd "$again/a place with blanks"
        umask 077
        env TZ=Pacific/Kiritimati XDG_CACHE_HOME="$again/cache" CARGO_HOME="$again/cargo" \
            RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO_TARGET_DIR="$again/target" \
            CARGO_BUILD_BUILD_DIR="$again/build" GOCACHE="$again/go" scripts/images.sh "$@" >/dev/null
    )
    for name in "$@"; do
        first=$(digest "${CARGO_TARGET_DIR:-target}" "$name")
        second=$(digest "$again/target" "$name")
        echo "$name $first $second"
        [ "$first" = "$second" ] || differ=1
    done
    [ $differ = 0 ] || {
        echo "==> they differ" >&2
        exit 1
    }
}

# The checkout without what was made in it, and the crates, which need not be fetched again.
copy() {
    mkdir -p "$again/a place with blanks" "$again/cargo"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$again/a place with blanks"
    cp -r "$cargo_home/registry" "$again/cargo/"
}

digest() { cat "$1/images/sinfonia-$2"-*.digest; }

main "$@"

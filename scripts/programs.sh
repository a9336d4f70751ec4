#!/usr/bin/env bash
# Builds the programs as they are released, and prints the directory they are in: static, and the same byte for byte
# wherever the checkout, Cargo's home and the target directory are.
#   scripts/programs.sh [PACKAGE]...     all that are released, or these packages of the workspace
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."

released=(sinfonia-tier1 sinfonia-tier2 sinfonia-tier3 sinfonia-gateway)
target=$(rustc -vV | sed -n 's/^host: //p')
cargo_home=${CARGO_HOME:-$HOME/.cargo}

main() {
    local packages=("$@") package arguments=()
    [ $# -gt 0 ] || packages=("${released[@]}")
    for package in "${packages[@]}"; do
        arguments+=(-p "$package")
    done
    # With a target of their own build scripts and procedural macros are not made static.
    CARGO_ENCODED_RUSTFLAGS=$(flags) cargo build --locked --release --target "$target" "${arguments[@]}" >&2
    echo "$(directory target_directory)/$target/release"
}

# What the compiler would write of this machine's paths into messages of panics, it names instead.
flags() {
    local separator=$'\x1f' flags='-Ctarget-feature=+crt-static'
    flags+=$separator--remap-path-prefix=$PWD=/sinfonia
    flags+=$separator--remap-path-prefix=$(directory build_directory)=/sinfonia/build
    flags+=$separator--remap-path-prefix=$cargo_home=/cargo
    echo "$flags"
}

directory() { cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }

main "$@"

#!/usr/bin/env bash
# Builds the programs as they are released, and prints the directory they are in: static, and the same byte for byte
# wherever the checkout, Cargo's home and the target directory are.
#   scripts/programs.sh
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
cargo_home=${CARGO_HOME:-$HOME/.cargo}

main() {
    # With a target of their own build scripts and procedural macros are not made static. No fewer packages: what is built
    # together decides on the features of what they share.
    CARGO_ENCODED_RUSTFLAGS=$(flags) cargo build --locked --release --target "$target" \
        -p sinfonia-tier1 -p sinfonia-tier2 -p sinfonia-tier3 -p sinfonia-gateway >&2
    echo "$(directory target_directory)/$target/release"
}

# What the compiler would write of this machine's paths into messages of panics, it names instead.
flags() {
    local separator=$'\x1f' flags='-Ctarget-feature=+crt-static'
    flags+=$separator--remap-path-prefix=$PWD=/sinfonia
    flags+=$separator--remap-path-prefix=$(directory build_directory)=/sinfonia/build
    flags+=$separator--remap-path-prefix=$cargo_home=/cargo
    # What the compiler's own linker can do about size, where it is the one that is used.
    case $target in
    x86_64-*-linux-*) flags+=$separator-Clink-args=-Wl,--pack-dyn-relocs=relr,--icf=all ;;
    esac
    echo "$flags"
}

directory() { cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }

main

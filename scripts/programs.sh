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
    # What the compiler's own linker, which is used for this target, can do about size. glibc relocates such a program from
    # version 2.36 on.
    if [ "$target" = x86_64-unknown-linux-gnu ]; then
        flags+=$separator-Clink-arg=-Wl,--icf=all
        if printf '%s\n' 2.36 "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort -VC; then
            flags+=$separator-Clink-arg=-Wl,--pack-dyn-relocs=relr
        fi
    fi
    echo "$flags"
}

directory() { cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }

main

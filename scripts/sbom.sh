#!/usr/bin/env bash
# Writes what an image is made of: sbom.spdx.json (SPDX 2.3), and LICENSES with what they are and their texts.
#   scripts/sbom.sh NAME VERSION SECONDS DIRECTORY [crate=PACKAGE | go=PROGRAM | deb=FILE]...
# SECONDS is when, since 1970. A crate brings those it links with and Rust's and C's libraries, a Go program its modules.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$(realpath "$0")")/.."

name=$1 version=$2 seconds=$3 directory=$4
shift 4
lab=tests/lab
cargo_home=${CARGO_HOME:-$HOME/.cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

main() {
    local part
    # Lines of a package: name, version, purl, licence, kind and hex of a checksum. Lines of a text: package, file.
    : >"$work/packages"
    : >"$work/texts"
    for part in "$@"; do
        case $part in
        crate=*) crates "${part#*=}" ;;
        go=*) modules "${part#*=}" ;;
        deb=*) debian "${part#*=}" ;;
        *) echo "sbom: what is $part?" >&2 && exit 2 ;;
        esac
    done
    sort -u -o "$work/packages" "$work/packages"
    mkdir -p "$directory"
    licenses >"$directory/LICENSES"
    document >"$directory/sbom.spdx.json"
}

package() { (IFS=$'\t' && echo "$*") >>"$work/packages"; }

# Finds the texts of a package in a directory. Of MIT and Apache-2.0, where there is a choice, MIT is chosen.
texts_in() {
    local found
    [ -d "$2" ] || return 0
    found=$(find "$2" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'copyright*' \
        -o -iname 'notice*' -o -iname 'unlicense*' \) ! -name '*.html' | sort)
    if [[ ${3:-} =~ MIT.*(OR|/).*Apache-2.0|Apache-2.0.*(OR|/).*MIT && ! $3 =~ AND ]] && grep -qi '/[^/]*mit[^/]*$' <<<"$found"; then
        found=$(grep -vi '/licen[cs]e[^/]*apache[^/]*$' <<<"$found")
    fi
    [ -z "$found" ] || awk -v whose="$1" '{print whose "\t" $0}' <<<"$found" >>"$work/texts"
}

# What is linked into our program: not what only runs while it is built.
crates() {
    local target crate release license sum release_of_c
    target=$(rustc -vV | sed -n 's/^host: //p')
    awk '$1 == "name" {name = $2} $1 == "version" {version = $2} $1 == "checksum" {print name, version, $2}' FS='[ "=]+' \
        Cargo.lock >"$work/checksums"
    while IFS='|' read -r crate release license; do
        release=${release#v}
        case $crate in
        sinfonia-*) package "$crate" "$release" '' "$license" '' '' ;;
        *)
            sum=$(sed -n "s/^$crate $release //p" "$work/checksums")
            package "$crate" "$release" "pkg:cargo/$crate@$release" "${license:-NOASSERTION}" "${sum:+SHA256}" "$sum"
            texts_in "$crate $release" "$(source_of "$crate-$release")" "$license"
            ;;
        esac
    done < <(cargo tree --locked --package "$1" --edges normal,no-proc-macro --target "$target" --prefix none --no-dedupe \
        --format '{p}|{l}' | sed 's/ (.*)|/|/; s/ v\([0-9]\)/|\1/' | sort -u)
    # The build script of tier1 takes the page out of this; its texts are in the program.
    if [ "$1" = sinfonia-tier1 ]; then
        release=$(sed -n 's/^utoipa-swagger-ui-vendored \([^ ]*\) .*/\1/p' "$work/checksums")
        release=$(basename "$(source_of "utoipa-swagger-ui-vendored-$release")"/res/v*.zip .zip)
        [ "$release" != 'v*' ] || { echo "sbom: Swagger UI's archive is missing" >&2 && exit 1; }
        package swagger-ui "${release#v}" "pkg:npm/swagger-ui@${release#v}" Apache-2.0 '' ''
    fi
    release=$(rustc -vV | sed -n 's/^release: //p')
    package rust-std "$release" '' 'MIT OR Apache-2.0' '' ''
    texts_in "rust-std $release" "$(rustc --print sysroot)/share/doc/rust"
    release_of_c=$(dpkg-query --show --showformat '${Version}' libc6-dev 2>/dev/null || getconf GNU_LIBC_VERSION)
    package glibc "${release_of_c#glibc }" '' LGPL-2.1-or-later '' ''
    texts_in "glibc ${release_of_c#glibc }" /usr/share/doc/libc6-dev
    printf 'sinfonia %s\t%s\n' "$version" LICENSE >>"$work/texts"
}

source_of() { find "$cargo_home/registry/src" -mindepth 2 -maxdepth 2 -name "$1" | head -n 1; }

modules() {
    local path release list=()
    while read -r _ path release _; do
        # Go's own checksum is of a list of files, which SPDX has no name for.
        package "$path" "$release" "pkg:golang/$path@$release" NOASSERTION '' ''
        list+=("$path@$release")
    done < <(go version -m "$1" | awk '$1 == "mod" || $1 == "dep"')
    while read -r path release directory_of_it; do
        texts_in "$path $release" "$directory_of_it"
    done < <(cd $lab && go mod download -json "${list[@]}" | jq -r '"\(.Path) \(.Version) \(.Dir)"')
    release=$(go version "$1" | sed 's/.*: go//')
    package go-std "$release" "pkg:golang/std@$release" BSD-3-Clause '' ''
    texts_in "go-std $release" "$(env --chdir=/ go env GOROOT)"
}

debian() {
    local name release architecture sum
    name=$(dpkg-deb --field "$1" Package)
    release=$(dpkg-deb --field "$1" Version)
    architecture=$(dpkg-deb --field "$1" Architecture)
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    package "$name" "$release" "pkg:deb/debian/$name@$(jq -nr --arg v "$release" '$v | @uri')?arch=$architecture" \
        NOASSERTION SHA256 "$sum"
    texts_in "$name $release" "${1%.deb}/usr/share/doc/$name"
}

# A list of who has which licence, then each text once, with those whose it is.
licenses() {
    local sum before='' whose file
    echo "What $name $version is made of, and the licences of that."
    echo
    awk -F '\t' '{print $1, $2 ": " ($4 == "NOASSERTION" ? "see the text below" : $4)}' "$work/packages"
    while IFS=$'\t' read -r whose file; do
        printf '%s\t%s\t%s\n' "$(sha256sum <"$file" | cut -c -64)" "$whose" "$file"
    done < <(sort -u "$work/texts") | sort >"$work/by-text"
    # shellcheck disable=SC2094  # read twice, not written
    while IFS=$'\t' read -r sum whose file; do
        [ "$sum" != "$before" ] || continue
        before=$sum
        printf '\n%s\n' '------------------------------------------------------------------------'
        awk -F '\t' -v sum="$sum" '$1 == sum {print $2}' "$work/by-text" | sort -u
        echo
        cat "$file"
    done <"$work/by-text"
}

document() {
    jq --compact-output --raw-input --slurp --arg name "$name" --arg version "$version" --arg sum "$(sha256sum <"$work/packages")" \
        --arg created "$(date --utc --date "@$seconds" +%Y-%m-%dT%H:%M:%SZ)" '
        def id: gsub("[^A-Za-z0-9.]"; "-");
        [split("\n")[] | select(. != "") | split("\t") | {
            SPDXID: "SPDXRef-\(.[0] | id)-\(.[1] | id)", name: .[0], versionInfo: .[1],
            downloadLocation: "NOASSERTION", filesAnalyzed: false, copyrightText: "NOASSERTION",
            licenseConcluded: "NOASSERTION", licenseDeclared: (.[3] | gsub("/"; " OR ")),
            externalRefs: (if .[2] == "" then [] else
                [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: .[2]}] end),
            checksums: (if .[4] == "" then [] else [{algorithm: .[4], checksumValue: .[5]}] end)
        }] as $parts | {
            spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: "\($name)-\($version)",
            documentNamespace: "https://findcloudlet.org/spdx/\($name)-\($version)-\($sum[:32])",
            creationInfo: {created: $created, creators: ["Tool: sbom.sh"]},
            packages: ([{
                SPDXID: "SPDXRef-image", name: $name, versionInfo: $version, primaryPackagePurpose: "CONTAINER",
                downloadLocation: "NOASSERTION", filesAnalyzed: false, copyrightText: "NOASSERTION",
                licenseConcluded: "NOASSERTION", licenseDeclared: "MIT"
            }] + $parts),
            relationships: ([{
                spdxElementId: "SPDXRef-DOCUMENT", relationshipType: "DESCRIBES", relatedSpdxElement: "SPDXRef-image"
            }] + [$parts[] | {
                spdxElementId: "SPDXRef-image", relationshipType: "CONTAINS", relatedSpdxElement: .SPDXID
            }])
        }' "$work/packages"
}

main "$@"

#!/usr/bin/env bash
# Makes images, prints their names, and loads them into the Docker engine at hand, or else into podman. What cannot have
# changed is not made again.
#   scripts/images.sh                 those that are released: tier1, tier2, gateway, tier3, helloworld
#   scripts/images.sh NAME...         these directories of images/; postgres is for trials, toolbox for tests
# Each is an OCI archive in target/images, with its digest and software bill of materials beside it. The same commit, compiler
# and Debian packages give the same digest; it is buildah that promises this, and Docker builds them where there is none.
# SINFONIA_SOURCE_URL, SOURCE_DATE_EPOCH and SINFONIA_REVISION are those of the checkout unless they are set.
set -euo pipefail
umask 022
export LC_ALL=C

project=$(dirname "$(dirname "$(realpath "$0")")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/images
released=(tier1 tier2 gateway tier3 helloworld)
suite=bookworm
# Whatever an image takes from Debian.
packages=busybox-static,ca-certificates,nginx-light,postgresql-15,tzdata
# Where setup.sh puts Go.
PATH=${cache%/images}/go/bin:$PATH
user=65532

main() {
    local name
    cd "$project"
    out=$(metadata target_directory)/images
    version=$(cargo metadata --locked --no-deps --format-version 1 | jq -r '.packages[] | select(.name == "sinfonia-tier1").version')
    work=$(mktemp -d)
    trap 'clear_work' EXIT
    mkdir -p "$out"
    # Two runs would write the same files.
    exec 8>"$out/lock"
    flock 8
    describe
    [ $# -gt 0 ] || set -- "${released[@]}"
    for name in "$@"; do
        [ -f "images/$name/Containerfile" ] || die "there is no images/$name"
    done
    programs "$@"
    for name in "$@"; do
        make_image "$name"
    done
}

say() { echo "==> $*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null; }
metadata() { cargo metadata --locked --no-deps --format-version 1 | jq -r ".$1"; }

# Containers' storage may hold files that only their owner's namespace can remove.
clear_work() {
    rm -rf "$work" 2>/dev/null || buildah unshare rm -rf "$work"
}

# What the labels say of this checkout.
describe() {
    local repository
    revision=${SINFONIA_REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
    if [ -z "${SINFONIA_REVISION:-}" ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then
        revision+=-modified
    fi
    epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
    repository=$(metadata 'packages[0].repository // "unpublished"')
    source=${SINFONIA_SOURCE_URL:-$repository}
}

# Builds the programs if one of these images holds one: all of them, since which are built together decides on the features
# of what they share.
programs() {
    case " $* " in *' tier'[123]' '* | *' gateway '*) built=$(scripts/programs.sh) ;; esac
}

image_name() {
    # Not one of ours to others: the tests' own.
    if [ "$1" = toolbox ]; then echo localhost/sinfonia/toolbox; else echo "sinfonia-$1"; fi
}

make_image() {
    local name=$1 context=$work/$1 image file key
    image=$(image_name "$name"):$version
    file=$out/$(image_name "$name" | tr / -)-$version
    mkdir -p "$context/root"
    "root_of_$name" "$context/root"
    find "images/$name" -maxdepth 1 -type f -exec cp -t "$context" {} +
    settle "$context"
    key=$({
        fingerprint "$context"
        echo "$image $version $revision $source $epoch $(builder)"
    } | sha256sum)
    if [ "$(cat "$file.key" 2>/dev/null)" != "$key" ] || ! [ -e "$file.tar" ]; then
        say "making the image $image"
        rm -f "$file".*
        build "$image" "$context" "$file"
        cp "$context/root/usr/share/doc/sinfonia/sbom.spdx.json" "$file.spdx.json" 2>/dev/null || true
        echo "$key" >"$file.key"
    fi
    load "$image" "$file"
    echo "$image"
}

# Nothing of this machine's: modes and times are the same everywhere.
settle() {
    chmod -R u=rwX,go=rX "$1"
    if [ -d "$1/root/tmp" ]; then chmod 1777 "$1/root/tmp"; fi
    find "$1" -exec touch --no-dereference --date "@$epoch" {} +
}

# A directory's files with their names, modes and contents.
fingerprint() {
    (
        cd "$1"
        find . -printf '%p %m %l\n' | sort
        find . -type f -print0 | sort -z | xargs -0 sha256sum
    )
}

builder() { if have buildah; then echo buildah; else echo docker; fi; }

build() {
    local image=$1 context=$2 file=$3 labels=()
    labels=(--label "org.opencontainers.image.version=$version" --label "org.opencontainers.image.revision=$revision"
        --label "org.opencontainers.image.source=$source"
        --label "org.opencontainers.image.created=$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)")
    if [ "$(builder)" = buildah ]; then
        buildah_here bud --quiet --timestamp "$epoch" --identity-label=false "${labels[@]}" --tag "$image" \
            --file "$context/Containerfile" "$context" >/dev/null
        buildah_here push --quiet --digestfile "$file.digest" "$image" "oci-archive:$file.tar:$image" >/dev/null
    else
        SOURCE_DATE_EPOCH=$epoch docker build --quiet "${labels[@]}" --tag "$image" \
            --file "$context/Containerfile" "$context" >/dev/null
        docker save --output "$file.tar" "$image"
    fi
}

# In a storage of its own, which needs no particular file system and leaves nothing.
buildah_here() {
    buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

# Into the engine by which people would run it, unless that has it. The file says what that calls it.
load() {
    local image=$1 file=$2 engine id
    if timeout 10 docker info >/dev/null 2>&1; then
        engine=docker
    elif have podman; then
        engine=podman
    else
        return 0
    fi
    id=$("$engine" image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
    [ -z "$id" ] || [ "$(cat "$file.$engine" 2>/dev/null)" != "$id" ] || return 0
    if [ "$engine" = podman ]; then
        podman load --quiet --input "$file.tar" >/dev/null
    elif [ "$(builder)" = buildah ]; then
        # Many engines are older than those that read OCI archives.
        docker image rm "$image" >/dev/null 2>&1 || true
        buildah_here inspect "$image" >/dev/null 2>&1 || buildah_here pull --quiet "oci-archive:$file.tar" >/dev/null
        buildah_here push --quiet "$image" "docker-archive:$work/docker.tar:$image" >/dev/null
        docker load --quiet --input "$work/docker.tar" >/dev/null
        rm "$work/docker.tar"
        # Buildah's own name for it goes along.
        [[ $image = localhost/* ]] || docker image rm "localhost/$image" >/dev/null
    fi
    [[ $image = localhost/* ]] || "$engine" tag "$image" "${image%:*}:latest"
    "$engine" image inspect --format '{{.Id}}' "$image" >"$file.$engine"
}

# What all that run as a user without rights have.
common() {
    mkdir -p "$1"/{etc,tmp}
    printf '%s\n' root:x:0:0:root:/root:/nonexistent "sinfonia:x:$user:$user:sinfonia:/tmp:/nonexistent" >"$1/etc/passwd"
    printf '%s\n' root:x:0: "sinfonia:x:$user:" >"$1/etc/group"
    echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

root_of_tier1() {
    common "$1"
    install -D "$built/sinfonia-tier1" "$1/usr/local/bin/sinfonia-tier1"
    describe_contents tier1 "$1" crate=sinfonia-tier1
}

root_of_tier2() {
    local helm
    helm=$(tests/lab/tools.sh helm)/helm
    common "$1"
    install -D "$built/sinfonia-tier2" "$1/usr/local/bin/sinfonia-tier2"
    install -D "$helm" "$1/usr/local/bin/helm"
    # Helm fetches charts, and their templates may ask what time it is elsewhere.
    from_debian "$1" ca-certificates tzdata
    describe_contents tier2 "$1" crate=sinfonia-tier2 go="$helm"
}

root_of_gateway() {
    common "$1"
    install -D "$built/sinfonia-gateway" "$1/usr/local/bin/sinfonia-gateway"
    describe_contents gateway "$1" crate=sinfonia-gateway
}

root_of_tier3() {
    common "$1"
    mkdir -p "$1/root"
    install -D "$built/sinfonia-tier3" "$1/usr/local/bin/sinfonia-tier3"
    install -D "$built/sinfonia-fetch" "$1/usr/local/bin/fetch"
    describe_contents tier3 "$1" crate=sinfonia-tier3
}

root_of_helloworld() {
    common "$1"
    from_debian "$1" nginx
    describe_contents helloworld "$1"
}

# For trials of tier1. Its programs want a shell.
root_of_postgres() {
    local file applet from major=15
    common "$1"
    debian
    from=$debian/postgresql-$major
    mkdir -p "$1/usr/share/postgresql" "$1/usr/lib/postgresql/$major/lib" "$1/bin"
    cp -r "$from/usr/share/postgresql/$major" "$1/usr/share/postgresql/"
    cp -r "$debian/tzdata/usr/share/zoneinfo" "$1/usr/share/"
    taken="${taken:-} postgresql-$major postgresql-client-$major tzdata busybox-static"
    for file in "$from/usr/lib/postgresql/$major/bin"/{postgres,initdb} \
        "$debian/postgresql-client-$major/usr/lib/postgresql/$major/bin"/{pg_isready,psql} \
        "$from/usr/lib/postgresql/$major/lib"/{plpgsql,dict_snowball}.so; do
        install -D -m 755 "$file" "$1/${file#"$debian"/*/}"
        libraries "$1" "$file"
    done
    # Encodings by which clients ask.
    cp "$from/usr/lib/postgresql/$major/lib"/utf8_and_*.so "$1/usr/lib/postgresql/$major/lib/"
    ln -s "$major/bin" "$1/usr/lib/postgresql/bin"
    install -D "$debian/busybox-static/bin/busybox" "$1/bin/busybox"
    for applet in sh rm mv; do
        ln -s busybox "$1/bin/$applet"
    done
    describe_contents postgres "$1"
}

root_of_toolbox() {
    local applet
    common "$1"
    debian
    install -D "$debian/busybox-static/bin/busybox" "$1/bin/busybox"
    for applet in $("$1/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
    sed -i 's|/nonexistent|/bin/sh|' "$1/etc/passwd"
}

# Writes what the image holds, and under which licences.
describe_contents() {
    local name=$1 root=$2 package
    shift 2
    for package in ${taken:-}; do
        set -- "$@" deb="$debian/$package.deb"
    done
    taken=
    scripts/sbom.sh "sinfonia-$name" "$version" "$epoch" "$root/usr/share/doc/sinfonia" "$@"
}

# Copies what is wanted of Debian's packages, and remembers whose it is in `taken`.
from_debian() {
    local root=$1 what
    debian
    shift
    for what in "$@"; do
        case $what in
        ca-certificates)
            # As update-ca-certificates does it, without what this machine trusts beyond.
            mkdir -p "$root/etc/ssl/certs"
            find "$debian/$what/usr/share/ca-certificates/mozilla" -name '*.crt' | sort | xargs cat \
                >"$root/etc/ssl/certs/ca-certificates.crt"
            ;;
        tzdata)
            mkdir -p "$root/usr/share"
            cp -r "$debian/$what/usr/share/zoneinfo" "$root/usr/share/"
            rm -rf "$root"/usr/share/zoneinfo/{posix,right}
            ;;
        nginx)
            install -D "$debian/nginx/usr/sbin/nginx" "$root/usr/sbin/nginx"
            install -D -m 644 "$debian/nginx-common/etc/nginx/mime.types" "$root/etc/nginx/mime.types"
            taken="${taken:-} nginx-common"
            libraries "$root" "$debian/nginx/usr/sbin/nginx"
            ;;
        esac
        taken="${taken:-} $what"
    done
}

# The libraries of a program, as its own loader finds them in the packages.
libraries() {
    local root=$1 program=$2 loader path file package
    loader=$(find "$debian/libc6" -name 'ld-linux*' | head -n 1)
    path=$(find "$debian" -mindepth 2 -type d -name '*-linux-gnu' | sort | paste -sd :)
    while read -r file; do
        package=${file#"$debian/"}
        package=${package%%/*}
        install -D -m 755 "$file" "$root/${file#"$debian/$package/"}"
        case " $taken " in *" $package "*) ;; *) taken+=" $package" ;; esac
    done < <("$loader" --library-path "$path" --list "$program" | grep -o "$debian/[^ ]*")
    # The loader is called by the name that the program has for it.
    file=$(find "$debian/libc6" -path '*/lib64/ld-linux*' -o -path "*/lib/ld-linux-aarch64*" | head -n 1)
    install -D -m 755 "$file" "$root/${file#"$debian/libc6/"}"
}

# Sets debian to a directory with Debian's packages, as files and unpacked. Half a day old ones will do.
debian() {
    [ -z "${debian:-}" ] || return 0
    debian=$cache/debian-$suite-$(sha256sum <<<"$packages" | cut -c -12)
    if [ -n "$(find "$debian/ready" -mmin -720 2>/dev/null)" ]; then return 0; fi
    say "fetching packages from Debian"
    local fresh=$debian.new file name
    rm -rf "$fresh"
    mkdir -p "$fresh/archives"
    if ! mmdebstrap --quiet --variant=extract --format=null --include="$packages" \
        --extract-hook="copy-out /var/cache/apt/archives $fresh" "$suite" >&2; then
        [ -e "$debian/ready" ] || die "Debian's packages cannot be fetched"
        say "they cannot be fetched; those at hand are used"
        return 0
    fi
    for file in "$fresh"/archives/*.deb; do
        name=$(dpkg-deb --field "$file" Package)
        mv "$file" "$fresh/$name.deb"
        dpkg-deb --extract "$fresh/$name.deb" "$fresh/$name"
    done
    rm -rf "$fresh/archives"
    touch "$fresh/ready"
    rm -rf "$debian"
    mv "$fresh" "$debian"
}

main "$@"

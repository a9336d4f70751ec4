#!/usr/bin/env bash
# Copies the built programs and the reference client to where every user can read them.
#   scripts/stage.sh DIRECTORY PROGRAMS     where cargo put these
# The directory then holds bin/, reference-client/, and schemathesis/ and bin/jaeger if those are installed.
set -euo pipefail

stage=$1
built=$2

chmod 755 "$stage"
mkdir "$stage/bin"
cp "$built"/sinfonia-tier{1,2,3} "$stage/bin/"
# With the times of the files, which say whether Python's compiled ones are up to date.
cp -a "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/reference-client/." "$stage/reference-client"
sed -i "1s|^#!.*|#!$stage/reference-client/bin/python3|" \
    "$stage"/reference-client/bin/{sinfonia-tier3,wireguard4netns,wg-py}
if [ -e "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/jaeger" ]; then
    cp "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/bin/jaeger" "$stage/bin/"
fi
if [ -e "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/schemathesis" ]; then
    cp -a "${XDG_CACHE_HOME:-$HOME/.cache}/sinfonia-dev/schemathesis/." "$stage/schemathesis"
    sed -i "1s|^#!.*|#!$stage/schemathesis/bin/python3|" "$stage/schemathesis/bin/schemathesis"
fi
chmod -R a+rX "$stage"

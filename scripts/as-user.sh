#!/usr/bin/env bash
# Runs a command as the user "sinfonia-test", who is made if missing: no privileges, no capabilities,
# and a home of its own, also for temporary files, that is removed afterwards. Only root can do this.
#   scripts/as-user.sh COMMAND [ARGUMENT]...
set -euo pipefail

user=sinfonia-test
if ! id -u $user >/dev/null 2>&1; then
    echo "making the user $user, who has no privileges, for the tests" >&2
    useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin $user
fi

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
chown $user: "$home"
cd "$home"
env --unset=LD_LIBRARY_PATH --unset=XDG_CACHE_HOME --unset=XDG_CONFIG_HOME --unset=XDG_RUNTIME_DIR \
    HOME="$home" TMPDIR="$home" USER=$user LOGNAME=$user PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
    setpriv --reuid=$user --regid=$user --clear-groups \
    --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"

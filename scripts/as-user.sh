#!/usr/bin/env bash
# Runs a command as the user "sinfonia-test", who is made if missing: no privileges, no capabilities,
# and a home of its own, also for temporary files. Only root can do this, one at a time: what else runs
# as this user was left by a run that was killed, and is ended.
#   scripts/as-user.sh COMMAND [ARGUMENT]...
set -euo pipefail

user=sinfonia-test
homes=${TMPDIR:-/tmp}/sinfonia-test-home

main() {
    if ! id -u $user >/dev/null 2>&1; then
        echo "making the user $user, who has no privileges, for the tests" >&2
        useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin $user
    fi
    exec 9>/run/sinfonia-test.lock
    if ! flock --nonblock 9; then
        echo "waiting for another run as $user" >&2
        flock 9
    fi
    home=/nonexistent
    remove
    trap remove EXIT
    home=$(mktemp -d "$homes.XXXXXX")
    chown $user: "$home"
    cd "$home"
    as_user "$@"
}

# Without the lock, which must end with this script.
as_user() {
    env --unset=LD_LIBRARY_PATH --unset=XDG_CACHE_HOME --unset=XDG_CONFIG_HOME --unset=XDG_RUNTIME_DIR \
        HOME="$home" TMPDIR="$home" USER=$user LOGNAME=$user PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
        setpriv --reuid=$user --regid=$user --clear-groups \
        --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@" 9>&-
}

# Ends all processes of the user and removes their homes.
remove() {
    cd /
    as_user bash -c 'kill -KILL -1' 2>/dev/null || true
    rm -rf "$homes".*
}

main "$@"

#!/usr/bin/env bash
# Runs a command beside a Postgres of its own that has tier1's schema, and removes that when the command ends.
#   scripts/postgres.sh COMMAND [ARGUMENT]...
# DATABASE_URL tells the command where it is: a socket that only this user's processes find.
set -euo pipefail

migrations=$(dirname "$(realpath "$0")")/../migrations

main() {
    bin=$(programs)
    home=$(mktemp -d)
    trap remove EXIT
    as=()
    # Postgres refuses root.
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
        chown 65534:65534 "$home"
    fi
    chmod 711 "$home"
    "${as[@]}" "$bin/initdb" --pgdata="$home/data" --username=sinfonia --auth=trust --no-sync >/dev/null
    # It ends with this script, however that ends.
    "${as[@]}" setpriv --pdeathsig QUIT "$bin/postgres" -D "$home/data" -k "$home" -c listen_addresses= -c fsync=off \
        >"$home.log" 2>&1 &
    server=$!
    for _ in $(seq 200); do
        "$bin/pg_isready" --quiet --host="$home" && break
        kill -0 $server 2>/dev/null || die
        sleep 0.1
    done
    psql=("$bin/psql" --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --host="$home" --username=sinfonia --dbname=postgres)
    for file in "$migrations"/*.sql; do
        "${psql[@]}" --file="$file" || die
    done
    DATABASE_URL="postgres://sinfonia@localhost/postgres?host=$home" "$@"
}

die() {
    cat "$home.log" >&2
    exit 1
}

# The newest that is installed.
programs() {
    local found
    found=$(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V | tail -1)
    [ -n "$found" ] || found=$(command -v initdb) || {
        echo "Postgres is missing: scripts/setup.sh test installs it" >&2
        exit 1
    }
    dirname "$found"
}

remove() {
    if [ -n "${server:-}" ]; then
        kill -QUIT $server 2>/dev/null || true
        wait $server 2>/dev/null || true
    fi
    rm -rf "$home" "$home.log"
}

main "$@"

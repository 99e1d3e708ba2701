#!/usr/bin/env bash
# The two commands of the README from fresh clones in four settings: as root (in a folder of mode 0700) and as an ordinary
# user, each on the embedded PostgreSQL and on a server of this machine by SLUICE_DATABASE_URL (Debian's, started here on
# a Unix socket, as a user of its own, in a temporary folder). Run it as root: `test/four-settings.sh [setting ...]`, with settings
# out of root-embedded, user-embedded, root-server, user-server. CATALOG=path runs the demo on that catalog too.
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && pwd)
settings=("$@")
[ ${#settings[@]} -gt 0 ] || settings=(root-embedded user-embedded root-server user-server)
[ "$(id -u)" = 0 ] || { echo 'run it as root: it becomes an ordinary user where that is asked for' >&2; exit 2; }

work=$(mktemp -d /var/tmp/sluice-settings-XXXXXX)
chmod 755 "$work"
server=
# An ordinary user that every Debian has; PostgreSQL needs one with a name.
read -r user uid gid < <(getent passwd nobody | awk -F: '{print $1, $3, $4}')

finish() {
  if [ -n "$server" ]; then kill -INT "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work" /root/sluice-settings
}
trap finish EXIT

# Sets $url to a database of its own.
database() {
  local bin=/usr/lib/postgresql/15/bin
  [ -x "$bin/postgres" ] || { echo "no PostgreSQL 15 in $bin (apt-get install postgresql-15)" >&2; exit 3; }
  if [ -z "$server" ]; then
    install -d -o "$user" -m 755 "$work/pg"
    setpriv --reuid "$uid" --regid "$gid" --clear-groups "$bin/initdb" -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 -D "$work/pg/data" >/dev/null
    (cd "$work/pg" && exec setpriv --reuid "$uid" --regid "$gid" --clear-groups "$bin/postgres" -D "$work/pg/data" \
      -c listen_addresses= -c unix_socket_directories="$work/pg" -c max_connections=200 >"$work/pg/log" 2>&1) &
    server=$!
    until "$bin/pg_isready" -q -h "$work/pg" -U postgres; do kill -0 "$server"; sleep 0.1; done
  fi
  "$bin/psql" -q -h "$work/pg" -U postgres -c "create database $1"
  url="postgresql://postgres@localhost:5432/$1?host=$work/pg"
}

expect() {
  grep -qF "$1" "$2" || { echo "missing: $1"; tail -n 40 "$2"; exit 1; }
}

for setting in "${settings[@]}"; do
  as=() variables=()
  case $setting in
    root-*) home=/root/sluice-settings; install -d -m 700 "$home" ;;
    user-*)
      home=$work/home; install -d -o "$user" -m 755 "$home"
      as=(setpriv --reuid "$uid" --regid "$gid" --clear-groups env "HOME=$home" "npm_config_cache=$home/.npm") ;;
    *) echo "no setting $setting" >&2; exit 2 ;;
  esac
  clone=$home/$setting log=$work/$setting.log
  fresh_clone() {
    git clone -q "$repository" "$1"
    case $setting in user-*) chown -R "$uid:$gid" "$1" ;; esac
  }
  fresh_clone "$clone"
  in_clone() { (cd "$clone" && "${as[@]}" env "${variables[@]}" "$@" </dev/null) >"$log" 2>&1 || { echo "$setting: $* failed"; tail -n 60 "$log"; exit 1; }; }
  server_for() { case $setting in *-server) database "$1"; variables=("SLUICE_DATABASE_URL=$url") ;; esac; }

  server_for "demo_${setting%-*}"
  in_clone make demo
  expect '650 received = 500 written + 99 duplicate + 51 rejected (http error) + 0 dead + 0 pending' "$log"
  in_clone make demo
  expect '650 lines known, 0 new' "$log"
  if [ -n "${CATALOG:-}" ]; then
    rm -rf "$clone/.sluice"
    server_for "catalog_${setting%-*}"
    in_clone make demo "CATALOG=$CATALOG"
    expect '650 received = 500 written + 99 duplicate + 51 rejected (http error) + 0 dead + 0 pending' "$log"
    in_clone make demo "CATALOG=$CATALOG"
    expect '650 lines known, 0 new' "$log"
  fi
  fresh_clone "$clone-test"
  clone=$clone-test
  server_for "test_${setting%-*}"
  in_clone make test
  echo "$setting: $(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)"
done

#!/bin/bash
# Two databases, for the application and for its tests, owned by a user `app` without a password:
# only this container reaches them.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
data=$(echo /var/lib/postgresql/*/main)
conf=$(echo /etc/postgresql/*/main)
cat >> "$conf/postgresql.conf" <<'CONF'
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 64MB
listen_addresses = '127.0.0.1'
CONF
printf 'local all all trust\nhost all all 127.0.0.1/32 trust\n' > "$conf/pg_hba.conf"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql
as_postgres "$bin/pg_ctl" start -w -D "$data" -o "-c config_file=$conf/postgresql.conf" -l /tmp/postgres.log
as_postgres "$bin/createuser" --createdb app
for name in app_dev app_test; do as_postgres "$bin/createdb" --owner=app "$name"; done
as_postgres "$bin/pg_ctl" stop -w -D "$data" -m fast
rm -f /tmp/postgres.log

#!/bin/bash
# Runs as root at each start of a container, beside the clone. Both services start at once; each
# returns when it is ready, and its log is shown when something fails.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql

start-service postgres --user postgres --ready "$bin/pg_isready -q -h 127.0.0.1" -- \
  "$bin/postgres" -D "$(echo /var/lib/postgresql/*/main)" \
  -c config_file="$(echo /etc/postgresql/*/main)/postgresql.conf" & postgres=$!
start-service redis --user redis --port 6379 -- \
  redis-server --bind 127.0.0.1 --save '' --appendonly no --dir /tmp & redis=$!
wait $postgres && wait $redis

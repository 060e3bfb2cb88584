#!/bin/bash
# Runs as root at each start of a container, beside the clone. Services start at once; each returns
# when it is ready, and its log is shown when something fails.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql

start-service postgres --user postgres --ready "$bin/pg_isready -q -h 127.0.0.1" -- \
  "$bin/postgres" -D "$(echo /var/lib/postgresql/*/main)" \
  -c config_file="$(echo /etc/postgresql/*/main)/postgresql.conf" & postgres=$!
start-service redis --user redis --port 6379 -- \
  redis-server --bind 127.0.0.1 --save '' --appendonly no --dir /tmp & redis=$!
wait $postgres && wait $redis

# They wait for the clone by themselves. The tests' worker has the tests' database and broker.
start-service worker --user worker --ready true -- worker dev & dev=$!
start-service worker-test --user worker --ready true -- worker test & test=$!
wait $dev && wait $test

#!/bin/bash
# Runs as root at each start of a container, beside the clone. Services start at once; each returns
# when it is ready, and its log is shown when something fails.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql

start-service postgres --user postgres --ready "$bin/pg_isready -q -h 127.0.0.1" -- \
  "$bin/postgres" -D "$(echo /var/lib/postgresql/*/main)" \
  -c config_file="$(echo /etc/postgresql/*/main)/postgresql.conf" & postgres=$!
elasticsearch=
if [ ! -e /opt/elasticsearch/missing ]; then
  export ES_JAVA_OPTS="-Xms512m -Xmx512m"
  start-service elasticsearch --user elasticsearch --port 9200 --seconds 120 -- \
    /opt/elasticsearch/bin/elasticsearch & elasticsearch=$!
fi
wait $postgres
[ -z "$elasticsearch" ] || wait "$elasticsearch"

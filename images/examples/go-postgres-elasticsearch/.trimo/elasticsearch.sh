#!/bin/bash
# elasticsearch.sh VERSION: unpacks it to /opt/elasticsearch, or leaves the reason why not.
set -uo pipefail
case $(uname -m) in aarch64) cpu=aarch64 ;; *) cpu=x86_64 ;; esac
url=https://artifacts.elastic.co/downloads/elasticsearch/elasticsearch-$1-linux-$cpu.tar.gz
mkdir -p /opt/elasticsearch
if reason=$(curl -fsSL --retry 2 --max-time 900 "$url" -o /tmp/elasticsearch.tgz 2>&1); then
  tar -xzf /tmp/elasticsearch.tgz -C /opt/elasticsearch --strip-components=1
  rm -rf /tmp/elasticsearch.tgz /opt/elasticsearch/modules/x-pack-ml
  useradd --system --no-create-home elasticsearch
  cat > /opt/elasticsearch/config/elasticsearch.yml <<'CONF'
discovery.type: single-node
http.host: 127.0.0.1
transport.host: 127.0.0.1
xpack.security.enabled: false
ingest.geoip.downloader.enabled: false
CONF
  chown -R elasticsearch:elasticsearch /opt/elasticsearch
else
  echo "it could not be fetched when the image was built: ${reason##*curl: }" > /opt/elasticsearch/missing
  echo "Elasticsearch: $(cat /opt/elasticsearch/missing)"
fi

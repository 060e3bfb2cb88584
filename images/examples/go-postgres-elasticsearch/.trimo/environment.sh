export DATABASE_URL='postgres://app@127.0.0.1:5432/app_dev?sslmode=disable'
export TEST_DATABASE_URL='postgres://app@127.0.0.1:5432/app_test?sslmode=disable'
# Not set where Elasticsearch could not be fetched; then this says why.
if [ -e /opt/elasticsearch/missing ]; then
  export ELASTICSEARCH_MISSING="$(cat /opt/elasticsearch/missing)"
else
  export ELASTICSEARCH_URL=http://127.0.0.1:9200
fi
# Debian's Go packages, and nothing from elsewhere.
export CGO_ENABLED=0 GOPROXY=off GONOSUMDB='*' GOFLAGS=-mod=mod

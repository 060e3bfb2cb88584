#!/bin/bash
# node_modules as the lock file says: a copy of the image's, or npm's own work when the lock has changed.
set -euo pipefail
cmp -s package-lock.json node_modules/.lock && exit
rm -rf node_modules
if cmp -s package-lock.json /opt/packages/package-lock.json; then
  cp -r /opt/packages/node_modules node_modules
else
  npm ci --no-audit --no-fund
fi
cp package-lock.json node_modules/.lock

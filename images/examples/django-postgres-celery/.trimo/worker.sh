#!/bin/bash
# worker dev|test: Celery on the checkout in /workspace, started again when its code changes.
. /etc/profile.d/app.sh
if [ "$1" = test ]; then export DATABASE_NAME=$TEST_DATABASE_NAME BROKER_URL=$TEST_BROKER_URL; fi
export PYTHONDONTWRITEBYTECODE=1
state() { find /workspace -name '*.py' -printf '%p %T@\n' 2>/dev/null | sort | md5sum; }
until [ -e /workspace/manage.py ]; do sleep 0.1; done
while :; do
  seen=$(state)
  (cd /workspace && exec python3 -m celery -A shop worker --pool solo --loglevel WARNING) &
  while kill -0 $! 2>/dev/null && [ "$(state)" = "$seen" ]; do sleep 0.3; done
  kill $! 2>/dev/null; wait $!
  sleep 0.3
done

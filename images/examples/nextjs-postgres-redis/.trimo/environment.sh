# What the application and its tests read; the test's databases are their own.
export DATABASE_URL=postgres://app@127.0.0.1:5432/app_dev
export TEST_DATABASE_URL=postgres://app@127.0.0.1:5432/app_test
export REDIS_URL=redis://127.0.0.1:6379/0
export TEST_REDIS_URL=redis://127.0.0.1:6379/1
export NEXT_TELEMETRY_DISABLED=1

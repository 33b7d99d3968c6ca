#!/bin/sh
# documented.sh SOURCE: what docs/api.md names is declared in the header, and every function of the header is called by a
# test or an example.
set -e
cd "$1"
code=0
declared=$(cc -E -P -x c include/dtrain.h | tr '\n' ' ' | grep -o 'visibility("default"))) [^(]*(' | sed 's/ *($//; s/.*[ *]//')
[ -n "$declared" ] || { echo "documented: no functions"; exit 1; }
for name in $(grep -ohE 'dt_[a-z0-9_]+' docs/api.md | grep -vE '_options$' | sort -u); do
    grep -qE "\b$name\b" include/dtrain.h || { echo "documented: docs/api.md names $name, which the header lacks"; code=1; }
done
for name in $declared; do
    grep -qE "\b$name\b" tests/api/test_*.c tests/api/ranks*.c tests/*/test_*.c examples/*.c || { echo "documented: no test calls $name"; code=1; }
done
exit $code

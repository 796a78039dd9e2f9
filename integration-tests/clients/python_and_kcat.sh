#!/bin/sh
# Two clients of other languages on ottla-broker: kcat (librdkafka) and the Python package kafka-python. Each produces,
# consumes and joins a group. Prints a line a check, and last how many passed.
#
#   integration-tests/clients/python_and_kcat.sh [PORT]
#
# kcat comes from the system's packages and kafka-python from PyPI; both are installed when they are missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
port=${1:-19092}
work=$(mktemp -d)
broker=

finish() {
    status=$?
    trap - EXIT
    [ -z "$broker" ] || kill "$broker" 2>/dev/null || true
    [ "$status" -eq 0 ] || cat "$work/broker.log" >&2
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

if ! command -v kcat >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq kcat >/dev/null
fi
python3 -m venv --system-site-packages "$work/python"
"$work/python/bin/python" -c 'import kafka' 2>/dev/null || "$work/python/bin/pip" install -q kafka-python

cargo build -q --manifest-path "$here/../../Cargo.toml" -p ottla-broker
target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$here/../../Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
"$target/debug/ottla-broker" --listen "127.0.0.1:$port" --nodes 3 \
    --topic kcat:6 --topic python:6 --topic both:3 >"$work/broker.log" 2>&1 &
broker=$!
until grep -q "connect to" "$work/broker.log"; do
    kill -0 "$broker" 2>/dev/null || exit 1
    sleep 0.05
done
bootstrap=$(sed -n 's/.*connect to //p' "$work/broker.log")

exec 3>&1
"$work/python/bin/python" "$here/python_and_kcat.py" "$bootstrap" >&3
kill -0 "$broker"

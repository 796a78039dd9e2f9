#!/bin/sh
# The Python package confluent-kafka (librdkafka) logs in to ottla-broker by each mechanism, with TLS and without, and by
# certificate. Prints a line a check, and last how many passed.
#
#   integration-tests/clients/logins.sh [PORT]
#
# Five ports from PORT on are used. confluent-kafka comes from PyPI and openssl, for the certificates, from the system; the package
# is installed when it is missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
port=${1:-19192}
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

python3 -m venv --system-site-packages "$work/python"
"$work/python/bin/python" -c 'import confluent_kafka' 2>/dev/null || "$work/python/bin/pip" install -q confluent-kafka

cd "$work"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=tests" 2>/dev/null
for side in server client; do
    openssl req -newkey rsa:2048 -nodes -keyout "$side.key" -out "$side.csr" -subj "/CN=$side" 2>/dev/null
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=%sAuth\n' "$side" >"$side.ext"
    openssl x509 -req -in "$side.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "$side.ext" \
        -out "$side.pem" 2>/dev/null
done
cat server.key server.pem >identity.pem

cargo build -q --manifest-path "$here/../../Cargo.toml" -p ottla-broker
target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$here/../../Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
at() { echo "127.0.0.1:$((port + $1))"; }
"$target/debug/ottla-broker" --topic logins --user alice:secret \
    --set "listeners=PLAINTEXT://$(at 0),SASL_PLAINTEXT://$(at 1),SASL_SSL://$(at 2),SSL://$(at 3),MTLS://$(at 4)" \
    --set listener.security.protocol.map=MTLS:SSL --set listener.name.mtls.ssl.client.auth=required \
    --set "ssl.keystore.location=$work/identity.pem" --set "ssl.truststore.location=$work/ca.pem" \
    --set sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER \
    --set 'sasl.jaas.config=OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=node;' >"$work/broker.log" 2>&1 &
broker=$!
until grep -q "connect to" "$work/broker.log"; do
    kill -0 "$broker" 2>/dev/null || exit 1
    sleep 0.05
done

exec 3>&1
"$work/python/bin/python" "$here/logins.py" "$(at 1)" "$(at 2)" "$(at 3)" "$(at 4)" "$work" >&3
kill -0 "$broker"

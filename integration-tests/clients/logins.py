"""Logs in to ottla-broker by each mechanism with confluent-kafka (librdkafka), produces and consumes, and is refused with a wrong
password. Prints a line a check, and last how many passed.

Takes the addresses of the listeners SASL_PLAINTEXT, SASL_SSL, SSL and MTLS, and the folder with ca.pem, client.pem and client.key.
"""

import base64
import json
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

SASL_PLAINTEXT, SASL_SSL, SSL, MTLS, CERTIFICATES = sys.argv[1:]
TOPIC = "logins"


def token(_):
    part = lambda claims: base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    end = time.time() + 600
    return f"{part({'alg': 'none'})}.{part({'sub': 'alice', 'exp': int(end)})}.", end


def login(mechanism, password="secret"):
    if mechanism == "OAUTHBEARER":
        return {"sasl.mechanism": mechanism, "oauth_cb": token}
    return {"sasl.mechanism": mechanism, "sasl.username": "alice", "sasl.password": password}


def round_trip(settings):
    value = str(time.time()).encode()
    producer = Producer(settings)
    failures = []
    producer.produce(TOPIC, value, on_delivery=lambda error, _: failures.append(error))
    producer.flush(20)
    assert failures == [None], f"not delivered: {failures}"
    consumer = Consumer(settings | {"group.id": f"g-{value.decode()}", "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC])
    end = time.monotonic() + 20
    while time.monotonic() < end:
        message = consumer.poll(1)
        if message is not None and message.error() is None and message.value() == value:
            consumer.close()
            return
    raise AssertionError("the record did not come back")


def refused(settings):
    errors = []
    admin = AdminClient(settings | {"error_cb": errors.append, "log_level": 0})
    try:
        admin.list_topics(timeout=5)
    except KafkaException:
        admin.poll(1)
        assert any(it.code() == KafkaError._AUTHENTICATION for it in errors), f"told otherwise: {errors}"
        return
    raise AssertionError("a wrong password is let in")


def main():
    tls = {"ssl.ca.location": f"{CERTIFICATES}/ca.pem"}
    shown = {"ssl.certificate.location": f"{CERTIFICATES}/client.pem", "ssl.key.location": f"{CERTIFICATES}/client.key"}
    doors = {
        "SSL": {"bootstrap.servers": SSL, "security.protocol": "SSL"} | tls,
        "mutual TLS": {"bootstrap.servers": MTLS, "security.protocol": "SSL"} | tls | shown,
    }
    plain = {"bootstrap.servers": SASL_PLAINTEXT, "security.protocol": "SASL_PLAINTEXT"}
    secure = {"bootstrap.servers": SASL_SSL, "security.protocol": "SASL_SSL"} | tls
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]:
        doors[f"SASL_PLAINTEXT {mechanism}"] = plain | login(mechanism)
        doors[f"SASL_SSL {mechanism}"] = secure | login(mechanism)
    checks = [(name, lambda settings=settings: round_trip(settings)) for name, settings in doors.items()]
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]:
        wrong = plain | login(mechanism, "wrong")
        checks.append((f"refused: {mechanism} with a wrong password", lambda wrong=wrong: refused(wrong)))
    passed = 0
    for name, check in checks:
        try:
            check()
        except Exception as error:
            print(f"FAILED {name}: {error}")
            continue
        passed += 1
        print(f"ok     {name}")
    print(f"{passed} of {len(checks)} passed")
    sys.exit(passed != len(checks))


main()

"""A member of a group that says what it receives, until its standard input ends: member.py TOPIC KEY=VALUE..."""

import sys
import threading

from confluent_kafka import Consumer

ended = threading.Event()


def watch():
    sys.stdin.read()
    ended.set()


threading.Thread(target=watch, daemon=True).start()
properties = dict(word.split("=", 1) for word in sys.argv[2:])
# Nothing is committed before it was said.
consumer = Consumer({**properties, "enable.auto.offset.store": False})
consumer.subscribe([sys.argv[1]])
while not ended.is_set():
    record = consumer.poll(0.2)
    if record is not None and record.error() is None:
        print(record.partition(), record.offset(), flush=True)
        consumer.store_offsets(record)
    elif record is not None:
        print(record.error(), file=sys.stderr)
consumer.close()

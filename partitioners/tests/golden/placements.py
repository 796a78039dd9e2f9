"""Prints where librdkafka puts 10,000 keys: placements.py BROKERS TOPIC, a topic of 61 partitions; needs confluent-kafka."""
import sys

from confluent_kafka import Producer

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def keys():
    state = 1

    def step():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return state

    for _ in range(10_000):
        length = 1 + (step() >> 33) % 40
        yield bytes(step() >> 56 for _ in range(length))


for name in ("consistent", "murmur2", "fnv1a"):
    producer = Producer({"bootstrap.servers": sys.argv[1], "partitioner": name})
    found = {}
    for number, key in enumerate(keys()):
        def told(error, message, number=number):
            assert error is None, error
            found[number] = message.partition()

        producer.produce(sys.argv[2], key=key, value=b"", on_delivery=told)
        producer.poll(0)
    producer.flush()
    print(name, "".join(DIGITS[found[number]] for number in range(10_000)), sep=" ")

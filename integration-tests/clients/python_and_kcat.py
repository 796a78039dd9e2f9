"""What python_and_kcat.sh runs once the broker is there: python_and_kcat.py BOOTSTRAP."""

import subprocess
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, __version__
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import CommitFailedError, RebalanceInProgressError

BOOTSTRAP = sys.argv[1]
RECORDS = 2000
SECONDS = 60


def kcat(*arguments, stdin=None):
    command = ["kcat", "-b", BOOTSTRAP, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def lines(start=0, count=RECORDS):
    return [f"key{i % 17}:value{i}" for i in range(start, start + count)]


def kcat_lists_three_nodes():
    listed = kcat("-L")
    assert "3 brokers" in listed and 'topic "kcat" with 6 partitions' in listed, listed


def kcat_produces_and_consumes_with_every_codec():
    expected = []
    for number, codec in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
        sent = lines(number * RECORDS)
        kcat("-P", "-t", "kcat", "-K:", "-z", codec, stdin="\n".join(sent) + "\n")
        expected += sent
    got = kcat("-C", "-t", "kcat", "-e", "-q", "-K:").split()
    assert sorted(got) == sorted(expected), f"{len(got)} of {len(expected)}"


def kcat_keeps_the_order_of_an_idempotent_producer():
    sent = [f"value{i}" for i in range(RECORDS)]
    options = ["-X", "enable.idempotence=true", "-X", "linger.ms=1", "-X", "batch.num.messages=10"]
    kcat("-P", "-t", "both", "-p", "1", *options, stdin="\n".join(sent) + "\n")
    assert kcat("-C", "-t", "both", "-p", "1", "-e", "-q").split() == sent


def kcat_joins_a_group_and_goes_on_where_it_stopped():
    group = ["-G", "kcat-group", "-e", "-q", "-K:", "-X", "auto.offset.reset=earliest"]
    first = kcat(*group, "kcat").split()
    assert len(first) == 5 * RECORDS, len(first)
    kcat("-P", "-t", "kcat", "-K:", stdin="key:more\n")
    assert kcat(*group, "kcat").split() == ["key:more"]


def python_produces(topic="python", count=RECORDS, **options):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **options)
    sent = [producer.send(topic, key=b"k%d" % (i % 17), value=b"v%d" % i) for i in range(count)]
    producer.flush(SECONDS)
    offsets = {}
    for future in sent:
        metadata = future.get(SECONDS)
        partition = offsets.setdefault(metadata.partition, [])
        assert not partition or metadata.offset == partition[-1] + 1, "offsets have no gaps"
        partition.append(metadata.offset)
    producer.close()


def python_produces_idempotently_and_compressed():
    python_produces(enable_idempotence=True, compression_type="gzip")


def python_consumes_what_it_produced():
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, consumer_timeout_ms=1000)
    partitions = [TopicPartition("python", i) for i in range(6)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    values = [record.value for record in consumer]
    assert len(values) == 2 * RECORDS, len(values)
    ends = consumer.end_offsets(partitions)
    assert sum(ends.values()) == 2 * RECORDS, ends
    consumer.close()


class Member(threading.Thread):
    """A consumer of a group, which commits after each poll."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.consumed, self.assigned, self.error = [], set(), None
        self.stop = threading.Event()
        self.group = group

    def run(self):
        try:
            consumer = KafkaConsumer(
                "python",
                bootstrap_servers=BOOTSTRAP,
                group_id=self.group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=6000,
                heartbeat_interval_ms=500,
                max_poll_records=100,
            )
            while not self.stop.is_set():
                # Longer than a rebalance: kafka-python 3.0.12 forgets its share when poll returns in the middle of one.
                for partition, records in consumer.poll(2000).items():
                    self.consumed.extend((partition.partition, record.offset) for record in records)
                self.assigned = consumer.assignment()
                try:
                    consumer.commit()
                except (RebalanceInProgressError, CommitFailedError):
                    pass  # The partitions go elsewhere, and whoever gets them reads again.
            consumer.close()
        except Exception as error:
            self.error = error


def until(happened, what):
    """Waits for something; `what` says, or tells, what never happened."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.1)


def python_shares_a_group_between_two_members():
    members = [Member("python-group"), Member("python-group")]
    for each in members:
        each.start()
    shares = lambda: [f"{sorted(each.assigned)} {len(each.consumed)} {each.error}" for each in members]
    until(lambda: all(len(each.assigned) == 3 for each in members), shares)
    before = [len(each.consumed) for each in members]
    python_produces()
    until(lambda: len({place for each in members for place in each.consumed}) == 3 * RECORDS, shares)
    assert all(len(each.consumed) > count for each, count in zip(members, before)), "both had a share"
    for each in members:
        each.stop.set()
    for each in members:
        each.join(SECONDS)
        assert each.error is None, each.error
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id="python-group")
    committed = [consumer.committed(TopicPartition("python", i)) for i in range(6)]
    assert sum(committed) == 3 * RECORDS, committed
    consumer.close()


def python_creates_and_deletes_topics():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic("made", num_partitions=4, replication_factor=3)])
    python_produces("made", 100)
    assert "made" in admin.list_topics()
    admin.delete_topics(["made"])
    assert "made" not in admin.list_topics()
    admin.close()


def each_reads_what_the_other_wrote():
    python_produces("both", 100)
    kcat("-P", "-t", "both", "-p", "0", stdin="from kcat\n")
    assert "v99" in kcat("-C", "-t", "both", "-e", "-q").split()
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, consumer_timeout_ms=1000)
    consumer.assign([TopicPartition("both", 0)])
    consumer.seek_to_beginning()
    assert b"from kcat" in [record.value for record in consumer]
    consumer.close()


CHECKS = [
    kcat_lists_three_nodes,
    kcat_produces_and_consumes_with_every_codec,
    kcat_keeps_the_order_of_an_idempotent_producer,
    kcat_joins_a_group_and_goes_on_where_it_stopped,
    python_produces,
    python_produces_idempotently_and_compressed,
    python_consumes_what_it_produced,
    python_shares_a_group_between_two_members,
    python_creates_and_deletes_topics,
    each_reads_what_the_other_wrote,
]


def main():
    version = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout.split()
    print(f"kafka-python {__version__}, kcat {version[version.index('Version') + 1] if 'Version' in version else ''}")
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            check()
            print(f"passed  {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()

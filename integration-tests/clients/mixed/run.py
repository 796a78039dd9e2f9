"""One group with members of three clients: Java's, librdkafka (confluent-kafka for Python) and ottla.

    run.py --brokers HOST:PORT,... [--seconds 300] [--each 2]
           [--protocol classic|consumer|migrate] [--assignor range|cooperative-sticky]

Members are restarted in turn, every second one by SIGKILL, while records are written. In the end each record must have
reached a member. `migrate` starts with classic members and puts one of the new protocol in the place of each.

The jars are those that `on-kafka` fetched; confluent-kafka comes from PyPI, into a virtual environment of its own.
"""

import argparse
import collections
import glob
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PARTITIONS = 12
RATE = 2_000
RESTART_SECONDS = 4
CATCH_UP_SECONDS = 90
JAVA_ASSIGNORS = {
    "range": "org.apache.kafka.clients.consumer.RangeAssignor",
    "cooperative-sticky": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
}


class Received:
    """What all members have said, by partition."""

    def __init__(self):
        self.lock = threading.Lock()
        self.offsets = collections.defaultdict(collections.Counter)
        self.by_client = collections.Counter()

    def add(self, client, line):
        partition, offset = line.split()
        with self.lock:
            self.offsets[int(partition)][int(offset)] += 1
            self.by_client[client] += 1

    def missing(self, ends):
        """Records that nobody has received."""
        with self.lock:
            return sum(end - len(self.offsets[partition]) for partition, end in ends.items())

    def repeated(self):
        return sum(count - 1 for offsets in self.offsets.values() for count in offsets.values())


class Member:
    def __init__(self, client, command, received):
        self.client, self.received = client, received
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            # What was cut short by a kill was not received.
            if line.endswith("\n"):
                self.received.add(self.client, line)

    def end(self, kill):
        crashed = self.process.poll()
        if kill:
            self.process.kill()
        else:
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit(f"a member of {self.client} did not leave")
        self.reader.join()
        if crashed is not None:
            sys.exit(f"a member of {self.client} ended by itself with {crashed}")


class Clients:
    """How to start a member of each client."""

    def __init__(self, options, work):
        self.options, self.group = options, f"mixed-{os.getpid()}"
        self.topic = self.group
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        jars = sorted(glob.glob(f"{cache}/ottla-kafka/*/kafka-clients-*.jar"))
        if not jars:
            sys.exit("no jars of Apache Kafka; integration-tests/on-kafka fetches them")
        self.classpath = f"{work}:{Path(jars[-1]).parent}/*"
        subprocess.run(["javac", "-cp", self.classpath, "-d", work, HERE / "Member.java"], check=True)
        subprocess.run([sys.executable, "-m", "venv", f"{work}/python"], check=True)
        self.python = f"{work}/python/bin/python"
        subprocess.run([self.python, "-m", "pip", "install", "-q", "confluent-kafka"], check=True)
        self.endure = build()

    def properties(self, protocol):
        yield from {
            "bootstrap.servers": self.options.brokers,
            "group.id": self.group,
            "auto.offset.reset": "earliest",
            "auto.commit.interval.ms": "500",
            "group.protocol": protocol,
        }.items()
        if protocol == "classic":
            yield "session.timeout.ms", "6000"
            yield "heartbeat.interval.ms", "1000"

    def command(self, client, protocol):
        properties = dict(self.properties(protocol))
        if protocol == "classic":
            names = JAVA_ASSIGNORS if client == "java" else {}
            assignor = self.options.assignor
            properties["partition.assignment.strategy"] = names.get(assignor, assignor)
        words = [f"{key}={value}" for key, value in properties.items()]
        if client == "java":
            java = ["java", "-Xmx96m", "-XX:+UseSerialGC", "-cp", self.classpath]
            return [*java, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "Member", self.topic, *words]
        if client == "librdkafka":
            return [self.python, HERE / "member.py", self.topic, *words]
        sets = itertools.chain.from_iterable(("--set", word) for word in words)
        return [self.endure, "follow", "--brokers", self.options.brokers, "--from", self.topic, *sets]


def build():
    arguments = ["cargo", "build", "-q", "-p", "ottla-integration-tests", "--bin", "endure"]
    subprocess.run(arguments, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return f"{target}/debug/endure"


def protocols(options):
    """Of the members that are started, one after the other."""
    if options.protocol != "migrate":
        return itertools.repeat(options.protocol)
    places = options.each * 3
    return itertools.chain(itertools.repeat("classic", 2 * places), itertools.repeat("consumer"))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--protocol", choices=["classic", "consumer", "migrate"], default="classic")
    parser.add_argument("--assignor", choices=list(JAVA_ASSIGNORS), default="cooperative-sticky")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        clients, received = Clients(options, work), Received()
        writer = subprocess.Popen(
            [clients.endure, "write", "--brokers", options.brokers, "--from", clients.topic]
            + ["--partitions", str(PARTITIONS), "--rate", str(RATE), "--records", str(RATE * options.seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        writer.stdout.readline()  # the topic is there
        of = protocols(options)
        start = lambda client: Member(client, clients.command(client, next(of)), received)
        members = [start(client) for client in ["java", "librdkafka", "ottla"] * options.each]
        restarts = 0
        while writer.poll() is None:
            time.sleep(RESTART_SECONDS)
            place = restarts % len(members)
            members[place].end(kill=restarts // len(members) % 2 == 1)
            members[place] = start(members[place].client)
            restarts += 1
        ends = dict(map(int, line.split()) for line in writer.stdout)
        until = time.monotonic() + CATCH_UP_SECONDS
        while received.missing(ends) and time.monotonic() < until:
            time.sleep(0.5)
        for member in members:
            member.end(kill=False)
        missing, written = received.missing(ends), sum(ends.values())
        shares = ", ".join(f"{client} {count:,}" for client, count in sorted(received.by_client.items()))
        print(f"{restarts} restarts, {written:,} records written, received by {shares}")
        print(f"{missing} skipped, {received.repeated():,} repeated")
        sys.exit(1 if missing or not written or len(received.by_client) < 3 else 0)


if __name__ == "__main__":
    main()

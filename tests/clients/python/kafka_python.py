"""The scenarios of SCENARIOS.md with kafka-python.

usage: kafka_python.py BOOTSTRAP [SCENARIO...]
"""

import contextlib
import logging
import os
import threading
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.structs import OffsetAndMetadata

from scenarios import CODECS, PASSWORD, USER, WRONG_PASSWORD, check, equal, eventually, listener, main, numbers
from scenarios import one_for_all, refused, scenario, tls_file, token, two_members, unique

LIMIT = 20
# A poll that ends just as an assignment comes makes this client (3.0.12) lose the assignment.
PATIENCE_MS = 2000


@one_for_all
def admin_of(bootstrap):
    return Locked(KafkaAdminClient(bootstrap_servers=bootstrap))


class Locked:
    """The admin client is not for several threads at once."""

    def __init__(self, client):
        self.client, self.lock = client, threading.RLock()

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            with self.lock:
                return method(*arguments, **options)

        return call


def new_topic(bootstrap, name, partitions=1, **configs):
    topic = unique(f"kafka-python-{name}")
    configs = {key.replace("_", "."): str(value) for key, value in configs.items()}
    options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin_of(bootstrap).create_topics({topic: options})
    admin_of(bootstrap).wait_for_topics([topic])
    return topic


def produce(bootstrap, topic, records, **config):
    """Sends dicts of KafkaProducer.send's arguments and returns their metadata in that order."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, **config)
    futures = [producer.send(topic, **record) for record in records]
    producer.flush(LIMIT)
    results = [future.get(LIMIT) for future in futures]
    producer.close()
    return results


def new_consumer(bootstrap, group=None, **config):
    base = {
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 300,
        "fetch_max_wait_ms": 100,
        "exclude_internal_topics": True,
    }
    return KafkaConsumer(bootstrap_servers=bootstrap, **{**base, **config})


def read(consumer, count, limit=LIMIT):
    """Polls until `count` records have come."""
    records = []
    deadline = time.monotonic() + limit
    while len(records) < count:
        check(time.monotonic() < deadline, f"{len(records)} of {count} records came")
        for batch in consumer.poll(PATIENCE_MS, max_records=count - len(records)).values():
            records.extend(batch)
    return records


def read_from(bootstrap, topic, offset, count, partition=0, **config):
    consumer = new_consumer(bootstrap, **config)
    try:
        consumer.assign([TopicPartition(topic, partition)])
        if offset is None:
            consumer.seek_to_beginning()
        else:
            consumer.seek(TopicPartition(topic, partition), offset)
        return read(consumer, count)
    finally:
        consumer.close()


def values_of(records):
    return [record.value for record in records]


def fails_with(*kinds):
    return lambda error: isinstance(error, kinds)


class Member(threading.Thread, ConsumerRebalanceListener):
    """One member of a group, polling on a thread of its own until it is told to leave."""

    def __init__(self, bootstrap, group, topic, **config):
        threading.Thread.__init__(self, daemon=True)
        # A listener runs on the client's own loop and must not commit; the client does it before a rebalance.
        self.consumer = new_consumer(bootstrap, group, **{"enable_auto_commit": True, **config})
        self.owned, self.values, self.assignments, self.revoked, self.errors = set(), [], 0, set(), []
        self.stopping = threading.Event()
        self.consumer.subscribe([topic], listener=self)
        self.start()

    def on_partitions_assigned(self, assigned):
        self.assignments += 1
        self.owned |= {p.partition for p in assigned}

    def on_partitions_revoked(self, revoked):
        self.revoked |= {p.partition for p in revoked}
        self.owned -= {p.partition for p in revoked}

    def on_partitions_lost(self, lost):
        self.owned -= {p.partition for p in lost}

    def run(self):
        try:
            while not self.stopping.is_set():
                for batch in self.consumer.poll(PATIENCE_MS).values():
                    self.values.extend(values_of(batch))
            self.consumer.close()
        except Exception as error:  # told to whoever waits for this member
            self.errors.append(error)

    def leave(self):
        self.stopping.set()
        self.join(LIMIT)
        check(not self.is_alive(), "a member did not close")
        check(not self.errors, f"a member saw {self.errors}")


@scenario
def produce_codecs(bootstrap):
    for codec in CODECS:
        topic = new_topic(bootstrap, f"codec-{codec}")
        values = [b"highwater %d " % n * 20 for n in range(200)]
        kind = None if codec == "none" else codec
        produce(bootstrap, topic, [{"value": value} for value in values], compression_type=kind, linger_ms=50)
        equal(values_of(read_from(bootstrap, topic, 0, 200)), values, codec)


@scenario
def acks(bootstrap):
    topic = new_topic(bootstrap, "acks")
    for level in (0, 1, "all"):
        produce(bootstrap, topic, [{"value": b"%s" % str(level).encode()}], acks=level, enable_idempotence=False)
    equal(values_of(read_from(bootstrap, topic, 0, 3)), [b"0", b"1", b"all"], "values")


@scenario
def idempotent_produce(bootstrap):
    topic = new_topic(bootstrap, "idempotent", 4)
    sent = produce(bootstrap, topic, numbers(0, 2000), enable_idempotence=True, batch_size=2000)
    for partition in range(4):
        offsets = [metadata.offset for metadata in sent if metadata.partition == partition]
        equal(offsets, list(range(500)), "offsets")
        stored = values_of(read_from(bootstrap, topic, 0, 500, partition))
        equal(stored, [b"%d" % n for n in range(partition, 2000, 4)], "order")


@scenario
def keys_and_values(bootstrap):
    topic = new_topic(bootstrap, "nulls")
    # The client refuses a record of neither key nor value, so that pair is left to the others.
    pairs = [(None, b""), (b"", None), (b"", b""), (b"k", b"v"), (b"k", None)]
    produce(bootstrap, topic, [{"key": key, "value": value} for key, value in pairs])
    equal([(r.key, r.value) for r in read_from(bootstrap, topic, 0, 5)], pairs, "pairs")


@scenario
def headers(bootstrap):
    topic = new_topic(bootstrap, "headers")
    # The client refuses to send a null value of a header.
    wanted = [("a", b"1"), ("a", b"2"), ("empty", b""), ("binary", bytes(range(256)))]
    produce(bootstrap, topic, [{"value": b"v", "headers": wanted}, {"value": b"w"}])
    first, second = read_from(bootstrap, topic, 0, 2)
    equal(list(first.headers), wanted, "headers")
    equal(list(second.headers), [], "no headers")


@scenario
def timestamps(bootstrap):
    topic = new_topic(bootstrap, "timestamps")
    base = 1_700_000_000_000
    produce(bootstrap, topic, [{"value": b"v", "timestamp_ms": base + n * 1000} for n in range(10)])
    stamps = [(r.timestamp_type, r.timestamp) for r in read_from(bootstrap, topic, 0, 10)]
    equal(stamps, [(0, base + n * 1000) for n in range(10)], "timestamps")
    consumer, partition = new_consumer(bootstrap), TopicPartition(topic, 0)
    for stamp, offset in [(0, 0), (base + 4000, 4), (base + 4001, 5)]:
        equal(consumer.offsets_for_times({partition: stamp})[partition].offset, offset, f"{stamp - base}")
    equal(consumer.offsets_for_times({partition: base + 9001})[partition], None, "past the end")
    consumer.close()
    appended = new_topic(bootstrap, "appended", message_timestamp_type="LogAppendTime")
    [sent] = produce(bootstrap, appended, [{"value": b"v", "timestamp_ms": base}])
    [record] = read_from(bootstrap, appended, 0, 1)
    equal(record.timestamp_type, 1, "timestamp type")
    equal(sent.timestamp, record.timestamp, "the producer is told the append time")
    check(abs(record.timestamp - time.time() * 1000) < 60_000, f"append time {record.timestamp}")


@scenario
def large_message(bootstrap):
    topic = new_topic(bootstrap, "large")
    value = os.urandom(1_000_000)
    produce(bootstrap, topic, [{"value": value}, {"value": b"small"}])
    equal(values_of(read_from(bootstrap, topic, 0, 2)), [value, b"small"], "values")
    refused(
        "2 MB under the default limit",
        lambda: produce(bootstrap, topic, [{"value": value * 2}], max_request_size=8_000_000),
        fails_with(errors.MessageSizeTooLargeError),
    )
    wide = new_topic(bootstrap, "wide", max_message_bytes=8_000_000)
    produce(bootstrap, wide, [{"value": value * 5}], max_request_size=8_000_000)
    [record] = read_from(bootstrap, wide, 0, 1, max_partition_fetch_bytes=100_000, fetch_max_bytes=100_000)
    equal(len(record.value), 5_000_000, "size past the fetch limit")


def rebalance(bootstrap, name, assignor):
    topic, group = new_topic(bootstrap, name, 4), unique("group")
    two_members(
        lambda start, end: produce(bootstrap, topic, numbers(start, end)),
        lambda: Member(bootstrap, group, topic, partition_assignment_strategy=[assignor]),
        keeps=assignor is CooperativeStickyAssignor,
    )


@scenario
def group_rebalance(bootstrap):
    rebalance(bootstrap, "rebalance", RangePartitionAssignor)


@scenario
def cooperative_sticky(bootstrap):
    rebalance(bootstrap, "cooperative", CooperativeStickyAssignor)


@scenario
def static_membership(bootstrap):
    """A member with an instance id comes back within its session and nobody rebalances."""
    topic, group = new_topic(bootstrap, "static", 4), unique("group")
    first = Member(bootstrap, group, topic, group_instance_id="one", session_timeout_ms=20_000)
    second = Member(bootstrap, group, topic, group_instance_id="two", session_timeout_ms=20_000)
    eventually("two partitions each", lambda: len(first.owned) == len(second.owned) == 2)
    owned, rounds = set(second.owned), first.assignments
    second.leave()
    again = Member(bootstrap, group, topic, group_instance_id="two", session_timeout_ms=20_000)
    eventually("the same partitions again", lambda: again.owned == owned)
    time.sleep(1)
    equal(first.assignments, rounds, "assignments of the member that stayed")
    first.leave()
    again.leave()


@scenario
def commits(bootstrap):
    topic, group = new_topic(bootstrap, "commits", 2), unique("group")
    produce(bootstrap, topic, numbers(0, 20, 2))
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    consumer = new_consumer(bootstrap, group)
    consumer.subscribe([topic])
    read(consumer, 20)
    consumer.commit({zero: OffsetAndMetadata(4, "mark", -1)})
    found = consumer.committed(zero, metadata=True)
    equal((found.offset, found.metadata), (4, "mark"), "committed offset")
    equal(consumer.committed(one), None, "no commit")
    consumer.close()
    consumer = new_consumer(bootstrap, group)
    consumer.subscribe([topic])
    offsets = {(r.partition, r.offset) for r in read(consumer, 16)}
    equal(offsets, {(0, n) for n in range(4, 10)} | {(1, n) for n in range(10)}, "read after the commit")
    consumer.commit()
    equal([consumer.committed(p) for p in (zero, one)], [10, 10], "committed positions")
    consumer.close()


@scenario
def offset_resets(bootstrap):
    topic = new_topic(bootstrap, "resets")
    partition = TopicPartition(topic, 0)
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(10)])
    consumer = new_consumer(bootstrap)
    consumer.assign([partition])
    read(consumer, 10)
    consumer.seek(partition, 3)
    equal(read(consumer, 1)[0].offset, 3, "after seek")
    consumer.seek_to_beginning(partition)
    equal(read(consumer, 1)[0].offset, 0, "after seek to the beginning")
    consumer.seek_to_end(partition)
    equal(consumer.poll(1000), {}, "after seek to the end")
    produce(bootstrap, topic, [{"value": b"10"}])
    equal(read(consumer, 1)[0].offset, 10, "after the end")
    equal(consumer.beginning_offsets([partition]), {partition: 0}, "beginning")
    equal(consumer.end_offsets([partition]), {partition: 11}, "end")
    consumer.close()
    # An offset past the end, under each policy.
    equal(read_from(bootstrap, topic, 99, 1, auto_offset_reset="earliest")[0].offset, 0, "earliest")
    latest = new_consumer(bootstrap, auto_offset_reset="latest")
    latest.assign([partition])
    latest.seek(partition, 99)
    equal(latest.poll(1500), {}, "after the reset to latest")
    produce(bootstrap, topic, [{"value": b"11"}])
    equal(read(latest, 1)[0].offset, 11, "latest")
    latest.close()
    refused(
        "no reset policy",
        lambda: read_from(bootstrap, topic, 99, 1, auto_offset_reset="none"),
        fails_with(errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError),
    )


@scenario
def read_committed(bootstrap):
    topic = new_topic(bootstrap, "committed")
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(5)])
    for level in ("read_committed", "read_uncommitted"):
        equal(len(read_from(bootstrap, topic, 0, 5, isolation_level=level)), 5, level)
        consumer = new_consumer(bootstrap, isolation_level=level)
        equal(list(consumer.end_offsets([TopicPartition(topic, 0)]).values()), [5], f"end under {level}")
        consumer.close()


@scenario
def list_offsets(bootstrap):
    topic = new_topic(bootstrap, "offsets")
    stamps = [1_700_000_000_000 + n for n in (0, 30, 10, 20)]
    produce(bootstrap, topic, [{"value": b"v", "timestamp_ms": stamp} for stamp in stamps])
    partition = TopicPartition(topic, 0)
    wanted = [
        (OffsetSpec.EARLIEST, 0),
        (OffsetSpec.LATEST, 4),
        (OffsetSpec.MAX_TIMESTAMP, 1),
        (stamps[0] + 5, 1),
        (stamps[0] + 31, -1),
    ]
    for spec, offset in wanted:
        found = admin_of(bootstrap).list_partition_offsets({partition: spec})[partition]
        equal(found.offset if found else -1, offset, f"{spec}")


@scenario
def admin_topics(bootstrap):
    admin, topic = admin_of(bootstrap), unique("kafka-python-admin")
    options = {"num_partitions": 3, "replication_factor": 1, "configs": {"retention.ms": "3600000"}}
    admin.create_topics({topic: options}, validate_only=True)
    check(topic not in admin.list_topics(), "validate_only made a topic")
    admin.create_topics({topic: options})
    refused(
        "the same topic twice",
        lambda: admin.create_topics({topic: options}),
        fails_with(errors.TopicAlreadyExistsError),
    )
    refused(
        "replication factor 3 on one node",
        lambda: admin.create_topics({unique("wide"): {"num_partitions": 1, "replication_factor": 3}}),
        fails_with(errors.InvalidReplicationFactorError),
    )
    refused(
        "an illegal name",
        lambda: admin.create_topics({"no spaces": options}),
        fails_with(errors.InvalidTopicError),
    )
    [described] = admin.describe_topics([topic])
    equal(sorted(p["partition_index"] for p in described["partitions"]), [0, 1, 2], "partitions")
    check(all(len(p["isr_nodes"]) == 1 for p in described["partitions"]), "in-sync replicas")
    admin.create_partitions({topic: 5})
    eventually("five partitions", lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 5)
    refused(
        "shrinking", lambda: admin.create_partitions({topic: 2}), fails_with(errors.InvalidPartitionsError)
    )
    admin.delete_topics([topic])
    eventually("the topic is gone", lambda: topic not in admin.list_topics())
    refused(
        "deleting it again",
        lambda: admin.delete_topics([topic]),
        fails_with(errors.UnknownTopicOrPartitionError),
    )


@scenario
def admin_configs(bootstrap):
    admin, topic = admin_of(bootstrap), new_topic(bootstrap, "configs", retention_ms=3_600_000)

    def described(kind=ConfigResourceType.TOPIC, name=topic):
        [by_name] = admin.describe_configs([ConfigResource(kind, name)], config_filter="all").values()
        return by_name[name]

    def alter(name, operation, value=None):
        change = {name: (operation, value)}
        [outcome] = admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=change)]).values()
        return outcome[topic]

    entries = described()
    check(len(entries) > 20, f"only {len(entries)} configs are described")
    equal(entries["retention.ms"]["value"], "3600000", "retention.ms")
    check("DEFAULT" not in source(entries["retention.ms"]), "a set value says it is the default")
    check("DEFAULT" in source(entries["segment.bytes"]), "a value never set says it is not the default")
    alter("segment.bytes", AlterConfigOp.SET, "2097152")
    alter("cleanup.policy", AlterConfigOp.APPEND, "compact")
    entries = described()
    equal(entries["segment.bytes"]["value"], "2097152", "segment.bytes")
    equal(sorted(entries["cleanup.policy"]["value"].split(",")), ["compact", "delete"], "cleanup.policy")
    equal(entries["retention.ms"]["value"], "3600000", "retention.ms, untouched")
    alter("cleanup.policy", AlterConfigOp.SUBTRACT, "delete")
    alter("retention.ms", AlterConfigOp.DELETE)
    entries = described()
    equal(entries["cleanup.policy"]["value"], "compact", "cleanup.policy")
    check("DEFAULT" in source(entries["retention.ms"]), "retention.ms was not reset")
    outcome = alter("segment.bytes", AlterConfigOp.SET, "-7")
    check("InvalidConfigurationError" in outcome, f"a value out of range: {outcome}")
    broker = str(admin.describe_cluster()["brokers"][0]["broker_id"])
    check("log.segment.bytes" in described(ConfigResourceType.BROKER, broker), "broker configs")


def source(entry):
    return str(entry.get("config_source", entry.get("source")))


@scenario
def admin_groups(bootstrap):
    admin = admin_of(bootstrap)
    topic, group = new_topic(bootstrap, "groups", 2), unique("kafka-python-group")
    produce(bootstrap, topic, numbers(0, 20, 2))
    member = Member(bootstrap, group, topic)
    eventually("the member owns both", lambda: member.owned == {0, 1})
    eventually("all is read", lambda: len(member.values) == 20)
    described = admin.describe_groups([group])[group]
    equal(described["group_state"], "Stable", "state")
    equal(len(described["members"]), 1, "members")
    assignment = described["members"][0]["member_assignment"]
    check(str(topic) in str(assignment), f"described assignment: {assignment}")
    listed = admin.list_groups(states_filter=["Stable"])
    check(group in {g["group_id"] for g in listed}, "the group is not listed")
    outcome = admin.delete_groups([group])
    check("NON_EMPTY" in str(outcome).upper() or "NonEmpty" in str(outcome), f"deleting a live group: {outcome}")
    member.leave()
    eventually("the group is empty", lambda: admin.describe_groups([group])[group]["group_state"] == "Empty")
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    wanted = {zero: OffsetAndMetadata(7, "", -1), one: OffsetAndMetadata(8, "", -1)}
    admin.alter_group_offsets(group, wanted)
    found = admin.list_group_offsets({group: None})[group]
    equal({p.partition: o.offset for p, o in found.items()}, {0: 7, 1: 8}, "offsets")
    admin.delete_group_offsets(group, [one])
    found = admin.list_group_offsets({group: None})[group]
    equal({p.partition: o.offset for p, o in found.items()}, {0: 7}, "offsets left")
    admin.delete_groups([group])
    check(group not in {g["group_id"] for g in admin.list_groups()}, "the deleted group is listed")


@scenario
def delete_records(bootstrap):
    admin, topic = admin_of(bootstrap), new_topic(bootstrap, "delete")
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(10)])
    partition = TopicPartition(topic, 0)

    def earliest():
        return admin.list_partition_offsets({partition: OffsetSpec.EARLIEST})[partition].offset

    admin.delete_records({partition: 4})
    equal(earliest(), 4, "earliest")
    equal([r.offset for r in read_from(bootstrap, topic, None, 6)], list(range(4, 10)), "left")
    refused(
        "deleting past the end",
        lambda: admin.delete_records({partition: 99}),
        fails_with(errors.OffsetOutOfRangeError),
    )
    admin.delete_records({partition: -1})
    equal(earliest(), 10, "all gone")


@scenario
def describe_cluster(bootstrap):
    cluster = admin_of(bootstrap).describe_cluster()
    check(cluster["cluster_id"], "no cluster id")
    check(cluster["controller_id"] in {b["broker_id"] for b in cluster["brokers"]}, "the controller is no node")
    equal([f"{b['host']}:{b['port']}" for b in cluster["brokers"]], [bootstrap], "nodes")


def secured(protocol, **config):
    tls = {"ssl_cafile": tls_file("ca.pem")} if protocol.endswith("SSL") else {}
    return {"bootstrap_servers": listener(protocol), "security_protocol": protocol, **tls, **config}


def round_trip(config):
    """A record is written, and a member of a group reads it."""
    topic = unique("kafka-python-secured")
    producer = KafkaProducer(**config)
    producer.send(topic, b"told").get(LIMIT)
    producer.close()
    consumer = KafkaConsumer(topic, group_id=unique("secured"), auto_offset_reset="earliest", **config)
    equal([record.value for record in read(consumer, 1)], [b"told"], "values")
    consumer.close()


def refused_login(config):
    """This client (3.0.12) goes on trying and has one error for all reasons; those of the node are in its log."""
    def connect():
        return KafkaAdminClient(bootstrap_timeout_ms=1000, **config)

    with logged("kafka.net.connection") as lines:
        refused("connecting", connect, fails_with(errors.KafkaTimeoutError))
    if "sasl_mechanism" in config:
        lost = [line for line in lines if "Connection lost" in line]
        check(any("SaslAuthenticationFailedError" in line for line in lost), f"the log does not say why: {lost}")


@contextlib.contextmanager
def logged(name):
    """The lines that a logger of the client writes meanwhile."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def logs_in(mechanism):
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"]:
        known = {"sasl_mechanism": mechanism, "sasl_plain_username": USER}
        round_trip(secured(protocol, **known, sasl_plain_password=PASSWORD))
        wrong = secured(protocol, **known, sasl_plain_password=WRONG_PASSWORD)
        refused_login(wrong)


@scenario
def sasl_plain(_):
    logs_in("PLAIN")


@scenario
def sasl_scram_sha_256(_):
    logs_in("SCRAM-SHA-256")


@scenario
def sasl_scram_sha_512(_):
    logs_in("SCRAM-SHA-512")


class Bearer(AbstractTokenProvider):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def token(self):
        return token(self.name)


@scenario
def sasl_oauthbearer(_):
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"]:

        def bearer(name):
            return secured(protocol, sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=Bearer(name))

        round_trip(bearer("token"))
        refused_login(bearer("strange-token"))


@scenario
def tls_client_certificate(_):
    round_trip(secured("SSL", ssl_certfile=tls_file("client.crt"), ssl_keyfile=tls_file("client.key")))
    refused_login(secured("SSL"))


main(f"kafka-python {kafka.__version__}")

"""The scenarios of SCENARIOS.md with confluent-kafka, which is librdkafka.

usage: confluent.py BOOTSTRAP [SCENARIO...]
"""

import os
import threading
import time

import confluent_kafka
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_CREATE_TIME,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from scenarios import CODECS, PASSWORD, USER, WRONG_PASSWORD, check, equal, eventually, listener, main, numbers
from scenarios import one_for_all, refused, scenario, tls_file, token, two_members, unique

LIMIT = 20


@one_for_all
def admin_of(bootstrap):
    """One for all: a client that is dropped takes its unfinished requests along."""
    return AdminClient({"bootstrap.servers": bootstrap})


def wait_for(futures):
    """The results of an admin call, by key; the first error is raised."""
    return {key: future.result(LIMIT) for key, future in futures.items()}


def new_topic(bootstrap, name, partitions=1, **config):
    topic = unique(f"confluent-{name}")
    config = {key.replace("_", "."): str(value) for key, value in config.items()}
    wait_for(admin_of(bootstrap).create_topics([NewTopic(topic, partitions, 1, config=config)]))
    return topic


def produce(bootstrap, topic, records, **config):
    """Sends dicts of Producer.produce's arguments and returns the delivered messages in that order."""
    config = {key.replace("_", "."): value for key, value in config.items()}
    producer = Producer({"bootstrap.servers": bootstrap, **config})
    delivered = []

    def on_delivery(error, message):
        delivered.append((error, message))

    for record in records:
        producer.produce(topic, on_delivery=on_delivery, **record)
    equal(producer.flush(LIMIT), 0, "undelivered records")
    for error, _ in delivered:
        if error is not None:
            raise KafkaException(error)
    return [message for _, message in delivered]


def new_consumer(bootstrap, group, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    base = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 300,
        "check.crcs": True,
    }
    merged = {**base, **config}
    return Consumer({key: value for key, value in merged.items() if value is not None})


def read(consumer, count, limit=LIMIT):
    """Polls until `count` messages have come."""
    messages = []
    deadline = time.monotonic() + limit
    while len(messages) < count:
        check(time.monotonic() < deadline, f"{len(messages)} of {count} messages came")
        message = consumer.poll(0.2)
        if message is not None:
            if message.error() is not None:
                raise KafkaException(message.error())
            messages.append(message)
    return messages


def read_from(bootstrap, topic, offset, count, partition=0, **config):
    consumer = new_consumer(bootstrap, unique("reader"), **config)
    consumer.assign([TopicPartition(topic, partition, offset)])
    try:
        return read(consumer, count)
    finally:
        consumer.close()


def fails_with(*codes):
    return lambda error: isinstance(error, KafkaException) and error.args[0].code() in codes


class Member(threading.Thread):
    """One member of a group, polling on a thread of its own until it is told to leave."""

    def __init__(self, bootstrap, group, topic, **config):
        super().__init__(daemon=True)
        self.consumer = new_consumer(bootstrap, group, **config)
        self.owned, self.values, self.assignments, self.revoked, self.errors = set(), [], 0, set(), []
        self.stopping = threading.Event()
        self.consumer.subscribe(
            [topic], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_revoke
        )
        self.start()

    def on_assign(self, consumer, partitions):
        self.assignments += 1
        self.owned |= {p.partition for p in partitions}

    def on_revoke(self, consumer, partitions):
        self.revoked |= {p.partition for p in partitions}
        self.owned -= {p.partition for p in partitions}
        if self.values and partitions:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as error:
                if error.args[0].code() not in (KafkaError._NO_OFFSET, KafkaError.REBALANCE_IN_PROGRESS):
                    self.errors.append(error)

    def run(self):
        while not self.stopping.is_set():
            message = self.consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.values.append(message.value())
            elif message is not None:
                self.errors.append(message.error())
        self.consumer.close()

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
        produce(bootstrap, topic, [{"value": value} for value in values], compression_type=codec, linger_ms=50)
        equal([m.value() for m in read_from(bootstrap, topic, 0, 200)], values, codec)


@scenario
def acks(bootstrap):
    topic = new_topic(bootstrap, "acks")
    for level in ("0", "1", "all"):
        produce(bootstrap, topic, [{"value": level.encode()}], acks=level)
    equal([m.value() for m in read_from(bootstrap, topic, 0, 3)], [b"0", b"1", b"all"], "values")


@scenario
def idempotent_produce(bootstrap):
    topic = new_topic(bootstrap, "idempotent", 4)
    delivered = produce(bootstrap, topic, numbers(0, 2000), enable_idempotence=True, linger_ms=1)
    for partition in range(4):
        mine = sorted((m.offset(), m.value()) for m in delivered if m.partition() == partition)
        equal([offset for offset, _ in mine], list(range(500)), "offsets")
        stored = read_from(bootstrap, topic, 0, 500, partition)
        equal([m.value() for m in stored], [b"%d" % n for n in range(partition, 2000, 4)], "order")


@scenario
def keys_and_values(bootstrap):
    topic = new_topic(bootstrap, "nulls")
    pairs = [(None, None), (None, b""), (b"", None), (b"", b""), (b"k", b"v")]
    produce(bootstrap, topic, [{"key": key, "value": value} for key, value in pairs])
    equal([(m.key(), m.value()) for m in read_from(bootstrap, topic, 0, 5)], pairs, "pairs")


@scenario
def headers(bootstrap):
    topic = new_topic(bootstrap, "headers")
    wanted = [("a", b"1"), ("b", None), ("a", b"2"), ("empty", b""), ("binary", bytes(range(256)))]
    produce(bootstrap, topic, [{"value": b"v", "headers": wanted}, {"value": b"w"}])
    first, second = read_from(bootstrap, topic, 0, 2)
    equal(first.headers(), wanted, "headers")
    equal(second.headers(), None, "no headers")


@scenario
def timestamps(bootstrap):
    topic = new_topic(bootstrap, "timestamps")
    base = 1_700_000_000_000
    produce(bootstrap, topic, [{"value": b"v", "timestamp": base + n * 1000} for n in range(10)])
    stamps = [m.timestamp() for m in read_from(bootstrap, topic, 0, 10)]
    equal(stamps, [(TIMESTAMP_CREATE_TIME, base + n * 1000) for n in range(10)], "timestamps")
    consumer = new_consumer(bootstrap, unique("reader"))
    for stamp, offset in [(0, 0), (base + 4000, 4), (base + 4001, 5), (base + 9001, OFFSET_END)]:
        [found] = consumer.offsets_for_times([TopicPartition(topic, 0, stamp)], timeout=LIMIT)
        equal(found.offset, offset, f"offset for {stamp - base}")
    consumer.close()
    appended = new_topic(bootstrap, "appended", message_timestamp_type="LogAppendTime")
    produce(bootstrap, appended, [{"value": b"v", "timestamp": base}])
    [message] = read_from(bootstrap, appended, 0, 1)
    kind, stamp = message.timestamp()
    equal(kind, TIMESTAMP_LOG_APPEND_TIME, "timestamp type")
    check(abs(stamp - time.time() * 1000) < 60_000, f"append time {stamp}")


@scenario
def large_message(bootstrap):
    topic = new_topic(bootstrap, "large")
    value = os.urandom(1_000_000)
    produce(bootstrap, topic, [{"value": value}, {"value": b"small"}], message_max_bytes=1_048_588)
    equal([m.value() for m in read_from(bootstrap, topic, 0, 2)], [value, b"small"], "values")
    refused(
        "2 MB under the default limit",
        lambda: produce(bootstrap, topic, [{"value": value * 2}], message_max_bytes=8_000_000),
        fails_with(KafkaError.MSG_SIZE_TOO_LARGE),
    )
    wide = new_topic(bootstrap, "wide", max_message_bytes=8_000_000)
    produce(bootstrap, wide, [{"value": value * 5}], message_max_bytes=8_000_000)
    [message] = read_from(bootstrap, wide, 0, 1, fetch_message_max_bytes=100_000)
    equal(len(message.value()), 5_000_000, "size past the fetch limit")


@scenario
def group_rebalance(bootstrap):
    rebalance(bootstrap, "rebalance", partition_assignment_strategy="range")


@scenario
def cooperative_sticky(bootstrap):
    rebalance(bootstrap, "cooperative", partition_assignment_strategy="cooperative-sticky")


@scenario
def consumer_protocol(bootstrap):
    """The group protocol of KIP-848, where the broker assigns."""
    for assignor in ("uniform", "range"):
        rebalance(
            bootstrap,
            f"consumer-{assignor}",
            group_protocol="consumer",
            group_remote_assignor=assignor,
            session_timeout_ms=None,
            heartbeat_interval_ms=None,
        )


def rebalance(bootstrap, name, **config):
    topic, group = new_topic(bootstrap, name, 4), unique("group")
    two_members(
        lambda start, end: produce(bootstrap, topic, numbers(start, end)),
        lambda: Member(bootstrap, group, topic, **config),
        keeps=name == "cooperative",
    )


@scenario
def static_membership(bootstrap):
    """A member with an instance id comes back within its session and nobody rebalances."""
    topic, group = new_topic(bootstrap, "static", 4), unique("group")
    config = {"session_timeout_ms": 20_000, "partition_assignment_strategy": "range"}
    first = Member(bootstrap, group, topic, group_instance_id="one", **config)
    second = Member(bootstrap, group, topic, group_instance_id="two", **config)
    eventually("two partitions each", lambda: len(first.owned) == len(second.owned) == 2)
    owned, rounds = set(second.owned), first.assignments
    second.leave()
    again = Member(bootstrap, group, topic, group_instance_id="two", **config)
    eventually("the same partitions again", lambda: again.owned == owned)
    time.sleep(1)
    equal(first.assignments, rounds, "assignments of the member that stayed")
    first.leave()
    again.leave()


@scenario
def commits(bootstrap):
    topic, group = new_topic(bootstrap, "commits", 2), unique("group")
    produce(bootstrap, topic, numbers(0, 20, 2))
    consumer = new_consumer(bootstrap, group)
    consumer.subscribe([topic])
    read(consumer, 20)
    consumer.commit(offsets=[TopicPartition(topic, 0, 4, metadata="mark")], asynchronous=False)
    found = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=LIMIT)
    equal([p.offset for p in found], [4, -1001], "committed offsets")
    equal(found[0].metadata, "mark", "metadata")
    consumer.close()
    consumer = new_consumer(bootstrap, group)
    consumer.subscribe([topic])
    offsets = {(m.partition(), m.offset()) for m in read(consumer, 16)}
    equal(offsets, {(0, n) for n in range(4, 10)} | {(1, n) for n in range(10)}, "read after the commit")
    consumer.commit(asynchronous=False)
    found = consumer.committed([TopicPartition(topic, p) for p in (0, 1)], timeout=LIMIT)
    equal([p.offset for p in found], [10, 10], "committed positions")
    consumer.close()


@scenario
def offset_resets(bootstrap):
    topic = new_topic(bootstrap, "resets")
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(10)])
    consumer = new_consumer(bootstrap, unique("group"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    read(consumer, 10)
    consumer.seek(TopicPartition(topic, 0, 3))
    equal(read(consumer, 1)[0].offset(), 3, "after seek")
    consumer.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
    equal(read(consumer, 1)[0].offset(), 0, "after seek to the beginning")
    consumer.seek(TopicPartition(topic, 0, OFFSET_END))
    check(consumer.poll(1.0) is None, "something came after seek to the end")
    produce(bootstrap, topic, [{"value": b"10"}])
    equal(read(consumer, 1)[0].offset(), 10, "after the end")
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=LIMIT), (0, 11), "watermarks")
    consumer.close()
    # An offset past the end, under each policy.
    equal(read_from(bootstrap, topic, 99, 1, auto_offset_reset="earliest")[0].offset(), 0, "earliest")
    latest = new_consumer(bootstrap, unique("group"), auto_offset_reset="latest")
    latest.assign([TopicPartition(topic, 0, 99)])
    check(latest.poll(1.5) is None, "something came after the reset to latest")
    produce(bootstrap, topic, [{"value": b"11"}])
    equal(read(latest, 1)[0].offset(), 11, "latest")
    latest.close()
    refused(
        "no reset policy",
        lambda: read_from(bootstrap, topic, 99, 1, auto_offset_reset="error"),
        fails_with(KafkaError._AUTO_OFFSET_RESET),
    )


@scenario
def read_committed(bootstrap):
    topic = new_topic(bootstrap, "committed")
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(5)])
    for level in ("read_committed", "read_uncommitted"):
        equal(len(read_from(bootstrap, topic, 0, 5, isolation_level=level)), 5, level)
    partition = TopicPartition(topic, 0)
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        futures = admin_of(bootstrap).list_offsets({partition: OffsetSpec.latest()}, isolation_level=level)
        equal(wait_for(futures)[partition].offset, 5, f"end under {level}")


@scenario
def list_offsets(bootstrap):
    topic = new_topic(bootstrap, "offsets")
    stamps = [1_700_000_000_000 + n for n in (0, 30, 10, 20)]
    produce(bootstrap, topic, [{"value": b"v", "timestamp": stamp} for stamp in stamps])
    admin, partition = admin_of(bootstrap), TopicPartition(topic, 0)
    wanted = [
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 4),
        (OffsetSpec.max_timestamp(), 1),
        (OffsetSpec.for_timestamp(stamps[0] + 5), 1),
        (OffsetSpec.for_timestamp(stamps[0] + 31), -1),
    ]
    for spec, offset in wanted:
        equal(wait_for(admin.list_offsets({partition: spec}))[partition].offset, offset, f"{spec}")


@scenario
def admin_topics(bootstrap):
    admin, topic = admin_of(bootstrap), unique("confluent-admin")
    wait_for(admin.create_topics([NewTopic(topic, 3, 1)], validate_only=True))
    check(topic not in admin.list_topics(timeout=LIMIT).topics, "validate_only made a topic")
    wait_for(admin.create_topics([NewTopic(topic, 3, 1, config={"retention.ms": "3600000"})]))
    refused(
        "the same topic twice",
        lambda: wait_for(admin.create_topics([NewTopic(topic, 3, 1)])),
        fails_with(KafkaError.TOPIC_ALREADY_EXISTS),
    )
    refused(
        "replication factor 3 on one node",
        lambda: wait_for(admin.create_topics([NewTopic(unique("wide"), 1, 3)])),
        fails_with(KafkaError.INVALID_REPLICATION_FACTOR),
    )
    refused(
        "an illegal name",
        lambda: wait_for(admin.create_topics([NewTopic("no spaces", 1, 1)])),
        fails_with(KafkaError.TOPIC_EXCEPTION),
    )
    described = wait_for(admin.describe_topics(TopicCollection([topic])))[topic]
    equal([p.id for p in described.partitions], [0, 1, 2], "partitions")
    check(all(p.leader and len(p.isr) == 1 for p in described.partitions), "leaders and in-sync replicas")
    check(not described.is_internal, "internal")
    wait_for(admin.create_partitions([NewPartitions(topic, 5)]))
    eventually("five partitions", lambda: len(admin.list_topics(topic, LIMIT).topics[topic].partitions) == 5)
    refused(
        "shrinking",
        lambda: wait_for(admin.create_partitions([NewPartitions(topic, 2)])),
        fails_with(KafkaError.INVALID_PARTITIONS),
    )
    wait_for(admin.delete_topics([topic]))
    eventually("the topic is gone", lambda: topic not in admin.list_topics(timeout=LIMIT).topics)
    refused(
        "deleting it again",
        lambda: wait_for(admin.delete_topics([topic])),
        fails_with(KafkaError.UNKNOWN_TOPIC_OR_PART),
    )


@scenario
def admin_configs(bootstrap):
    admin, topic = admin_of(bootstrap), new_topic(bootstrap, "configs", retention_ms=3_600_000)
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def described():
        [entries] = wait_for(admin.describe_configs([resource])).values()
        return entries

    def alter(name, operation, value=None):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        wait_for(admin.incremental_alter_configs([changed]))

    entries = described()
    check(len(entries) > 20, f"only {len(entries)} configs are described")
    equal(entries["retention.ms"].value, "3600000", "retention.ms")
    check(not entries["retention.ms"].is_default, "a set value says it is the default")
    check(entries["segment.bytes"].is_default, "a value never set says it is not the default")
    alter("segment.bytes", AlterConfigOpType.SET, "2097152")
    alter("cleanup.policy", AlterConfigOpType.APPEND, "compact")
    entries = described()
    equal(entries["segment.bytes"].value, "2097152", "segment.bytes")
    equal(sorted(entries["cleanup.policy"].value.split(",")), ["compact", "delete"], "cleanup.policy")
    equal(entries["retention.ms"].value, "3600000", "retention.ms, untouched")
    alter("cleanup.policy", AlterConfigOpType.SUBTRACT, "delete")
    alter("retention.ms", AlterConfigOpType.DELETE)
    entries = described()
    equal(entries["cleanup.policy"].value, "compact", "cleanup.policy")
    check(entries["retention.ms"].is_default, "retention.ms was not reset")
    refused(
        "a value out of range",
        lambda: alter("segment.bytes", AlterConfigOpType.SET, "-7"),
        fails_with(KafkaError.INVALID_CONFIG),
    )
    broker = str(next(iter(admin.list_topics(timeout=LIMIT).brokers)))
    [entries] = wait_for(admin.describe_configs([ConfigResource(ResourceType.BROKER, broker)])).values()
    check("log.retention.ms" in entries or "log.retention.hours" in entries, "broker configs")


@scenario
def admin_groups(bootstrap):
    admin = admin_of(bootstrap)
    topic, group = new_topic(bootstrap, "groups", 2), unique("confluent-group")
    produce(bootstrap, topic, numbers(0, 20, 2))
    member = Member(bootstrap, group, topic)
    eventually("the member owns both", lambda: member.owned == {0, 1})
    eventually("all is read", lambda: len(member.values) == 20)
    described = wait_for(admin.describe_consumer_groups([group]))[group]
    equal(described.state, ConsumerGroupState.STABLE, "state")
    equal(len(described.members), 1, "members")
    owned = {p.partition for p in described.members[0].assignment.topic_partitions}
    equal(owned, {0, 1}, "described assignment")
    listed = admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(LIMIT)
    check(group in {g.group_id for g in listed.valid}, "the group is not listed")
    refused(
        "deleting a live group",
        lambda: wait_for(admin.delete_consumer_groups([group])),
        fails_with(KafkaError.NON_EMPTY_GROUP),
    )
    member.leave()
    eventually(
        "the group is empty",
        lambda: wait_for(admin.describe_consumer_groups([group]))[group].state == ConsumerGroupState.EMPTY,
    )
    wanted = [TopicPartition(topic, 0, 7), TopicPartition(topic, 1, 8)]
    wait_for(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)]))
    listed = wait_for(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    equal(sorted((p.partition, p.offset) for p in listed.topic_partitions), [(0, 7), (1, 8)], "offsets")
    wait_for(admin.delete_consumer_groups([group]))
    listed = admin.list_consumer_groups().result(LIMIT)
    check(group not in {g.group_id for g in listed.valid}, "the deleted group is listed")
    refused(
        "deleting it again",
        lambda: wait_for(admin.delete_consumer_groups([group])),
        fails_with(KafkaError.GROUP_ID_NOT_FOUND),
    )


@scenario
def delete_records(bootstrap):
    admin, topic = admin_of(bootstrap), new_topic(bootstrap, "delete")
    produce(bootstrap, topic, [{"value": b"%d" % n} for n in range(10)])
    partition = TopicPartition(topic, 0)
    [deleted] = wait_for(admin.delete_records([TopicPartition(topic, 0, 4)])).values()
    equal(deleted.low_watermark, 4, "low watermark")
    equal([m.offset() for m in read_from(bootstrap, topic, OFFSET_BEGINNING, 6)], list(range(4, 10)), "left")
    equal(wait_for(admin.list_offsets({partition: OffsetSpec.earliest()}))[partition].offset, 4, "earliest")
    refused(
        "deleting past the end",
        lambda: wait_for(admin.delete_records([TopicPartition(topic, 0, 99)])),
        fails_with(KafkaError.OFFSET_OUT_OF_RANGE),
    )
    wait_for(admin.delete_records([TopicPartition(topic, 0, OFFSET_END)]))
    equal(wait_for(admin.list_offsets({partition: OffsetSpec.earliest()}))[partition].offset, 10, "all gone")


@scenario
def describe_cluster(bootstrap):
    cluster = admin_of(bootstrap).describe_cluster().result(LIMIT)
    check(cluster.cluster_id, "no cluster id")
    check(cluster.controller.id in {node.id for node in cluster.nodes}, "the controller is no node")
    equal([f"{node.host}:{node.port}" for node in cluster.nodes], [bootstrap], "nodes")


def secured(protocol, **config):
    config = {key.replace("_", "."): value for key, value in config.items()}
    tls = {"ssl.ca.location": tls_file("ca.pem")} if protocol.endswith("SSL") else {}
    return {"bootstrap.servers": listener(protocol), "security.protocol": protocol, **tls, **config}


def round_trip(config):
    """A record is written, and a member of a group reads it."""
    topic = unique("confluent-secured")
    errors = []
    producer = Producer(config)
    producer.produce(topic, b"told", on_delivery=lambda error, _: errors.append(error))
    equal(producer.flush(LIMIT), 0, "undelivered records")
    equal(errors, [None], "delivery")
    consumer = Consumer({**config, "group.id": unique("secured"), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    equal([message.value() for message in read(consumer, 1)], [b"told"], "values")
    consumer.close()


def refused_because(reason, config):
    """The client tells its user this reason."""
    told = []
    consumer = Consumer({**config, "group.id": unique("refused"), "error_cb": lambda error: told.append(error)})
    consumer.subscribe(["refused"])

    def is_told():
        consumer.poll(0.1)
        return any(reason(error) for error in told)

    eventually("the reason of the refusal", is_told)
    consumer.close()


def is_authentication(error):
    return error.code() == KafkaError._AUTHENTICATION


def logs_in(mechanism):
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"]:
        known = {"sasl_mechanism": mechanism, "sasl_username": USER}
        round_trip(secured(protocol, **known, sasl_password=PASSWORD))
        refused_because(is_authentication, secured(protocol, **known, sasl_password=WRONG_PASSWORD))


@scenario
def sasl_plain(_):
    logs_in("PLAIN")


@scenario
def sasl_scram_sha_256(_):
    logs_in("SCRAM-SHA-256")


@scenario
def sasl_scram_sha_512(_):
    logs_in("SCRAM-SHA-512")


@scenario
def sasl_oauthbearer(_):
    for protocol in ["SASL_PLAINTEXT", "SASL_SSL"]:

        def bearer(name):
            config = secured(protocol, sasl_mechanism="OAUTHBEARER")
            return {**config, "oauth_cb": lambda _: (token(name), time.time() + 3600)}

        round_trip(bearer("token"))
        refused_because(is_authentication, bearer("strange-token"))


@scenario
def tls_client_certificate(_):
    identity = {"ssl_certificate_location": tls_file("client.crt"), "ssl_key_location": tls_file("client.key")}
    round_trip(secured("SSL", **identity))
    refused_because(lambda error: "certificate required" in error.str(), secured("SSL"))


main(f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})")

"""One member of a consumer group: prints `partition offset value` for every record, until it is killed.

usage: member.py BOOTSTRAP GROUP TOPIC
"""

import sys

from confluent_kafka import Consumer

bootstrap, group, topic = sys.argv[1:4]
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_000,
        "auto.commit.interval.ms": 500,
        "auto.offset.reset": "earliest",
    }
)


def on_assign(_, partitions):
    print("assigned", sorted(p.partition for p in partitions), flush=True)


consumer.subscribe([topic], on_assign=on_assign)
while True:
    message = consumer.poll(0.2)
    if message is None:
        continue
    if message.error() is not None:
        print("error", message.error(), flush=True)
        continue
    print("record", message.partition(), message.offset(), message.value().decode(), flush=True)

"""Produces or consumes a million 100-byte records with librdkafka and prints a checksum per codec.

usage: million.py produce|consume BOOTSTRAP COUNT CODEC...
The checksum is the sum of the CRC-32 of every value, so that it does not depend on the order over partitions;
within a partition the order is checked by the number in each value.
"""

import sys
import zlib

from confluent_kafka import Consumer, Producer, TopicPartition

PARTITIONS = 3


def value_of(number):
    head = b"%012d|" % number
    return head + (b"highwater" * 12)[: 100 - len(head)]


def topic_of(codec):
    return f"million-{codec}"


def produce(bootstrap, count, codec):
    failures = []

    def on_delivery(error, message):
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "enable.idempotence": True,
            "linger.ms": 20,
            "queue.buffering.max.messages": 200_000,
            "on_delivery": on_delivery,
        }
    )
    checksum = 0
    for number in range(count):
        value = value_of(number)
        checksum += zlib.crc32(value)
        while True:
            try:
                producer.produce(topic_of(codec), value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    assert left == 0 and not failures, f"{left} undelivered, failures: {failures[:3]}"
    return checksum


def consume(bootstrap, count, codec):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"readers-{codec}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
        }
    )
    consumer.assign([TopicPartition(topic_of(codec), p, 0) for p in range(PARTITIONS)])
    checksum, seen, expected = 0, 0, list(range(PARTITIONS))
    while seen < count:
        messages = consumer.consume(10_000, timeout=30)
        assert messages, f"{codec}: nothing came for 30 s after {seen} records"
        for message in messages:
            assert message.error() is None, message.error()
            value = message.value()
            number = int(value[:12])
            assert number == expected[message.partition()], (number, message.partition(), message.offset())
            expected[message.partition()] += PARTITIONS
            checksum += zlib.crc32(value)
            seen += 1
    consumer.close()
    return checksum


def main():
    verb, bootstrap, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    work = {"produce": produce, "consume": consume}[verb]
    for codec in sys.argv[4:]:
        print(f"{codec} {work(bootstrap, count, codec)}", flush=True)


main()

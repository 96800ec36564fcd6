"""The first tutorial of kafka-python: send prices as JSON, then read and print them.

usage: tutorial.py BOOTSTRAP COUNT
"""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer

bootstrap, count = sys.argv[1], int(sys.argv[2])

producer = KafkaProducer(
    bootstrap_servers=bootstrap,
    value_serializer=lambda value: json.dumps(value).encode("utf-8"),
)
for i in range(count):
    producer.send("btc_prices", {"symbol": "BTCUSDT", "price": 67000.0 + i, "sequence": i})
producer.flush()

consumer = KafkaConsumer(
    "btc_prices",
    bootstrap_servers=bootstrap,
    auto_offset_reset="earliest",
    enable_auto_commit=True,
    group_id="price-printers",
    value_deserializer=lambda value: json.loads(value.decode("utf-8")),
    consumer_timeout_ms=20_000,
)
seen = 0
for message in consumer:
    assert message.value["sequence"] == message.offset, message
    print(f"{message.topic}:{message.partition}:{message.offset} {message.value}")
    seen += 1
    if seen == count:
        break
consumer.close()
producer.close()
assert seen == count, f"sent {count} prices and read {seen}"
print(f"read all {seen}")

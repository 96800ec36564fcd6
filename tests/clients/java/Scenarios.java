import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The scenarios of SCENARIOS.md with the Java client. Arguments: BOOTSTRAP [SCENARIO...]. */
public final class Scenarios {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static Admin admin;

    public static void main(String[] arguments) throws Exception {
        admin = Admin.create(Map.of("bootstrap.servers", arguments[0]));
        Harness harness = new Harness();
        harness.add("produce-codecs", Scenarios::produceCodecs);
        harness.add("acks", Scenarios::acks);
        harness.add("idempotent-produce", Scenarios::idempotentProduce);
        harness.add("keys-and-values", Scenarios::keysAndValues);
        harness.add("headers", Scenarios::headers);
        harness.add("timestamps", Scenarios::timestamps);
        harness.add("large-message", Scenarios::largeMessage);
        harness.add("group-rebalance", bootstrap -> rebalance(bootstrap, "rebalance", assignor("Range")));
        harness.add("cooperative-sticky", bootstrap -> rebalance(bootstrap, "cooperative", assignor("CooperativeSticky")));
        harness.add("static-membership", Scenarios::staticMembership);
        harness.add("consumer-protocol", Scenarios::consumerProtocol);
        harness.add("commits", Scenarios::commits);
        harness.add("offset-resets", Scenarios::offsetResets);
        harness.add("read-committed", Scenarios::readCommitted);
        harness.add("list-offsets", Scenarios::listOffsets);
        harness.add("admin-topics", Scenarios::adminTopics);
        harness.add("admin-configs", Scenarios::adminConfigs);
        harness.add("admin-groups", Scenarios::adminGroups);
        harness.add("delete-records", Scenarios::deleteRecords);
        harness.add("describe-cluster", Scenarios::describeCluster);
        Secured.addTo(harness);
        harness.main("Java", arguments, 4);
    }

    private static <T> T result(KafkaFuture<T> future) throws Exception {
        return future.get(Harness.LIMIT_MS, TimeUnit.MILLISECONDS);
    }

    private static String newTopic(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = Harness.unique("java-" + name);
        result(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all());
        return topic;
    }

    private static String newTopic(String name) throws Exception {
        return newTopic(name, 1, Map.of());
    }

    private static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, String value) {
        return new ProducerRecord<>(topic, bytes(value));
    }

    /** Sends and waits for every record, and returns their metadata in order. */
    private static List<RecordMetadata> produce(
            String bootstrap, List<ProducerRecord<byte[], byte[]>> records, Map<String, Object> more) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        config.putAll(more);
        List<RecordMetadata> results = new ArrayList<>();
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (var each : records) {
                futures.add(producer.send(each));
            }
            for (var future : futures) {
                results.add(future.get(Harness.LIMIT_MS, TimeUnit.MILLISECONDS));
            }
        }
        return results;
    }

    private static List<ProducerRecord<byte[], byte[]>> numbers(String topic, int start, int end, int partitions) {
        return IntStream.range(start, end)
            .mapToObj(n -> new ProducerRecord<byte[], byte[]>(topic, n % partitions, null, bytes(Integer.toString(n))))
            .toList();
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String group, Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("session.timeout.ms", "6000");
        config.put("heartbeat.interval.ms", "300");
        config.put("fetch.max.wait.ms", "200");
        if (group != null) {
            config.put("group.id", group);
        }
        config.putAll(more);
        config.values().removeIf(""::equals);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.currentTimeMillis() + Harness.LIMIT_MS;
        while (records.size() < count) {
            Harness.check(System.currentTimeMillis() < deadline, records.size() + " of " + count + " records came");
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    /** Reads `count` records of a partition without a group. */
    private static List<ConsumerRecord<byte[], byte[]>> readFrom(
            String bootstrap, TopicPartition partition, long offset, int count, Map<String, Object> more) {
        try (var consumer = consumer(bootstrap, null, more)) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, offset);
            return read(consumer, count);
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> readAll(String bootstrap, String topic, int count) {
        return readFrom(bootstrap, new TopicPartition(topic, 0), 0, count, Map.of());
    }

    private static List<String> values(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(each -> text(each.value())).toList();
    }

    private static void produceCodecs(String bootstrap) throws Exception {
        for (String codec : CODECS) {
            String topic = newTopic("codec-" + codec);
            List<String> wanted = IntStream.range(0, 200).mapToObj(n -> ("highwater " + n + " ").repeat(20)).toList();
            var records = wanted.stream().map(value -> record(topic, value)).toList();
            produce(bootstrap, records, Map.of("compression.type", codec, "linger.ms", "50"));
            Harness.equal(values(readAll(bootstrap, topic, 200)), wanted, codec);
        }
    }

    private static void acks(String bootstrap) throws Exception {
        String topic = newTopic("acks");
        for (String level : List.of("0", "1", "all")) {
            produce(bootstrap, List.of(record(topic, level)), Map.of("acks", level, "enable.idempotence", "false"));
        }
        Harness.equal(values(readAll(bootstrap, topic, 3)), List.of("0", "1", "all"), "values");
    }

    private static void idempotentProduce(String bootstrap) throws Exception {
        String topic = newTopic("idempotent", 4, Map.of());
        var sent = produce(bootstrap, numbers(topic, 0, 2000, 4), Map.of("batch.size", "2000"));
        for (int n = 0; n < 2000; n++) {
            Harness.equal(sent.get(n).offset(), (long) (n / 4), "delivered offset");
        }
        for (int p = 0; p < 4; p++) {
            int partition = p;
            var stored = readFrom(bootstrap, new TopicPartition(topic, p), 0, 500, Map.of());
            var wanted = IntStream.range(0, 500).mapToObj(i -> Integer.toString(partition + 4 * i)).toList();
            Harness.equal(values(stored), wanted, "order");
        }
    }

    private static void keysAndValues(String bootstrap) throws Exception {
        String topic = newTopic("nulls");
        String[][] pairs = {{null, null}, {null, ""}, {"", null}, {"", ""}, {"k", "v"}};
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        List<String> wanted = new ArrayList<>();
        for (String[] pair : pairs) {
            records.add(new ProducerRecord<>(topic, bytes(pair[0]), bytes(pair[1])));
            wanted.add(pair[0] + "|" + pair[1]);
        }
        produce(bootstrap, records, Map.of());
        var got = readAll(bootstrap, topic, 5).stream().map(each -> text(each.key()) + "|" + text(each.value())).toList();
        Harness.equal(got, wanted, "pairs");
    }

    private static void headers(String bootstrap) throws Exception {
        String topic = newTopic("headers");
        byte[] binary = new byte[256];
        for (int i = 0; i < binary.length; i++) {
            binary[i] = (byte) i;
        }
        List<Header> wanted = List.of(
            new RecordHeader("a", bytes("1")), new RecordHeader("b", (byte[]) null), new RecordHeader("a", bytes("2")),
            new RecordHeader("empty", new byte[0]), new RecordHeader("binary", binary));
        var first = new ProducerRecord<>(topic, null, (byte[]) null, bytes("v"), wanted);
        produce(bootstrap, List.of(first, record(topic, "w")), Map.of());
        var stored = readAll(bootstrap, topic, 2);
        Harness.equal(List.of(stored.get(0).headers().toArray()), wanted, "headers");
        Harness.equal(stored.get(1).headers().toArray().length, 0, "no headers");
    }

    private static void timestamps(String bootstrap) throws Exception {
        String topic = newTopic("timestamps");
        long base = 1_700_000_000_000L;
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int n = 0; n < 10; n++) {
            records.add(new ProducerRecord<>(topic, 0, base + n * 1000L, null, bytes("v")));
        }
        produce(bootstrap, records, Map.of());
        var stored = readAll(bootstrap, topic, 10);
        for (int n = 0; n < 10; n++) {
            Harness.equal(stored.get(n).timestamp(), base + n * 1000L, "timestamp");
            Harness.equal(stored.get(n).timestampType(), TimestampType.CREATE_TIME, "timestamp type");
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(bootstrap, null, Map.of())) {
            Map<Long, Long> wanted = Map.of(0L, 0L, base + 4000, 4L, base + 4001, 5L);
            for (var each : wanted.entrySet()) {
                var found = consumer.offsetsForTimes(Map.of(partition, each.getKey())).get(partition);
                Harness.equal(found.offset(), each.getValue(), "offset for " + (each.getKey() - base));
            }
            Harness.equal(consumer.offsetsForTimes(Map.of(partition, base + 9001)).get(partition), null, "past the end");
        }
        String appended = newTopic("appended", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        var late = new ProducerRecord<byte[], byte[]>(appended, 0, base, null, bytes("v"));
        RecordMetadata sent = produce(bootstrap, List.of(late), Map.of()).get(0);
        var read = readAll(bootstrap, appended, 1).get(0);
        Harness.equal(read.timestampType(), TimestampType.LOG_APPEND_TIME, "timestamp type");
        Harness.equal(read.timestamp(), sent.timestamp(), "the producer is told the append time");
        Harness.check(Math.abs(read.timestamp() - System.currentTimeMillis()) < 60_000, "append time " + read.timestamp());
    }

    private static void largeMessage(String bootstrap) throws Exception {
        String topic = newTopic("large");
        byte[] value = new byte[1_000_000];
        new Random(7).nextBytes(value);
        produce(bootstrap, List.of(new ProducerRecord<>(topic, value), record(topic, "small")), Map.of());
        var stored = readAll(bootstrap, topic, 2);
        Harness.check(java.util.Arrays.equals(stored.get(0).value(), value), "the large value differs");
        Harness.equal(text(stored.get(1).value()), "small", "the record after it");
        Map<String, Object> more = Map.of("max.request.size", "8000000");
        Harness.refused("2 MB under the default limit", RecordTooLargeException.class,
            () -> produce(bootstrap, List.of(new ProducerRecord<>(topic, new byte[2_000_000])), more));
        String wide = newTopic("wide", 1, Map.of("max.message.bytes", "8000000"));
        produce(bootstrap, List.of(new ProducerRecord<>(wide, new byte[5_000_000])), more);
        Map<String, Object> limits = Map.of("max.partition.fetch.bytes", "100000", "fetch.max.bytes", "100000");
        var large = readFrom(bootstrap, new TopicPartition(wide, 0), 0, 1, limits).get(0);
        Harness.equal(large.value().length, 5_000_000, "size past the fetch limit");
    }

    /** One member of a group, polling on a thread of its own until it is told to leave. */
    private static final class Member implements ConsumerRebalanceListener {
        final Set<Integer> owned = ConcurrentHashMap.newKeySet();
        final Set<Integer> revoked = new ConcurrentSkipListSet<>();
        final Set<String> values = ConcurrentHashMap.newKeySet();
        final AtomicInteger rounds = new AtomicInteger();
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final Thread thread;
        private volatile Throwable problem;

        Member(String bootstrap, String group, String topic, Map<String, Object> more) {
            consumer = consumer(bootstrap, group, more);
            consumer.subscribe(List.of(topic), this);
            thread = new Thread(this::run);
            thread.start();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rounds.incrementAndGet();
            partitions.forEach(each -> owned.add(each.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            if (!partitions.isEmpty()) {
                consumer.commitSync();
            }
            partitions.forEach(each -> revoked.add(each.partition()));
            partitions.forEach(each -> owned.remove(each.partition()));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            partitions.forEach(each -> owned.remove(each.partition()));
        }

        private void run() {
            try {
                while (true) {
                    consumer.poll(Duration.ofMillis(500)).forEach(each -> values.add(text(each.value())));
                }
            } catch (WakeupException leave) {
                // Told to leave.
            } catch (Throwable other) {
                problem = other;
            } finally {
                consumer.close();
            }
        }

        void leave() throws InterruptedException {
            consumer.wakeup();
            thread.join(Harness.LIMIT_MS);
            Harness.check(!thread.isAlive(), "a member did not close");
            Harness.check(problem == null, "a member saw " + problem);
        }
    }

    private static Map<String, Object> assignor(String name) {
        String strategy = "org.apache.kafka.clients.consumer." + name + "Assignor";
        return Map.of("partition.assignment.strategy", strategy);
    }

    private static int seen(Member... members) {
        Set<String> all = new TreeSet<>();
        for (Member each : members) {
            all.addAll(each.values);
        }
        return all.size();
    }

    /** One member owns all, a second takes half, and the first gets that back; nothing is missed. Returns the group. */
    private static String rebalance(String bootstrap, String name, Map<String, Object> more) throws Exception {
        String topic = newTopic(name, 4, Map.of());
        String group = Harness.unique("group");
        produce(bootstrap, numbers(topic, 0, 100, 4), Map.of());
        Member first = new Member(bootstrap, group, topic, more);
        Harness.eventually("the only member owns all", () -> first.owned.size() == 4);
        Harness.eventually("the first 100 records", () -> seen(first) == 100);
        Member second = new Member(bootstrap, group, topic, more);
        Harness.eventually("two partitions each", () -> first.owned.size() == 2 && second.owned.size() == 2);
        Harness.check(first.owned.stream().noneMatch(second.owned::contains), "a partition has two owners");
        if (name.equals("cooperative")) {
            Harness.equal(new TreeSet<>(first.revoked), new TreeSet<>(second.owned), "what a cooperative member gave up");
        }
        produce(bootstrap, numbers(topic, 100, 200, 4), Map.of());
        Harness.eventually("the second 100 records", () -> seen(first, second) == 200);
        Harness.check(seen(second) > 0, "the second member read nothing");
        second.leave();
        Harness.eventually("the first member owns all again", () -> first.owned.size() == 4);
        produce(bootstrap, numbers(topic, 200, 300, 4), Map.of());
        Harness.eventually("the third 100 records", () -> seen(first, second) == 300);
        first.leave();
        return group;
    }

    /** The group protocol of KIP-848, where the broker assigns. */
    private static void consumerProtocol(String bootstrap) throws Exception {
        for (String assignor : List.of("uniform", "range")) {
            Map<String, Object> more = Map.of(
                "group.protocol", "consumer", "group.remote.assignor", assignor,
                "session.timeout.ms", "", "heartbeat.interval.ms", "");
            String group = rebalance(bootstrap, "consumer-" + assignor, more);
            var described = result(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            Harness.equal(described.type().toString(), "Consumer", "group type");
        }
    }

    private static void staticMembership(String bootstrap) throws Exception {
        String topic = newTopic("static", 4, Map.of());
        String group = Harness.unique("group");
        Map<String, Object> one = Map.of("group.instance.id", "one", "session.timeout.ms", "20000");
        Map<String, Object> two = Map.of("group.instance.id", "two", "session.timeout.ms", "20000");
        Member first = new Member(bootstrap, group, topic, one);
        Member second = new Member(bootstrap, group, topic, two);
        Harness.eventually("two partitions each", () -> first.owned.size() == 2 && second.owned.size() == 2);
        Set<Integer> owned = new TreeSet<>(second.owned);
        int rounds = first.rounds.get();
        second.leave();
        Member again = new Member(bootstrap, group, topic, two);
        Harness.eventually("the same partitions again", () -> owned.equals(new TreeSet<>(again.owned)));
        Thread.sleep(1000);
        Harness.equal(first.rounds.get(), rounds, "assignments of the member that stayed");
        first.leave();
        again.leave();
    }

    private static void commits(String bootstrap) throws Exception {
        String topic = newTopic("commits", 2, Map.of());
        String group = Harness.unique("group");
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        produce(bootstrap, numbers(topic, 0, 20, 2), Map.of());
        try (var first = consumer(bootstrap, group, Map.of())) {
            first.subscribe(List.of(topic));
            read(first, 20);
            first.commitSync(Map.of(zero, new OffsetAndMetadata(4, Optional.empty(), "mark")));
            var found = first.committed(Set.of(zero, one));
            Harness.equal(found.get(zero).offset(), 4L, "committed offset");
            Harness.equal(found.get(zero).metadata(), "mark", "metadata");
            Harness.equal(found.get(one), null, "no commit");
        }
        try (var second = consumer(bootstrap, group, Map.of())) {
            second.subscribe(List.of(topic));
            var again = read(second, 16);
            Harness.check(again.stream().allMatch(each -> each.partition() == 1 || each.offset() >= 4), "read too early");
            second.commitSync();
            var found = second.committed(Set.of(zero, one));
            Harness.equal(found.get(zero).offset() + found.get(one).offset(), 20L, "committed positions");
        }
    }

    private static void nothingComes(KafkaConsumer<byte[], byte[]> consumer, String when) {
        Harness.equal(consumer.poll(Duration.ofMillis(1500)).count(), 0, "records " + when);
    }

    private static void offsetResets(String bootstrap) throws Exception {
        String topic = newTopic("resets");
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(bootstrap, numbers(topic, 0, 10, 1), Map.of());
        try (var consumer = consumer(bootstrap, null, Map.of())) {
            consumer.assign(List.of(partition));
            read(consumer, 10);
            consumer.seek(partition, 3);
            Harness.equal(read(consumer, 1).get(0).offset(), 3L, "after seek");
            consumer.seekToBeginning(List.of(partition));
            Harness.equal(read(consumer, 1).get(0).offset(), 0L, "after seek to the beginning");
            consumer.seekToEnd(List.of(partition));
            nothingComes(consumer, "after seek to the end");
            produce(bootstrap, numbers(topic, 10, 11, 1), Map.of());
            Harness.equal(read(consumer, 1).get(0).offset(), 10L, "after the end");
            Harness.equal(consumer.beginningOffsets(List.of(partition)).get(partition), 0L, "beginning");
            Harness.equal(consumer.endOffsets(List.of(partition)).get(partition), 11L, "end");
        }
        // An offset past the end, under each policy.
        var earliest = readFrom(bootstrap, partition, 99, 1, Map.of());
        Harness.equal(earliest.get(0).offset(), 0L, "earliest");
        try (var latest = consumer(bootstrap, null, Map.of("auto.offset.reset", "latest"))) {
            latest.assign(List.of(partition));
            latest.seek(partition, 99);
            nothingComes(latest, "after the reset to latest");
            produce(bootstrap, numbers(topic, 11, 12, 1), Map.of());
            Harness.equal(read(latest, 1).get(0).offset(), 11L, "latest");
        }
        Harness.refused("no reset policy", OffsetOutOfRangeException.class,
            () -> readFrom(bootstrap, partition, 99, 1, Map.of("auto.offset.reset", "none")));
        // KIP-1106: from a time before now.
        var duration = readFrom(bootstrap, partition, 99, 1, Map.of("auto.offset.reset", "by_duration:PT1H"));
        Harness.equal(duration.get(0).offset(), 0L, "by_duration");
    }

    private static void readCommitted(String bootstrap) throws Exception {
        String topic = newTopic("committed");
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(bootstrap, numbers(topic, 0, 5, 1), Map.of());
        for (IsolationLevel level : IsolationLevel.values()) {
            String name = level.toString().toLowerCase(java.util.Locale.ROOT);
            Harness.equal(readFrom(bootstrap, partition, 0, 5, Map.of("isolation.level", name)).size(), 5, name);
            var found = admin.listOffsets(Map.of(partition, OffsetSpec.latest()), new ListOffsetsOptions(level));
            Harness.equal(result(found.partitionResult(partition)).offset(), 5L, "end under " + name);
        }
    }

    private static void listOffsets(String bootstrap) throws Exception {
        String topic = newTopic("offsets");
        TopicPartition partition = new TopicPartition(topic, 0);
        long base = 1_700_000_000_000L;
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (long n : new long[] {0, 30, 10, 20}) {
            records.add(new ProducerRecord<>(topic, 0, base + n, null, bytes("v")));
        }
        produce(bootstrap, records, Map.of());
        Map<OffsetSpec, Long> wanted = Map.of(
            OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 4L, OffsetSpec.maxTimestamp(), 1L,
            OffsetSpec.forTimestamp(base + 5), 1L, OffsetSpec.forTimestamp(base + 31), -1L);
        for (var each : wanted.entrySet()) {
            var found = result(admin.listOffsets(Map.of(partition, each.getKey())).partitionResult(partition));
            Harness.equal(found.offset(), each.getValue(), each.getKey().getClass().getSimpleName());
        }
    }

    private static void adminTopics(String bootstrap) throws Exception {
        String topic = Harness.unique("java-admin");
        NewTopic wanted = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "3600000"));
        result(admin.createTopics(List.of(wanted), new CreateTopicsOptions().validateOnly(true)).all());
        Harness.check(!result(admin.listTopics().names()).contains(topic), "validateOnly made a topic");
        var created = admin.createTopics(List.of(wanted));
        result(created.all());
        Harness.equal(result(created.numPartitions(topic)), 3, "partitions in the answer");
        Harness.equal(result(created.config(topic)).get("retention.ms").value(), "3600000", "config in the answer");
        Harness.refused("the same topic twice", TopicExistsException.class,
            () -> result(admin.createTopics(List.of(wanted)).all()));
        Harness.refused("replication factor 3 on one node", InvalidReplicationFactorException.class,
            () -> result(admin.createTopics(List.of(new NewTopic(Harness.unique("wide"), 1, (short) 3))).all()));
        Harness.refused("an illegal name", InvalidTopicException.class,
            () -> result(admin.createTopics(List.of(new NewTopic("no spaces", 1, (short) 1))).all()));
        var described = result(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
        Harness.equal(described.partitions().stream().map(each -> each.partition()).toList(), List.of(0, 1, 2), "partitions");
        Harness.check(described.partitions().stream().allMatch(each -> each.leader() != null && each.isr().size() == 1),
            "leaders and in-sync replicas");
        Harness.equal(described.topicId(), result(created.topicId(topic)), "topic id");
        result(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        Harness.eventually("five partitions",
            () -> result(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size() == 5);
        Harness.refused("shrinking", InvalidPartitionsException.class,
            () -> result(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()));
        result(admin.deleteTopics(List.of(topic)).all());
        Harness.eventually("the topic is gone", () -> !result(admin.listTopics().names()).contains(topic));
        Harness.refused("deleting it again", UnknownTopicOrPartitionException.class,
            () -> result(admin.deleteTopics(List.of(topic)).all()));
    }

    private static Config described(ConfigResource resource) throws Exception {
        return result(admin.describeConfigs(List.of(resource)).all()).get(resource);
    }

    private static void alter(ConfigResource resource, String name, String value, AlterConfigOp.OpType how) throws Exception {
        var change = List.of(new AlterConfigOp(new ConfigEntry(name, value), how));
        result(admin.incrementalAlterConfigs(Map.of(resource, change)).all());
    }

    private static void adminConfigs(String bootstrap) throws Exception {
        String topic = newTopic("configs", 1, Map.of("retention.ms", "3600000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config before = described(resource);
        Harness.check(before.entries().size() > 20, "only " + before.entries().size() + " configs are described");
        Harness.equal(before.get("retention.ms").value(), "3600000", "retention.ms");
        Harness.equal(before.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
        Harness.equal(before.get("segment.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "source");
        alter(resource, "segment.bytes", "2097152", AlterConfigOp.OpType.SET);
        alter(resource, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
        Config changed = described(resource);
        Harness.equal(changed.get("segment.bytes").value(), "2097152", "segment.bytes");
        Harness.equal(Set.of(changed.get("cleanup.policy").value().split(",")), Set.of("compact", "delete"), "policy");
        Harness.equal(changed.get("retention.ms").value(), "3600000", "retention.ms, untouched");
        alter(resource, "cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT);
        alter(resource, "retention.ms", "", AlterConfigOp.OpType.DELETE);
        Config after = described(resource);
        Harness.equal(after.get("cleanup.policy").value(), "compact", "cleanup.policy");
        Harness.equal(after.get("retention.ms").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "retention.ms");
        Harness.refused("a value out of range", InvalidConfigurationException.class, () -> {
            alter(resource, "segment.bytes", "-7", AlterConfigOp.OpType.SET);
            return null;
        });
        int node = result(admin.describeCluster().nodes()).iterator().next().id();
        Config broker = described(new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node)));
        Harness.check(broker.get("log.segment.bytes") != null, "broker configs");
    }

    private static void adminGroups(String bootstrap) throws Exception {
        String topic = newTopic("groups", 2, Map.of());
        String group = Harness.unique("java-group");
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        produce(bootstrap, numbers(topic, 0, 20, 2), Map.of());
        Member member = new Member(bootstrap, group, topic, Map.of());
        Harness.eventually("all is read", () -> seen(member) == 20);
        var stable = result(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        Harness.equal(stable.groupState(), GroupState.STABLE, "state");
        Harness.equal(stable.members().size(), 1, "members");
        Harness.equal(stable.members().iterator().next().assignment().topicPartitions(), Set.of(zero, one), "assignment");
        Harness.check(groups().contains(group), "the group is not listed");
        Harness.refused("deleting a live group", GroupNotEmptyException.class,
            () -> result(admin.deleteConsumerGroups(List.of(group)).all()));
        member.leave();
        Harness.eventually("the group is empty", () ->
            result(admin.describeConsumerGroups(List.of(group)).all()).get(group).groupState() == GroupState.EMPTY);
        Map<TopicPartition, OffsetAndMetadata> wanted = Map.of(zero, new OffsetAndMetadata(7), one, new OffsetAndMetadata(8));
        result(admin.alterConsumerGroupOffsets(group, wanted).all());
        Harness.equal(offsets(group), Map.of(zero, 7L, one, 8L), "offsets");
        result(admin.deleteConsumerGroupOffsets(group, Set.of(one)).all());
        Harness.equal(offsets(group), Map.of(zero, 7L), "offsets left");
        result(admin.deleteConsumerGroups(List.of(group)).all());
        Harness.check(!groups().contains(group), "the deleted group is listed");
        Harness.refused("deleting it again", GroupIdNotFoundException.class,
            () -> result(admin.deleteConsumerGroups(List.of(group)).all()));
    }

    private static Set<String> groups() throws Exception {
        return result(admin.listGroups().all()).stream().map(each -> each.groupId()).collect(Collectors.toSet());
    }

    private static Map<TopicPartition, Long> offsets(String group) throws Exception {
        var listed = result(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        return listed.entrySet().stream()
            .filter(each -> each.getValue() != null)
            .collect(Collectors.toMap(Map.Entry::getKey, each -> each.getValue().offset()));
    }

    private static void deleteRecords(String bootstrap) throws Exception {
        String topic = newTopic("delete");
        TopicPartition partition = new TopicPartition(topic, 0);
        produce(bootstrap, numbers(topic, 0, 10, 1), Map.of());
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
        Harness.equal(result(deleted.lowWatermarks().get(partition)).lowWatermark(), 4L, "low watermark");
        var earliest = admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition);
        Harness.equal(result(earliest).offset(), 4L, "earliest");
        // Offset 0 is below the start now, and the policy is earliest.
        Harness.equal(readAll(bootstrap, topic, 6).get(0).offset(), 4L, "first record left");
        Harness.refused("deleting past the end", org.apache.kafka.common.errors.OffsetOutOfRangeException.class,
            () -> result(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(99))).all()));
        result(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).all());
        var gone = admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition);
        Harness.equal(result(gone).offset(), 10L, "all gone");
    }

    private static void describeCluster(String bootstrap) throws Exception {
        var cluster = admin.describeCluster();
        Harness.check(!result(cluster.clusterId()).isEmpty(), "no cluster id");
        var nodes = result(cluster.nodes());
        Harness.equal(nodes.stream().map(each -> each.host() + ":" + each.port()).toList(), List.of(bootstrap), "nodes");
        Harness.check(nodes.contains(result(cluster.controller())), "the controller is no node");
    }
}

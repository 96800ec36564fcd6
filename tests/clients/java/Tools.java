import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Exit;
import org.apache.kafka.storage.internals.checkpoint.LeaderEpochCheckpointFile;
import org.apache.kafka.storage.internals.checkpoint.PartitionMetadataFile;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.tools.AclCommand;
import org.apache.kafka.tools.BrokerApiVersionsCommand;
import org.apache.kafka.tools.ClientMetricsCommand;
import org.apache.kafka.tools.ConsoleProducer;
import org.apache.kafka.tools.ConsumerPerformance;
import org.apache.kafka.tools.DeleteRecordsCommand;
import org.apache.kafka.tools.DumpLogSegments;
import org.apache.kafka.tools.FeatureCommand;
import org.apache.kafka.tools.GetOffsetShell;
import org.apache.kafka.tools.LeaderElectionCommand;
import org.apache.kafka.tools.LogDirsCommand;
import org.apache.kafka.tools.MetadataQuorumCommand;
import org.apache.kafka.tools.ProducerPerformance;
import org.apache.kafka.tools.TopicCommand;
import org.apache.kafka.tools.consumer.ConsoleConsumer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

/**
 * Kafka's own command-line tools, run one after the other in one process: what `bin/kafka-*.sh` starts, without a
 * virtual machine for each. Arguments: BOOTSTRAP [SCENARIO...]. HIGHWATER_TEST_DATA_DIR is the node's data folder.
 */
public final class Tools {
    /** A tool's {@code main}. */
    private interface Tool {
        void main(String[] arguments) throws Exception;
    }

    /** Thrown instead of ending the process. Some tools catch it and end again, so the first code counts. */
    @SuppressWarnings("serial")
    private static final class Ended extends RuntimeException {
    }

    private static volatile Integer exitCode;

    private static void end(int code) {
        if (exitCode == null) {
            exitCode = code;
        }
        throw new Ended();
    }

    public static void main(String[] arguments) throws Exception {
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Harness harness = new Harness();
        harness.add("tool-topics", Tools::topics);
        harness.add("tool-configs", Tools::configs);
        harness.add("tool-log-levels", Tools::logLevels);
        harness.add("tool-client-metrics", Tools::clientMetrics);
        harness.add("tool-console", Tools::console);
        harness.add("tool-consumer-groups", Tools::consumerGroups);
        harness.add("tool-perf", Tools::perf);
        harness.add("tool-get-offsets", Tools::getOffsets);
        harness.add("tool-delete-records", Tools::deleteRecords);
        harness.add("tool-log-dirs", Tools::logDirs);
        harness.add("tool-leader-election", Tools::leaderElection);
        harness.add("tool-features", Tools::features);
        harness.add("tool-api-versions", Tools::apiVersions);
        harness.add("tool-metadata-quorum", Tools::metadataQuorum);
        harness.add("tool-dump-log", Tools::dumpLog);
        harness.add("tool-secured", bootstrap -> secured());
        // One at a time: the tools share standard input and output.
        harness.main("Kafka's tools", arguments, 1);
    }

    private static String run(Tool tool, String... arguments) throws Exception {
        return run(tool, "", 0, arguments);
    }

    /** Runs a tool to its end and returns what it said; another exit code than the wanted one is a failure. */
    private static String run(Tool tool, String input, int wanted, String... arguments) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        InputStream in = System.in;
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        exitCode = null;
        try (PrintStream stream = new PrintStream(said, true, StandardCharsets.UTF_8)) {
            System.setOut(stream);
            System.setErr(stream);
            System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
            // Scala's console keeps the stream of its first use unless told otherwise.
            scala.Console.withOut(stream, scalaCall(() -> tool.main(arguments)));
        } catch (Ended end) {
            // Told by the exit code.
        } finally {
            System.setOut(out);
            System.setErr(err);
            System.setIn(in);
        }
        String text = said.toString(StandardCharsets.UTF_8);
        int code = exitCode == null ? 0 : exitCode;
        Harness.check(code == wanted, Arrays.toString(arguments) + " ended with " + code + ": " + text);
        return text;
    }

    /** An action of Java as a call of Scala. */
    private interface Action {
        void run() throws Exception;
    }

    private static scala.Function0<Object> scalaCall(Action action) {
        return () -> {
            try {
                action.run();
                return null;
            } catch (RuntimeException problem) {
                throw problem;
            } catch (Exception problem) {
                throw new IllegalStateException(problem);
            }
        };
    }

    private static void says(String text, String... parts) {
        for (String part : parts) {
            Harness.check(text.contains(part), "no `" + part + "` in: " + text);
        }
    }

    private static String newTopic(String bootstrap, String name, int partitions, String... more) throws Exception {
        String topic = Harness.unique("tool-" + name);
        String[] arguments = {"--bootstrap-server", bootstrap, "--create", "--topic", topic, "--partitions",
            Integer.toString(partitions), "--replication-factor", "1"};
        run(TopicCommand::main, Stream.concat(Stream.of(arguments), Stream.of(more)).toArray(String[]::new));
        return topic;
    }

    /** Idempotent records of one kilobyte that do not compress. */
    private static void produce(String bootstrap, String topic, int count) throws Exception {
        var random = new java.util.Random(count);
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "compression.type", "lz4");
        try (var producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int n = 0; n < count; n++) {
                byte[] value = new byte[1024];
                random.nextBytes(value);
                producer.send(new ProducerRecord<>(topic, Integer.toString(n).getBytes(StandardCharsets.UTF_8), value));
            }
        }
    }

    private static void topics(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "topics", 3, "--config", "retention.ms=3600000");
        says(run(TopicCommand::main, "--bootstrap-server", bootstrap, "--list"), topic);
        says(run(TopicCommand::main, "--bootstrap-server", bootstrap, "--describe", "--topic", topic),
            "PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=3600000", "Partition: 2", "Isr: ");
        run(TopicCommand::main, "--bootstrap-server", bootstrap, "--alter", "--topic", topic, "--partitions", "5");
        says(run(TopicCommand::main, "--bootstrap-server", bootstrap, "--describe", "--topic", topic), "PartitionCount: 5");
        String[] problems = {"--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"};
        for (String problem : problems) {
            String text = run(TopicCommand::main, "--bootstrap-server", bootstrap, "--describe", problem);
            Harness.check(!text.contains(topic), problem + " names " + text);
        }
        run(TopicCommand::main, "--bootstrap-server", bootstrap, "--delete", "--topic", topic);
        Harness.eventually("the topic is gone",
            () -> !run(TopicCommand::main, "--bootstrap-server", bootstrap, "--list").contains(topic));
        says(run(TopicCommand::main, "", 1, "--bootstrap-server", bootstrap, "--describe", "--topic", topic), "does not exist");
    }

    private static void configs(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "configs", 1);
        String[] of = {"--bootstrap-server", bootstrap, "--entity-type", "topics", "--entity-name", topic};
        run(kafka.admin.ConfigCommand::main, with(of, "--alter", "--add-config", "segment.bytes=2097152,cleanup.policy=[compact,delete]"));
        says(run(kafka.admin.ConfigCommand::main, with(of, "--describe")),
            "segment.bytes=2097152", "cleanup.policy=compact,delete", "DYNAMIC_TOPIC_CONFIG:segment.bytes=2097152");
        run(kafka.admin.ConfigCommand::main, with(of, "--alter", "--delete-config", "segment.bytes"));
        String left = run(kafka.admin.ConfigCommand::main, with(of, "--describe"));
        Harness.check(!left.contains("segment.bytes=2097152"), "not deleted: " + left);
        says(run(kafka.admin.ConfigCommand::main, with(of, "--describe", "--all")), "segment.bytes=1073741824");
        says(run(kafka.admin.ConfigCommand::main, "", 1, with(of, "--alter", "--add-config", "segment.bytes=-7")), "segment.bytes");
        says(run(kafka.admin.ConfigCommand::main, "--bootstrap-server", bootstrap, "--entity-type", "brokers", "--entity-name", "1",
            "--describe", "--all"), "log.segment.bytes");
        String[] group = {"--bootstrap-server", bootstrap, "--entity-type", "groups", "--entity-name", topic};
        run(kafka.admin.ConfigCommand::main, with(group, "--alter", "--add-config", "consumer.session.timeout.ms=50000"));
        says(run(kafka.admin.ConfigCommand::main, with(group, "--describe")), "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000");
        says(run(kafka.admin.ConfigCommand::main, "", 1, with(group, "--alter", "--add-config", "consumer.session.timeout.ms=500")),
            "consumer.session.timeout.ms");
        run(kafka.admin.ConfigCommand::main, with(group, "--alter", "--delete-config", "consumer.session.timeout.ms"));
        String[] user = {"--bootstrap-server", bootstrap, "--entity-type", "users", "--entity-name", topic};
        run(kafka.admin.ConfigCommand::main, with(user, "--alter", "--add-config", "SCRAM-SHA-256=[iterations=8192,password=secret]"));
        says(run(kafka.admin.ConfigCommand::main, with(user, "--describe")), "SCRAM-SHA-256=iterations=8192");
        run(kafka.admin.ConfigCommand::main, with(user, "--alter", "--delete-config", "SCRAM-SHA-256"));
        Harness.check(!run(kafka.admin.ConfigCommand::main, with(user, "--describe")).contains("SCRAM-SHA-256=iterations"), "not deleted");
    }

    private static void logLevels(String bootstrap) throws Exception {
        String logger = "highwater_client.producer";
        String[] of = {"--bootstrap-server", bootstrap, "--entity-type", "broker-loggers", "--entity-name", "1"};
        String before = run(kafka.admin.ConfigCommand::main, with(of, "--describe"));
        says(before, "root=", logger + "=", "highwater_storage=");
        run(kafka.admin.ConfigCommand::main, with(of, "--alter", "--add-config", logger + "=TRACE,sqlx=FATAL"));
        says(run(kafka.admin.ConfigCommand::main, with(of, "--describe")), logger + "=TRACE", "sqlx=FATAL");
        run(kafka.admin.ConfigCommand::main, with(of, "--alter", "--delete-config", logger + ",sqlx"));
        String after = run(kafka.admin.ConfigCommand::main, with(of, "--describe"));
        Harness.check(after.equals(before), "as it was: " + before + " and not: " + after);
        says(run(kafka.admin.ConfigCommand::main, "", 1, with(of, "--alter", "--add-config", logger + "=LOUD")), "LOUD");
        says(run(kafka.admin.ConfigCommand::main, "", 1, with(of, "--alter", "--add-config", "nobody=INFO")), "nobody");
    }

    private static void clientMetrics(String bootstrap) throws Exception {
        String name = Harness.unique("tool-client-metrics");
        String[] all = {"--bootstrap-server", bootstrap};
        String[] of = with(all, "--name", name);
        run(ClientMetricsCommand::main, with(of, "--alter", "--interval", "60000", "--metrics", "org.apache.kafka.producer.",
            "--match", "client_software_name=apache-kafka-java"));
        says(run(ClientMetricsCommand::main, with(all, "--list")), name);
        says(run(ClientMetricsCommand::main, with(of, "--describe")), "interval.ms=60000", "metrics=org.apache.kafka.producer.",
            "match=client_software_name=apache-kafka-java");
        says(run(ClientMetricsCommand::main, "", 1, with(of, "--alter", "--interval", "1")), "interval.ms");
        run(ClientMetricsCommand::main, with(of, "--delete"));
        Harness.check(!run(ClientMetricsCommand::main, with(all, "--list")).contains(name), "deleted: " + name);
    }

    private static String[] with(String[] first, String... more) {
        return Stream.concat(Stream.of(first), Stream.of(more)).toArray(String[]::new);
    }

    private static void console(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "console", 1);
        run(ConsoleProducer::main, "a:1\nb:2\nc:3\n", 0, "--bootstrap-server", bootstrap, "--topic", topic,
            "--property", "parse.key=true", "--property", "key.separator=:", "--compression-codec", "zstd");
        String read = run(ConsoleConsumer::main, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning",
            "--max-messages", "3", "--timeout-ms", "15000", "--property", "print.key=true", "--property", "print.offset=true");
        says(read, "Offset:0\ta\t1", "Offset:1\tb\t2", "Offset:2\tc\t3", "Processed a total of 3 messages");
    }

    private static void consumerGroups(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "groups", 1);
        String group = Harness.unique("tool-group");
        produce(bootstrap, topic, 10);
        run(ConsoleConsumer::main, "--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--group", group,
            "--max-messages", "10", "--timeout-ms", "15000");
        String[] of = {"--bootstrap-server", bootstrap, "--group", group};
        says(run(ConsumerGroupCommand::main, "--bootstrap-server", bootstrap, "--list"), group);
        says(run(ConsumerGroupCommand::main, "--bootstrap-server", bootstrap, "--list", "--state", "Empty"), group);
        String described = run(ConsumerGroupCommand::main, with(of, "--describe"));
        Harness.check(described.matches("(?s).*" + group + "\\s+" + topic + "\\s+0\\s+10\\s+10\\s+0.*"), described);
        says(run(ConsumerGroupCommand::main, with(of, "--describe", "--state")), "Empty");
        run(ConsumerGroupCommand::main, with(of, "--reset-offsets", "--topic", topic, "--shift-by", "-4", "--execute"));
        described = run(ConsumerGroupCommand::main, with(of, "--describe"));
        Harness.check(described.matches("(?s).*" + topic + "\\s+0\\s+6\\s+10\\s+4.*"), described);
        says(run(ConsumerGroupCommand::main, with(of, "--delete-offsets", "--topic", topic)), "Successful");
        run(ConsumerGroupCommand::main, with(of, "--reset-offsets", "--topic", topic, "--to-earliest", "--execute"));
        says(run(ConsumerGroupCommand::main, with(of, "--delete")), "successful");
    }

    private static void perf(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "perf", 2);
        says(run(ProducerPerformance::main, "--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput",
            "-1", "--bootstrap-server", bootstrap, "--command-property", "acks=all"), "20000 records sent");
        String read = run(ConsumerPerformance::main, "--bootstrap-server", bootstrap, "--topic", topic, "--num-records", "20000",
            "--timeout", "20000");
        says(read, "nMsg.sec");
        Harness.check(read.lines().reduce((first, second) -> second).orElse("").split(", ")[4].equals("20000"), read);
    }

    private static void getOffsets(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "offsets", 1);
        produce(bootstrap, topic, 7);
        Map<String, String> wanted = Map.of("earliest", "0", "latest", "7", "-1", "7", "-2", "0", "0", "0");
        for (var each : wanted.entrySet()) {
            says(run(GetOffsetShell::main, "--bootstrap-server", bootstrap, "--topic", topic, "--time", each.getKey()),
                topic + ":0:" + each.getValue());
        }
        says(run(GetOffsetShell::main, "--bootstrap-server", bootstrap, "--topic", topic, "--time", "max-timestamp"), topic + ":0:");
    }

    private static void deleteRecords(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "delete", 1);
        produce(bootstrap, topic, 10);
        Path plan = Files.createTempFile("delete-records", ".json");
        try {
            Files.writeString(plan, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":4}],\"version\":1}");
            says(run(DeleteRecordsCommand::main, "--bootstrap-server", bootstrap, "--offset-json-file", plan.toString()),
                "low_watermark: 4");
        } finally {
            Files.delete(plan);
        }
        says(run(GetOffsetShell::main, "--bootstrap-server", bootstrap, "--topic", topic, "--time", "earliest"), topic + ":0:4");
    }

    private static void logDirs(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "dirs", 1);
        produce(bootstrap, topic, 10);
        String text = run(LogDirsCommand::main, "--bootstrap-server", bootstrap, "--describe", "--topic-list", topic);
        says(text, "\"partition\":\"" + topic + "-0\"", "\"offsetLag\":0", "\"isFuture\":false", "\"error\":null");
        Harness.check(!text.contains("\"size\":0,"), "the partition has no size: " + text);
    }

    private static void leaderElection(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "leaders", 1);
        String text = run(LeaderElectionCommand::main, "--bootstrap-server", bootstrap, "--election-type", "preferred", "--topic",
            topic, "--partition", "0");
        says(text, topic + "-0");
        Harness.check(!text.contains("Error"), text);
    }

    private static void features(String bootstrap) throws Exception {
        says(run(FeatureCommand::main, "--bootstrap-server", bootstrap, "describe"), "Feature: ", "SupportedMinVersion", "FinalizedVersionLevel");
    }

    private static void apiVersions(String bootstrap) throws Exception {
        String text = run(BrokerApiVersionsCommand::main, "--bootstrap-server", bootstrap);
        says(text, bootstrap, "Produce(0): 0 to ", "Fetch(1): 4 to ", "ApiVersions(18): 0 to ");
        Harness.check(!text.contains("UNKNOWN("), text);
    }

    private static void metadataQuorum(String bootstrap) throws Exception {
        says(run(MetadataQuorumCommand::main, "--bootstrap-server", bootstrap, "describe", "--status"), "LeaderId:", "HighWatermark:",
            "CurrentVoters:");
        says(run(MetadataQuorumCommand::main, "--bootstrap-server", bootstrap, "describe", "--replication"), "Leader");
    }

    /** Every file of a partition that has rolled several times, read by the code that Kafka itself uses for its own. */
    private static void dumpLog(String bootstrap) throws Exception {
        String topic = newTopic(bootstrap, "dump", 1, "--config", "segment.bytes=1048576", "--config", "index.interval.bytes=4096");
        produce(bootstrap, topic, 4000);
        Path folder;
        try (Stream<Path> all = Files.walk(Path.of(System.getenv("HIGHWATER_TEST_DATA_DIR")))) {
            folder = all.filter(path -> path.getFileName().toString().equals(topic + "-0")).findFirst().orElseThrow();
        }
        int records = 0;
        for (Path log : files(folder, ".log")) {
            String text = run(DumpLogSegments::main, "--files", log.toString(), "--print-data-log", "--deep-iteration");
            says(text, "Log starting offset: ", "isvalid: true", "compresscodec: lz4", "producerId: ");
            Harness.check(!text.contains("isvalid: false") && !text.contains("Found"), log + ": " + text);
            records += text.split("\\| offset: ", -1).length - 1;
        }
        Harness.equal(records, 4000, "records dumped");
        List<Path> indexes = files(folder, ".index");
        Harness.check(indexes.size() > 2, "only " + indexes.size() + " segments");
        for (String kind : List.of(".index", ".timeindex")) {
            for (Path index : files(folder, kind)) {
                String text = run(DumpLogSegments::main, "--files", index.toString());
                says(text, "Dumping " + index);
                for (String complaint : List.of("Mismatches", "Found", "Index timestamp", "out of order")) {
                    Harness.check(!text.contains(complaint), index + ": " + text);
                }
                if (index.equals(files(folder, kind).get(0))) {
                    says(text, kind.equals(".index") ? "position: " : "timestamp: ");
                }
            }
        }
        List<Path> snapshots = files(folder, ".snapshot");
        Harness.check(!snapshots.isEmpty(), "no producer snapshots in " + folder);
        for (Path snapshot : snapshots) {
            says(run(DumpLogSegments::main, "--files", snapshot.toString()), "producerId: ", "producerEpoch: ", "lastTimestamp: ");
        }
        LogDirFailureChannel failures = new LogDirFailureChannel(1);
        var epochs = new LeaderEpochCheckpointFile(folder.resolve("leader-epoch-checkpoint").toFile(), failures).read();
        Harness.equal(epochs.size(), 1, "leader epochs");
        Harness.equal(epochs.get(0).startOffset(), 0L, "start of the first epoch");
        File metadata = folder.resolve("partition.metadata").toFile();
        Harness.equal(new PartitionMetadataFile(metadata, failures).read().version(), 0, "version of partition.metadata");
    }

    private static List<Path> files(Path folder, String kind) throws Exception {
        try (Stream<Path> all = Files.list(folder)) {
            return all.filter(path -> path.toString().endsWith(kind)).sorted().toList();
        }
    }

    /** A file for --command-config. */
    private static String configFile(Map<String, Object> settings) throws Exception {
        Path file = Files.createTempFile("tool-secured", ".properties");
        file.toFile().deleteOnExit();
        StringBuilder text = new StringBuilder();
        settings.forEach((name, value) -> text.append(name).append('=').append(value).append('\n'));
        return Files.writeString(file, text).toString();
    }

    private static void secured() throws Exception {
        String module = "scram.ScramLoginModule";
        String bootstrap = System.getenv("HIGHWATER_TEST_SASL_SSL");
        String alice = configFile(Secured.withPassword("SASL_SSL", "SCRAM-SHA-512", module, "alice-secret"));
        String topic = Harness.unique("tool-secured");
        run(TopicCommand::main, "--bootstrap-server", bootstrap, "--command-config", alice, "--create", "--topic", topic);
        run(ConsoleProducer::main, "told\n", 0, "--bootstrap-server", bootstrap, "--command-config", alice, "--topic", topic);
        says(run(ConsoleConsumer::main, "--bootstrap-server", bootstrap, "--command-config", alice, "--topic", topic,
            "--from-beginning", "--max-messages", "1", "--timeout-ms", "20000"), "told");
        run(kafka.admin.ConfigCommand::main, "--bootstrap-server", bootstrap, "--command-config", alice, "--alter",
            "--entity-type", "users", "--entity-name", "bob", "--add-config", "SCRAM-SHA-256=[password=bob-secret]");
        Map<String, Object> bob = Secured.withPassword("SASL_SSL", "SCRAM-SHA-256", module, "bob-secret");
        bob.computeIfPresent("sasl.jaas.config", (name, value) -> value.toString().replace("alice", "bob"));
        String bobs = configFile(bob);
        String[] read = {"--bootstrap-server", bootstrap, "--command-config", bobs, "--topic", topic, "--from-beginning",
            "--max-messages", "1", "--timeout-ms", "5000", "--group", topic};
        // Refused reading shows in what the tool says, not in its exit code.
        String refused = "Topic authorization failed for topics [" + topic + "]";
        says(run(ConsoleConsumer::main, read), refused, "Processed a total of 0 messages");
        String[] rules = {"--bootstrap-server", bootstrap, "--command-config", alice};
        says(run(AclCommand::main, with(rules, "--add", "--allow-principal", "User:bob", "--operation", "Read", "--topic", topic,
            "--group", topic)), "User:bob");
        says(run(AclCommand::main, with(rules, "--list", "--topic", topic)), "principal=User:bob", "operation=READ");
        says(run(ConsoleConsumer::main, read), "told");
        run(AclCommand::main, with(rules, "--remove", "--force", "--allow-principal", "User:bob", "--operation", "Read", "--topic",
            topic, "--group", topic));
        says(run(ConsoleConsumer::main, read), refused);
    }
}

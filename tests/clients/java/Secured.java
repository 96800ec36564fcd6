import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.errors.SslAuthenticationException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The scenarios of the secured node: logging in with each mechanism, over TCP and over TLS, and with a certificate. */
final class Secured {
    private static final String MODULES = "org.apache.kafka.common.security.";
    private static final List<String> PROTOCOLS = List.of("SASL_PLAINTEXT", "SASL_SSL");

    private Secured() {
    }

    static void addTo(Harness harness) {
        harness.add("sasl-plain", bootstrap -> logsIn("PLAIN", "plain.PlainLoginModule"));
        harness.add("sasl-scram-sha-256", bootstrap -> logsIn("SCRAM-SHA-256", "scram.ScramLoginModule"));
        harness.add("sasl-scram-sha-512", bootstrap -> logsIn("SCRAM-SHA-512", "scram.ScramLoginModule"));
        harness.add("sasl-oauthbearer", bootstrap -> bearsTokens());
        harness.add("tls-client-certificate", bootstrap -> showsCertificate());
    }

    static String tlsFile(String name) {
        return Path.of(System.getenv("HIGHWATER_TEST_TLS"), name).toString();
    }

    /** The settings for a listener of the secured node. */
    static Map<String, Object> settings(String protocol) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", System.getenv("HIGHWATER_TEST_" + protocol));
        settings.put("security.protocol", protocol);
        if (protocol.endsWith("SSL")) {
            settings.put("ssl.truststore.type", "PEM");
            settings.put("ssl.truststore.location", tlsFile("ca.pem"));
        }
        return settings;
    }

    static Map<String, Object> withPassword(String protocol, String mechanism, String module, String password) {
        Map<String, Object> settings = settings(protocol);
        settings.put("sasl.mechanism", mechanism);
        settings.put("sasl.jaas.config", MODULES + module + " required username=\"alice\" password=\"" + password + "\";");
        return settings;
    }

    private static void logsIn(String mechanism, String module) throws Exception {
        for (String protocol : PROTOCOLS) {
            roundTrip(withPassword(protocol, mechanism, module, "alice-secret"));
            refused(withPassword(protocol, mechanism, module, "wrong-secret"), SaslAuthenticationException.class);
        }
    }

    private static void bearsTokens() throws Exception {
        String allowed = "file://" + tlsFile("token") + ",file://" + tlsFile("strange-token");
        System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.urls", allowed);
        System.setProperty("org.apache.kafka.sasl.oauthbearer.allowed.files", tlsFile("token") + "," + tlsFile("strange-token"));
        for (String protocol : PROTOCOLS) {
            roundTrip(withToken(protocol, "token"));
            refused(withToken(protocol, "strange-token"), SaslAuthenticationException.class);
        }
    }

    private static Map<String, Object> withToken(String protocol, String name) {
        Map<String, Object> settings = settings(protocol);
        settings.put("sasl.mechanism", "OAUTHBEARER");
        settings.put("sasl.jaas.config", MODULES + "oauthbearer.OAuthBearerLoginModule required;");
        settings.put("sasl.login.callback.handler.class", MODULES + "oauthbearer.OAuthBearerLoginCallbackHandler");
        settings.put("sasl.oauthbearer.token.endpoint.url", "file://" + tlsFile(name));
        return settings;
    }

    private static void showsCertificate() throws Exception {
        Map<String, Object> known = settings("SSL");
        known.put("ssl.keystore.type", "PEM");
        known.put("ssl.keystore.location", tlsFile("client.pem"));
        roundTrip(known);
        refused(settings("SSL"), SslAuthenticationException.class);
    }

    /** A topic is made, a record is written, and a member of a group reads it. */
    private static void roundTrip(Map<String, Object> settings) throws Exception {
        String topic = Harness.unique("java-secured");
        try (Admin admin = Admin.create(settings)) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get(Harness.LIMIT_MS, TimeUnit.MILLISECONDS);
        }
        byte[] told = "told".getBytes(StandardCharsets.UTF_8);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.send(new ProducerRecord<>(topic, told)).get(Harness.LIMIT_MS, TimeUnit.MILLISECONDS);
        }
        Map<String, Object> reading = new HashMap<>(settings);
        reading.put("group.id", Harness.unique("secured"));
        reading.put("auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            StringBuilder values = new StringBuilder();
            Harness.eventually("the record", () -> {
                consumer.poll(Duration.ofMillis(200)).forEach(record -> values.append(new String(record.value(), StandardCharsets.UTF_8)));
                return !values.isEmpty();
            });
            Harness.equal(values.toString(), "told", "values");
        }
    }

    private static void refused(Map<String, Object> settings, Class<? extends Throwable> expected) {
        Harness.refused("connecting", expected, () -> {
            try (Admin admin = Admin.create(settings)) {
                return admin.describeCluster().clusterId().get(Harness.LIMIT_MS, TimeUnit.MILLISECONDS);
            }
        });
    }
}

//! Users and access rules made by the client's admin, and what they let another client do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use highwater_broker::{ListenerConfig, Node, SecurityProtocol, TopicName};
use highwater_client::admin::{
    AclBinding, AclFilter, AclOperation, AclPermission, DEFAULT_ITERATIONS, NewTopic, PatternFilter,
    PatternType, ResourceType, UserScramAlteration,
};
use highwater_client::security::{Login, SaslConfig, ScramHash, Secret};
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumeError, Consumer, ConsumerConfig, ProducerConfig,
    ProducerRecord,
};
use highwater_embedded::{Embedded, EmbeddedConfig};

const ALICE: &str = "alice";
const PASSWORD: &str = "correct horse";

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

/// A node that asks for SCRAM logins and lets clients do what rules allow; its own process may do everything.
async fn start(dir: &std::path::Path) -> Embedded {
    let mut config = EmbeddedConfig::new(dir);
    config.listeners.push(ListenerConfig {
        name: "LOGIN".to_owned(),
        protocol: SecurityProtocol::SaslPlaintext,
        bind: "127.0.0.1:0".parse().unwrap(),
        advertised: None,
    });
    for (name, value) in [
        ("sasl.enabled.mechanisms", "SCRAM-SHA-256,SCRAM-SHA-512"),
        ("connection.failed.authentication.delay.ms", "0"),
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
    ] {
        config.properties.insert(name.to_owned(), value.to_owned());
    }
    Embedded::start(config).await.unwrap()
}

async fn log_in(node: &Node, hash: ScramHash, password: &str) -> Result<Client, String> {
    let mut config = ClientConfig::new([node.listener_addr("LOGIN").unwrap().to_string()]);
    config.allow_auto_create_topics = false;
    let login = Login {
        username: ALICE.to_owned(),
        password: Secret::new(password),
    };
    config.security.sasl = Some(SaslConfig::Scram(hash, login));
    Client::connect(config).await.map_err(|error| error.to_string())
}

fn set(hash: ScramHash, password: &str) -> UserScramAlteration {
    UserScramAlteration::Set {
        user: ALICE.into(),
        hash,
        iterations: DEFAULT_ITERATIONS,
        password: Secret::new(password),
    }
}

fn allow(resource_type: ResourceType, name: &'static str, operation: AclOperation) -> AclBinding {
    AclBinding {
        resource_type,
        name: name.into(),
        pattern: PatternType::Literal,
        principal: "User:alice".into(),
        host: "*".into(),
        operation,
        permission: AclPermission::Allow,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_the_admin_makes_logs_in_until_the_password_changes_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = start(dir.path()).await;
    let admin = embedded.client().admin();
    let none = admin.describe_user_scram_credentials([]).await.unwrap();
    assert!(none.is_empty());
    log_in(embedded.node(), ScramHash::Sha512, PASSWORD)
        .await
        .unwrap_err();

    // One request changes a user once.
    let both = [set(ScramHash::Sha256, PASSWORD), set(ScramHash::Sha512, PASSWORD)];
    let answers = admin.alter_user_scram_credentials(both.clone()).await.unwrap();
    let refused = answers[ALICE].as_ref().unwrap_err().to_string();
    assert!(refused.contains("DuplicateResource"), "{refused}");
    for one in both {
        let answers = admin.alter_user_scram_credentials([one]).await.unwrap();
        answers[ALICE].as_ref().unwrap();
    }
    for hash in [ScramHash::Sha256, ScramHash::Sha512] {
        log_in(embedded.node(), hash, PASSWORD).await.unwrap();
        log_in(embedded.node(), hash, "wrong").await.unwrap_err();
    }
    let users = admin.describe_user_scram_credentials([]).await.unwrap();
    let known: Vec<_> = users[ALICE]
        .as_ref()
        .unwrap()
        .iter()
        .map(|info| info.hash)
        .collect();
    assert_eq!(known, [Some(ScramHash::Sha256), Some(ScramHash::Sha512)]);

    let changed = [set(ScramHash::Sha256, "another")];
    admin.alter_user_scram_credentials(changed).await.unwrap()[ALICE]
        .as_ref()
        .unwrap();
    log_in(embedded.node(), ScramHash::Sha256, PASSWORD)
        .await
        .unwrap_err();
    log_in(embedded.node(), ScramHash::Sha256, "another")
        .await
        .unwrap();

    let gone = UserScramAlteration::Remove {
        user: ALICE.into(),
        hash: ScramHash::Sha512,
    };
    admin.alter_user_scram_credentials([gone.clone()]).await.unwrap()[ALICE]
        .as_ref()
        .unwrap();
    log_in(embedded.node(), ScramHash::Sha512, PASSWORD)
        .await
        .unwrap_err();
    let again = admin.alter_user_scram_credentials([gone]).await.unwrap();
    let refused = again[ALICE].as_ref().unwrap_err().to_string();
    assert!(refused.contains("user alice"), "{refused}");
    embedded.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_found_as_they_apply_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = start(dir.path()).await;
    let admin = embedded.client().admin();
    let read = allow(ResourceType::Topic, "prices", AclOperation::Read);
    let prefixed = AclBinding {
        pattern: PatternType::Prefixed,
        ..allow(ResourceType::Topic, "pri", AclOperation::Write)
    };
    let denied = AclBinding {
        principal: "User:*".into(),
        permission: AclPermission::Deny,
        ..allow(ResourceType::Topic, "*", AclOperation::Delete)
    };
    let group = allow(ResourceType::Group, "prices", AclOperation::Read);
    let nonsense = allow(ResourceType::Cluster, "another-cluster", AclOperation::Alter);
    let rules = [&read, &prefixed, &denied, &group, &nonsense].map(Clone::clone);
    let answers = admin.create_acls(rules.clone()).await.unwrap();
    let made: Vec<bool> = answers.iter().map(|(_, answer)| answer.is_ok()).collect();
    assert_eq!(made, [true, true, true, true, false]);
    assert_eq!(answers[4].0, nonsense);

    let named = |pattern| AclFilter {
        resource_type: Some(ResourceType::Topic),
        name: Some(("prices".into(), pattern)),
        ..AclFilter::default()
    };
    let found = async |filter: AclFilter| -> BTreeSet<AclBinding> {
        admin.describe_acls(&filter).await.unwrap().into_iter().collect()
    };
    let all = BTreeSet::from([read.clone(), prefixed.clone(), denied.clone(), group.clone()]);
    assert_eq!(found(AclFilter::default()).await, all);
    let applying = BTreeSet::from([read.clone(), prefixed.clone(), denied.clone()]);
    assert_eq!(found(named(PatternFilter::Match)).await, applying);
    assert_eq!(
        found(named(PatternFilter::Literal)).await,
        BTreeSet::from([read.clone()])
    );
    assert_eq!(
        found(AclFilter::from(&denied)).await,
        BTreeSet::from([denied.clone()])
    );

    let of_alice = AclFilter {
        principal: Some("User:alice".into()),
        ..AclFilter::default()
    };
    let filters = [AclFilter::from(&group), AclFilter::from(&group), of_alice];
    let removed: Vec<BTreeSet<AclBinding>> = admin
        .delete_acls(filters)
        .await
        .unwrap()
        .into_iter()
        .map(|answer| answer.unwrap().into_iter().collect())
        .collect();
    assert!(removed[0].contains(&group), "{removed:?}");
    assert!(
        removed[2].is_superset(&BTreeSet::from([read, prefixed])),
        "{removed:?}"
    );
    assert_eq!(found(AclFilter::default()).await, BTreeSet::from([denied]));
    embedded.shutdown().await.unwrap();
}

/// Polls until `count` records came or half a minute has passed; also gives the errors.
async fn read(consumer: &Consumer, count: usize) -> (usize, Vec<ConsumeError>) {
    let (mut records, mut errors) = (0, Vec::new());
    let began = Instant::now();
    while records < count && began.elapsed() < Duration::from_secs(30) {
        match consumer.poll(Duration::from_millis(100)).await {
            Ok(polled) => records += polled.iter().map(|part| part.records.len()).sum::<usize>(),
            Err(error) => errors.push(error),
        }
    }
    (records, errors)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_told_of_the_topic_and_the_group_it_may_not_use_and_reads_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = start(dir.path()).await;
    let inside = embedded.client();
    let admin = inside.admin();
    let topics = ["prices", "secret"].map(topic);
    let new = topics.clone().map(|name| NewTopic::new(name, 1));
    for (_, answer) in admin.create_topics(new).await.unwrap() {
        answer.unwrap();
    }
    let producer = inside.producer(ProducerConfig::default()).unwrap();
    for name in &topics {
        let sent = producer
            .send(ProducerRecord::new(name.clone(), "v"))
            .await
            .unwrap();
        sent.await.unwrap();
    }
    producer.close().await;
    let alice = [set(ScramHash::Sha512, PASSWORD)];
    admin.alter_user_scram_credentials(alice).await.unwrap()[ALICE]
        .as_ref()
        .unwrap();
    let rules = [allow(ResourceType::Topic, "prices", AclOperation::Read)];
    admin.create_acls(rules).await.unwrap()[0].1.as_ref().unwrap();

    let outside = log_in(embedded.node(), ScramHash::Sha512, PASSWORD)
        .await
        .unwrap();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::in_group("dashboards")
    };
    let consumer = outside.consumer(config).unwrap();
    consumer.subscribe(topics.clone()).unwrap();
    let began = Instant::now();
    let mut errors = Vec::new();
    let of_group = |error: &ConsumeError| matches!(error, ConsumeError::GroupAuthorization { .. });
    while !errors.iter().any(of_group) {
        errors.extend(consumer.poll(Duration::from_millis(100)).await.err());
        assert!(began.elapsed() < Duration::from_secs(30), "{errors:?}");
    }

    let rules = [allow(ResourceType::Group, "dashboards", AclOperation::Read)];
    admin.create_acls(rules).await.unwrap()[0].1.as_ref().unwrap();
    let (records, later) = read(&consumer, 1).await;
    assert_eq!(records, 1);
    errors.extend(later);
    errors.retain(|error| !of_group(error));
    assert!(
        matches!(errors.as_slice(), [ConsumeError::TopicAuthorization { topic }] if *topic == topics[1]),
        "{errors:?}"
    );

    // Access that is given counts without a restart of the consumer.
    let rules = [allow(ResourceType::Topic, "secret", AclOperation::Read)];
    admin.create_acls(rules).await.unwrap()[0].1.as_ref().unwrap();
    let (records, errors) = read(&consumer, 1).await;
    assert_eq!((records, errors.len()), (1, 0), "{errors:?}");
    consumer.close().await;
    embedded.shutdown().await.unwrap();
}

//! Subscriptions to client metrics (resource type 16, KIP-714): kept and shown. Without a receiver, clients are not asked
//! for metrics, as in a Kafka without one.

use highwater_wire::ApiKey;
use highwater_wire::messages::{ApiVersionsRequest, ListConfigResourcesRequest};

use super::*;

const CLIENT_METRICS: i8 = 16;
const NAME: &str = "slow clients";

async fn listed(admin: &Admin, version: i16) -> Vec<String> {
    let mut request = ListConfigResourcesRequest::default();
    if version >= 1 {
        request.resource_types = vec![CLIENT_METRICS];
    }
    let rows = admin.call(version, request).await.config_resources;
    rows.into_iter()
        .map(|row| row.resource_name.to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_made_listed_described_kept_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let open = async || {
        let (node, _) = start_with(dir.path(), Limits::default(), &[]).await;
        let session = node.session(SessionInfo::default());
        Admin {
            node,
            session,
            _dir: tempfile::tempdir().unwrap(),
        }
    };
    let admin = open().await;
    let set = [
        ("interval.ms", SET, Some("60000")),
        ("metrics", SET, Some("org.apache.kafka.producer.")),
        ("metrics", APPEND, Some("org.apache.kafka.consumer.")),
        ("match", SET, Some("client_software_name=apache-kafka-.*")),
    ];
    assert_eq!(
        admin.alter(CLIENT_METRICS, NAME, &[set[0], set[1], set[3]]).await,
        ErrorCode::None
    );
    assert_eq!(
        admin.alter(CLIENT_METRICS, NAME, &[set[2]]).await,
        ErrorCode::None
    );
    admin.node.shutdown().await.unwrap();

    let admin = open().await;
    for version in [0, 1] {
        assert_eq!(listed(&admin, version).await, [NAME]);
    }
    let described = admin.describe(CLIENT_METRICS, NAME).await;
    let rows: Vec<_> = described
        .configs
        .iter()
        .map(|row| (&*row.name, row.value.as_deref().unwrap(), row.config_source))
        .collect();
    assert_eq!(
        rows,
        [
            ("interval.ms", "60000", 7),
            ("match", "client_software_name=apache-kafka-.*", 7),
            (
                "metrics",
                "org.apache.kafka.producer.,org.apache.kafka.consumer.",
                7
            ),
        ]
    );
    let gone = ["interval.ms", "match", "metrics"].map(|key| (key, DELETE, None));
    assert_eq!(admin.alter(CLIENT_METRICS, NAME, &gone).await, ErrorCode::None);
    assert_eq!(listed(&admin, 1).await, [""; 0]);
    let interval = admin.config(CLIENT_METRICS, NAME, "interval.ms").await;
    assert_eq!(
        (interval.value.as_deref(), interval.config_source),
        (Some("300000"), 5)
    );
    admin.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_subscriptions_are_refused_and_clients_are_not_asked_for_metrics() {
    let admin = Admin::start(&[]).await;
    for (key, value) in [
        ("interval.ms", "99"),
        ("interval.ms", "soon"),
        ("match", "client_id=("),
        ("match", "colour=red"),
        ("push.interval.ms", "60000"),
    ] {
        assert_eq!(
            admin
                .alter(CLIENT_METRICS, NAME, &[(key, SET, Some(value))])
                .await,
            ErrorCode::InvalidRequest,
            "{key}={value}"
        );
    }
    for name in ["", "forged\nline"] {
        assert_eq!(
            admin
                .alter(CLIENT_METRICS, name, &[("interval.ms", SET, Some("60000"))])
                .await,
            ErrorCode::InvalidRequest
        );
        assert_eq!(
            admin.describe(CLIENT_METRICS, name).await.error_code,
            ErrorCode::InvalidRequest.code()
        );
    }
    assert_eq!(listed(&admin, 1).await, [""; 0]);
    let served = admin.call(2, ApiVersionsRequest::default()).await.api_keys;
    for key in [71, 72] {
        assert!(served.iter().all(|row| row.api_key != key));
    }
    assert!(
        served
            .iter()
            .any(|row| row.api_key == ApiKey::ListConfigResources.as_i16())
    );
}

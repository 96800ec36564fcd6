//! Configs of consumer groups (resource type 32): what may be set, and that it counts at once.

use highwater_wire::messages::{
    AlterConfigsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, FindCoordinatorRequest, ListConfigResourcesRequest,
};

use super::*;

const GROUP: i8 = 32;
const SESSION: &str = "consumer.session.timeout.ms";
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_configs_are_described_set_within_bounds_listed_and_deleted() {
    let admin = Admin::start(&[("group.consumer.heartbeat.interval.ms", "6000")]).await;
    let described = admin.describe(GROUP, "g").await;
    let shown = |config: &DescribeConfigsResourceResult| {
        let value = config.value.clone().unwrap_or_default();
        (config.name.to_string(), value.to_string(), config.config_source)
    };
    assert_eq!(
        described.configs.iter().map(shown).collect::<Vec<_>>(),
        [
            (HEARTBEAT.into(), "6000".into(), 4),
            (SESSION.into(), "45000".into(), 5)
        ]
    );
    let set = async |key: &str, value: &str| admin.alter(GROUP, "g", &[(key, SET, Some(value))]).await;
    assert_eq!(set(SESSION, "50000").await, ErrorCode::None);
    for (key, value) in [
        (SESSION, "44999"),
        (SESSION, "60001"),
        (SESSION, "x"),
        (HEARTBEAT, "4999"),
        (HEARTBEAT, "15001"),
        ("group.consumer.session.timeout.ms", "50000"),
    ] {
        assert_eq!(set(key, value).await, ErrorCode::InvalidConfig, "{key}={value}");
    }
    assert_eq!(
        admin.alter(GROUP, "", &[(SESSION, SET, Some("50000"))]).await,
        ErrorCode::InvalidRequest
    );
    let session = admin.config(GROUP, "g", SESSION).await;
    assert_eq!(shown(&session), (SESSION.into(), "50000".into(), 8));
    assert!(!session.read_only && session.documentation.is_some());
    let synonyms = session.synonyms.iter();
    let synonyms: Vec<_> = synonyms.map(|synonym| (&*synonym.name, synonym.source)).collect();
    assert_eq!(synonyms, [(SESSION, 8), ("group.consumer.session.timeout.ms", 5)]);
    let listed = async || {
        let request = ListConfigResourcesRequest {
            resource_types: vec![GROUP],
        };
        let rows = admin.call(1, request).await.config_resources;
        rows.into_iter()
            .map(|row| row.resource_name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed().await, ["g"]);
    // What a replacement does not name goes.
    let request = AlterConfigsRequest {
        resources: vec![ReplacedResource {
            resource_type: GROUP,
            resource_name: "g".into(),
            configs: vec![ReplacedConfig {
                name: HEARTBEAT.into(),
                value: Some("7000".into()),
            }],
        }],
        validate_only: false,
    };
    assert_eq!(admin.call(2, request).await.responses[0].error_code, 0);
    assert_eq!(admin.config(GROUP, "g", SESSION).await.config_source, 5);
    assert_eq!(admin.config(GROUP, "g", HEARTBEAT).await.config_source, 8);
    assert_eq!(
        admin.alter(GROUP, "g", &[(HEARTBEAT, DELETE, None)]).await,
        ErrorCode::None
    );
    assert!(listed().await.is_empty());
}

impl Admin {
    async fn heartbeat(&self, group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        let is_joining = epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: member.into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if is_joining { 60_000 } else { -1 },
            subscribed_topic_names: is_joining.then(|| vec!["t".into()]),
            topic_partitions: is_joining.then(Vec::new),
            ..Default::default()
        };
        self.call(1, request).await
    }

    /// Finds the group's coordinator, which makes one.
    async fn coordinate(&self, group: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![group.into()],
                ..Default::default()
            };
            let found = self.call(4, request).await;
            let joined = self.heartbeat(group, "probe", 9).await;
            let is_there = code(joined.error_code) != ErrorCode::NotCoordinator
                && code(joined.error_code) != ErrorCode::CoordinatorLoadInProgress;
            if found.coordinators[0].error_code == 0 && is_there {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?} {joined:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_configs_count_with_the_next_heartbeat() {
    let admin = Admin::start(&[
        ("group.consumer.min.session.timeout.ms", "200"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
        ("offsets.topic.num.partitions", "1"),
    ])
    .await;
    admin.create(vec![topic("t")], false).await;
    admin.coordinate("g").await;
    let joined = admin.heartbeat("g", "a", 0).await;
    assert_eq!(
        (joined.error_code, joined.heartbeat_interval_ms),
        (0, 5_000),
        "{joined:?}"
    );
    let short = [(SESSION, SET, Some("200")), (HEARTBEAT, SET, Some("150"))];
    assert_eq!(admin.alter(GROUP, "g", &short).await, ErrorCode::None);
    let told = admin.heartbeat("g", "a", joined.member_epoch).await;
    assert_eq!((told.error_code, told.heartbeat_interval_ms), (0, 150));
    // Silent from now on: gone long before the 45 seconds that others have.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec!["g".into()],
            ..Default::default()
        };
        if admin.call(1, request).await.groups[0].members.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "the member is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        code(admin.heartbeat("g", "a", joined.member_epoch).await.error_code),
        ErrorCode::UnknownMemberId
    );
}

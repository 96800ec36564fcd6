//! Levels of a broker's loggers (resource type 8, KIP-412).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use highwater_broker::{LogLevel, LogLevels, Logger, NodeConfig};

use highwater_wire::messages::AlterConfigsRequest;

use super::*;

pub(super) const LOGGER: i8 = 8;

/// Two loggers, as they were configured and as they are.
#[derive(Debug)]
pub(super) struct Levels(pub(super) Mutex<BTreeMap<String, LogLevel>>);

impl Levels {
    fn configured() -> BTreeMap<String, LogLevel> {
        BTreeMap::from([("net".into(), LogLevel::Warn), ("root".into(), LogLevel::Info)])
    }

    fn shown(&self) -> Vec<(String, LogLevel)> {
        self.0.lock().unwrap().clone().into_iter().collect()
    }
}

impl LogLevels for Levels {
    fn loggers(&self) -> Vec<Logger> {
        let shown = self.shown().into_iter();
        shown.map(|(name, level)| Logger { name, level }).collect()
    }

    fn change(&self, levels: &[(String, Option<LogLevel>)]) -> Result<(), String> {
        let mut all = self.0.lock().unwrap();
        for (logger, level) in levels {
            let level = level.unwrap_or(Levels::configured()[logger]);
            *all.get_mut(logger).unwrap() = level;
        }
        Ok(())
    }
}

/// A node whose log levels can be changed.
pub(super) async fn start_with_levels() -> (Admin, Arc<Levels>) {
    let dir = tempfile::tempdir().unwrap();
    let levels = Arc::new(Levels(Mutex::new(Levels::configured())));
    let mut config = NodeConfig::new(dir.path());
    config.log_levels = Some(Arc::clone(&levels) as _);
    let node = Node::start(config).await.unwrap();
    let session = node.session(SessionInfo::default());
    let admin = Admin {
        node,
        session,
        _dir: dir,
    };
    (admin, levels)
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_described_set_and_given_back_as_they_were_configured() {
    let (admin, levels) = start_with_levels().await;
    let described = admin.describe(LOGGER, "1").await;
    let rows: Vec<_> = described
        .configs
        .iter()
        .map(|row| (&*row.name, row.value.as_deref().unwrap(), row.config_source))
        .collect();
    assert_eq!(rows, [("net", "WARN", 6), ("root", "INFO", 6)]);
    assert!(described.configs.iter().all(|row| !row.read_only));

    let both = [("net", SET, Some("TRACE")), ("root", SET, Some("FATAL"))];
    assert_eq!(admin.alter(LOGGER, "1", &both).await, ErrorCode::None);
    assert_eq!(
        levels.shown(),
        [("net".into(), LogLevel::Trace), ("root".into(), LogLevel::Fatal)]
    );
    assert_eq!(
        admin.alter(LOGGER, "1", &[("net", DELETE, None)]).await,
        ErrorCode::None
    );
    assert_eq!(
        admin.config(LOGGER, "1", "net").await.value.as_deref(),
        Some("WARN")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_kafka_refuses_are_refused_as_a_whole() {
    let (admin, levels) = start_with_levels().await;
    let before = levels.shown();
    let good = ("net", SET, Some("DEBUG"));
    for (bad, code) in [
        (("nett", SET, Some("DEBUG")), ErrorCode::InvalidConfig),
        (("root", SET, Some("LOUD")), ErrorCode::InvalidConfig),
        (("root", SET, Some("")), ErrorCode::InvalidConfig),
        (("root", SET, None), ErrorCode::InvalidRequest),
        (("root", DELETE, None), ErrorCode::InvalidRequest),
        (("root", APPEND, Some("INFO")), ErrorCode::InvalidRequest),
        (("nett", APPEND, Some("INFO")), ErrorCode::InvalidRequest),
        (("root", SUBTRACT, Some("INFO")), ErrorCode::InvalidRequest),
        (("root", 7, Some("INFO")), ErrorCode::InvalidRequest),
        (("net", SET, Some("INFO")), ErrorCode::InvalidRequest),
    ] {
        assert_eq!(admin.alter(LOGGER, "1", &[good, bad]).await, code, "{bad:?}");
        assert_eq!(levels.shown(), before, "{bad:?}");
    }
    for name in ["", "2", "one", "99999999999"] {
        assert_eq!(
            admin.alter(LOGGER, name, &[good]).await,
            ErrorCode::InvalidRequest,
            "{name}"
        );
        assert_eq!(
            admin.describe(LOGGER, name).await.error_code,
            ErrorCode::InvalidRequest.code(),
            "{name}"
        );
    }
    let resource = |value: &str| AlterConfigsResource {
        resource_type: LOGGER,
        resource_name: "1".into(),
        configs: vec![AlterableConfig {
            name: "net".into(),
            config_operation: SET,
            value: Some(value.into()),
        }],
    };
    let mut request = IncrementalAlterConfigsRequest {
        resources: vec![resource("DEBUG"), resource("INFO")],
        validate_only: false,
    };
    let answered = admin.call(1, request.clone()).await.responses;
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0].error_code, ErrorCode::InvalidRequest.code());
    request.resources.truncate(1);
    request.validate_only = true;
    let answered = admin.call(1, request).await.responses;
    assert_eq!(answered[0].error_code, ErrorCode::None.code());
    assert_eq!(levels.shown(), before, "only asked whether it would work");

    let replaced = AlterConfigsRequest {
        resources: vec![ReplacedResource {
            resource_type: LOGGER,
            resource_name: "1".into(),
            configs: Vec::new(),
        }],
        validate_only: false,
    };
    let refused = &admin.call(2, replaced).await.responses[0];
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
}

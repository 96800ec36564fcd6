//! Configs of a broker's loggers (resource type 8, KIP-412): the levels they have until the process ends.
//!
//! They belong to one process: nothing here is metadata, nothing is written down, and only the broker that is asked can
//! answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use highwater_wire::messages::incremental_alter_configs_request::AlterableConfig;

use crate::broker::Broker;
use crate::error::ApiError;
use crate::log_levels::{LogLevel, LogLevels, Logger, ROOT_LOGGER};

/// Where DescribeConfigs says that levels come from.
const DYNAMIC_BROKER_LOGGER: i8 = 6;

/// Every logger of this broker with its level.
pub(super) fn describe(broker: &Broker, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    let rows = levels(broker, name)?.loggers().into_iter();
    Ok(rows
        .map(|Logger { name, level }| DescribeConfigsResourceResult {
            name: name.into(),
            value: Some(level.name().into()),
            config_source: DYNAMIC_BROKER_LOGGER,
            ..Default::default()
        })
        .collect())
}

/// Sets and deletes levels, all that the request names or none.
pub(super) fn alter(
    broker: &Broker,
    name: &str,
    configs: &[AlterableConfig],
    validate_only: bool,
) -> Result<(), ApiError> {
    let levels = levels(broker, name)?;
    let known: BTreeSet<String> = levels.loggers().into_iter().map(|logger| logger.name).collect();
    let mut changes = Vec::with_capacity(configs.len());
    let mut seen = BTreeSet::new();
    for config in configs {
        if !seen.insert(&config.name) {
            let message = format!("logger {:?} occurs more than once", &*config.name);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        changes.push(change(config, &known)?);
    }
    if validate_only {
        return Ok(());
    }
    levels
        .change(&changes)
        .map_err(|why| ApiError::new(ErrorCode::UnknownServerError, why))?;
    for (logger, level) in changes {
        // Only names out of our own list get here, so no line can be forged.
        let level = level.map_or("as configured", LogLevel::name);
        tracing::info!(logger, level, "a log level was changed by request");
    }
    Ok(())
}

/// The answer to AlterConfigs, which would have to reset what it does not name.
pub(super) fn not_replaceable() -> ApiError {
    let message = "log levels change one by one; use IncrementalAlterConfigs";
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn levels<'a>(broker: &'a Broker, name: &str) -> Result<&'a Arc<dyn LogLevels>, ApiError> {
    let refuse = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if name.parse() != Ok(broker.node_id.get()) {
        let asked = broker.node_id;
        return refuse(format!(
            "loggers belong to one broker; name the broker that is asked, {asked}, and not {name:?}"
        ));
    }
    match &broker.log_levels {
        Some(levels) => Ok(levels),
        None => refuse("log levels cannot be seen or changed in this process".to_owned()),
    }
}

fn change(
    config: &AlterableConfig,
    known: &BTreeSet<String>,
) -> Result<(String, Option<LogLevel>), ApiError> {
    let refuse = |code, message| Err(ApiError::new(code, message));
    // Quoted and escaped: a name may hold anything.
    let logger = &*config.name;
    if !matches!(config.config_operation, 0 | 1) {
        let message = format!("logger {logger:?} holds no list; use operation 0 (set) or 1 (delete)");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    if !known.contains(logger) {
        let message = format!("no logger is named {logger:?}; DescribeConfigs lists them");
        return refuse(ErrorCode::InvalidConfig, message);
    }
    match (config.config_operation, config.value.as_deref()) {
        (0, Some(word)) => match word.parse() {
            Ok(level) => Ok((logger.to_owned(), Some(level))),
            Err(expected) => {
                let message = format!("logger {logger} cannot have the level {word:?}: {expected}");
                refuse(ErrorCode::InvalidConfig, message)
            }
        },
        (0, None) => refuse(
            ErrorCode::InvalidRequest,
            format!("no level is given for logger {logger}"),
        ),
        _ if logger == ROOT_LOGGER => {
            let message = "the level of the root logger cannot be deleted; set it to another one".to_owned();
            refuse(ErrorCode::InvalidRequest, message)
        }
        _ => Ok((logger.to_owned(), None)),
    }
}

//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_types::Timestamp;

pub(crate) fn wall_now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

//! The one file of this crate that reads the wall clock: a record without a timestamp gets the time it is sent.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_types::Timestamp;

pub(crate) fn wall_now() -> Timestamp {
    let ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Timestamp::new(i64::try_from(ms).unwrap_or(i64::MAX))
}

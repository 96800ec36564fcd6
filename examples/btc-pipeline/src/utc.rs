//! The clock, and moments as people read them, always in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// Microseconds since the epoch; the one place where this program asks what time it is.
pub(crate) fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(now_us() / 1_000).unwrap_or(i64::MAX)
}

/// `22:14` of a moment in milliseconds since the epoch.
pub(crate) fn clock(time_ms: i64) -> String {
    let minutes = time_ms.rem_euclid(DAY_MS) / 60_000;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// `2023-11-14 22:14` of a moment in milliseconds since the epoch.
pub(crate) fn date_and_clock(time_ms: i64) -> String {
    let (year, month, day) = civil(time_ms.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02} {}", clock(time_ms))
}

/// Year, month and day of a day since the epoch. Years are counted from March, so that a leap day ends one; 400 years
/// have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_0000 = days + 719_468;
    let era = since_march_0000.div_euclid(146_097);
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_the_calendar_has_them_leap_days_included() {
        assert_eq!(date_and_clock(0), "1970-01-01 00:00");
        assert_eq!(date_and_clock(1_700_000_040_000), "2023-11-14 22:14");
        assert_eq!(date_and_clock(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(date_and_clock(951_868_799_999), "2000-02-29 23:59");
        assert_eq!(date_and_clock(4_107_542_400_000), "2100-03-01 00:00");
    }
}

//! Durations and sizes as people write them in configurations: `"10s"`, `"300ms"`, `"64MiB"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Not of the form number plus unit.
    #[error("`{text}` is no {what}; write a whole number and a unit, such as {example}")]
    Malformed {
        /// What was written.
        text: String,
        /// What was expected.
        what: &'static str,
        /// An example of it.
        example: &'static str,
    },
    /// The number does not fit.
    #[error("`{text}` is too large")]
    TooLarge {
        /// What was written.
        text: String,
    },
}

/// Reads `"250ms"`, `"10s"`, `"5m"`, `"1h"` or `"7d"`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let malformed = || UnitError::Malformed {
        text: text.to_owned(),
        what: "duration",
        example: "250ms, 10s, 5m, 1h or 7d",
    };
    let (number, unit) = split(text).ok_or_else(malformed)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(malformed()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| UnitError::TooLarge {
            text: text.to_owned(),
        })
}

/// Reads `"512"`, `"16KiB"`, `"64MiB"`, `"1GiB"`, and the decimal `KB`, `MB`, `GB`, in bytes.
pub fn parse_size_bytes(text: &str) -> Result<u64, UnitError> {
    let malformed = || UnitError::Malformed {
        text: text.to_owned(),
        what: "size",
        example: "512, 16KiB, 64MiB or 1GiB",
    };
    let (number, unit) = split(text).ok_or_else(malformed)?;
    let unit_bytes: u64 = match unit {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(malformed()),
    };
    number.checked_mul(unit_bytes).ok_or_else(|| UnitError::TooLarge {
        text: text.to_owned(),
    })
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// For `#[serde(deserialize_with = "duration")]`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with = "size_bytes")]`.
pub fn size_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size_bytes(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse_duration(" 10 s "), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_size_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size_bytes("512"), Ok(512));
    }

    #[test]
    fn a_number_without_a_unit_is_no_duration() {
        let error = parse_duration("10").expect_err("no unit");
        assert_eq!(
            error.to_string(),
            "`10` is no duration; write a whole number and a unit, such as 250ms, 10s, 5m, 1h or 7d"
        );
    }

    #[test]
    fn an_overflowing_size_is_refused() {
        assert!(matches!(
            parse_size_bytes("99999999999999GiB"),
            Err(UnitError::TooLarge { .. })
        ));
    }
}

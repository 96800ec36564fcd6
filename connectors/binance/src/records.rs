//! From the exchange's JSON to records.
//!
//! A price record is `{"type":"price","symbol","price","volume_24h","trades_24h","event_time_ms"}`, a kline record
//! `{"type":"kline","symbol","price","interval","open","high","low","close","volume","trades","open_time_ms",
//! "close_time_ms","event_time_ms"}`; a kline's `price` is its close, so that both kinds answer the same questions.

use highwater_connect_api::{Data, SourceOffset, SourcePartition, SourceRecord, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::settings::Decimals;

/// Offset field: exchange time of the last price, or open time of the last kline, in milliseconds.
pub(crate) const TIME_FIELD: &str = "time_ms";

/// One element of the 24-hour ticker in its short form.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticker {
    /// The symbol.
    pub symbol: String,
    /// Last traded price, as text.
    pub last_price: String,
    /// Base asset traded in 24 hours, as text.
    pub volume: String,
    /// The exchange's time of this ticker, in milliseconds.
    pub close_time: i64,
    /// Trades in 24 hours.
    pub count: i64,
}

/// One kline: the exchange sends an array of twelve elements.
#[derive(Debug, Clone, Deserialize)]
pub struct Kline(
    pub i64,
    pub String,
    pub String,
    pub String,
    pub String,
    pub String,
    pub i64,
    pub String,
    pub i64,
    pub String,
    pub String,
    pub Value,
);

impl Kline {
    /// First millisecond of the kline.
    pub fn open_time_ms(&self) -> i64 {
        self.0
    }

    /// Last millisecond of the kline.
    pub fn close_time_ms(&self) -> i64 {
        self.6
    }
}

/// The source partition of one symbol in one stream.
pub(crate) fn partition_of(stream: &str, symbol: &str) -> SourcePartition {
    let mut partition = SourcePartition::of("symbol", symbol);
    partition.0.insert("stream".to_owned(), stream.to_owned());
    partition
}

/// The record of a price.
pub(crate) fn price_record(ticker: &Ticker, decimals: Decimals) -> SourceRecord {
    let mut value = Map::new();
    value.insert("type".to_owned(), "price".into());
    value.insert("symbol".to_owned(), ticker.symbol.clone().into());
    value.insert("price".to_owned(), decimal(&ticker.last_price, decimals));
    value.insert("volume_24h".to_owned(), decimal(&ticker.volume, decimals));
    value.insert("trades_24h".to_owned(), ticker.count.into());
    value.insert("event_time_ms".to_owned(), ticker.close_time.into());
    record(
        "prices",
        &ticker.symbol,
        value,
        ticker.close_time,
        ticker.close_time,
    )
}

/// The record of a closed kline. Its event time is the moment it closed.
pub(crate) fn kline_record(symbol: &str, interval: &str, kline: &Kline, decimals: Decimals) -> SourceRecord {
    let mut value = Map::new();
    value.insert("type".to_owned(), "kline".into());
    value.insert("symbol".to_owned(), symbol.into());
    value.insert("price".to_owned(), decimal(&kline.4, decimals));
    value.insert("interval".to_owned(), interval.into());
    for (name, text) in [
        ("open", &kline.1),
        ("high", &kline.2),
        ("low", &kline.3),
        ("close", &kline.4),
        ("volume", &kline.5),
    ] {
        value.insert(name.to_owned(), decimal(text, decimals));
    }
    value.insert("trades".to_owned(), kline.8.into());
    value.insert("open_time_ms".to_owned(), kline.open_time_ms().into());
    value.insert("close_time_ms".to_owned(), kline.close_time_ms().into());
    value.insert("event_time_ms".to_owned(), kline.close_time_ms().into());
    record(
        "klines",
        symbol,
        value,
        kline.close_time_ms(),
        kline.open_time_ms(),
    )
}

fn record(
    stream: &str,
    symbol: &str,
    value: Map<String, Value>,
    event_time_ms: i64,
    offset_ms: i64,
) -> SourceRecord {
    SourceRecord {
        topic: None,
        partition: None,
        key: Data::text(symbol),
        value: Data::Json(Value::Object(value)),
        headers: Vec::new(),
        timestamp: Some(Timestamp::new(event_time_ms)),
        source_partition: partition_of(stream, symbol),
        source_offset: SourceOffset::of(TIME_FIELD, offset_ms),
    }
}

/// A text that is no number is kept as text rather than lost.
fn decimal(text: &str, decimals: Decimals) -> Value {
    match decimals {
        Decimals::String => text.into(),
        Decimals::Number => text.parse::<Number>().map_or_else(|_| text.into(), Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticker() -> Ticker {
        Ticker {
            symbol: "BTCUSDT".to_owned(),
            last_price: "67000.12000000".to_owned(),
            volume: "12.50000000".to_owned(),
            close_time: 1_700_000_000_123,
            count: 9,
        }
    }

    #[test]
    fn a_price_carries_the_exchanges_time_and_a_readable_number() {
        let record = price_record(&ticker(), Decimals::Number);
        assert_eq!(record.timestamp, Some(Timestamp::new(1_700_000_000_123)));
        assert_eq!(record.key, Data::text("BTCUSDT"));
        assert_eq!(
            record.value.as_json().map(|v| v["price"].to_string()),
            Some("67000.12".to_owned())
        );
        assert_eq!(record.source_offset.integer(TIME_FIELD), Some(1_700_000_000_123));
    }

    #[test]
    fn exact_decimals_stay_the_exchanges_text() {
        let record = price_record(&ticker(), Decimals::String);
        assert_eq!(
            record.value.as_json().map(|v| v["price"].clone()),
            Some("67000.12000000".into())
        );
    }
}

//! Settings of the source.

use std::time::Duration;

use highwater_connect_api::{ConfigDef, ConfigKey, Kind, units};
use serde::Deserialize;

/// The host that serves market data alone, without a key and without geo block in most places.
pub const DEFAULT_BASE_URL: &str = "https://data-api.binance.vision";

/// Intervals the exchange knows; a minute is `1m`, a month `1M`.
const INTERVALS: &[&str] = &[
    "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M",
];

/// The table of settings.
pub const CONFIG: ConfigDef = ConfigDef {
    keys: &[
        ConfigKey::required(
            "symbols",
            Kind::List,
            "the symbols to poll, such as [\"BTCUSDT\", \"ETHUSDT\"]",
        ),
        ConfigKey::optional("base_url", Kind::Text, "the exchange's REST host")
            .with_default(DEFAULT_BASE_URL),
        ConfigKey::optional("streams", Kind::List, "what to poll: prices, klines or both")
            .with_default("[\"prices\", \"klines\"]"),
        ConfigKey::optional("interval", Kind::Choice(INTERVALS), "length of a kline").with_default("1m"),
        ConfigKey::optional(
            "poll_interval",
            Kind::Duration,
            "pause between two price requests",
        )
        .with_default("1s"),
        ConfigKey::optional(
            "klines_poll_interval",
            Kind::Duration,
            "pause between two kline requests",
        )
        .with_default("10s"),
        ConfigKey::optional(
            "klines_backfill",
            Kind::Integer { min: 0, max: 1_000 },
            "closed klines to fetch per symbol on the very first start",
        )
        .with_default("60"),
        ConfigKey::optional("timeout", Kind::Duration, "how long one request may take").with_default("5s"),
        ConfigKey::optional(
            "decimals",
            Kind::Choice(&["number", "string"]),
            "prices and amounts as JSON numbers, or as the exchange's exact texts",
        )
        .with_default("number"),
        ConfigKey::optional(
            "max_weight_percent",
            Kind::Integer { min: 1, max: 100 },
            "share of the exchange's request weight per minute at which the task slows down",
        )
        .with_default("80"),
        ConfigKey::optional(
            "weight_limit",
            Kind::Integer {
                min: 1,
                max: 1_000_000,
            },
            "the exchange's request weight per minute and address",
        )
        .with_default("6000"),
    ],
};

/// What a task polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The last price of every symbol.
    Prices,
    /// Closed klines of every symbol.
    Klines,
}

/// How decimals are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decimals {
    /// As JSON numbers: ready for arithmetic, exact to 15 digits.
    Number,
    /// As the exchange's text: exact.
    String,
}

/// The settings, read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BinanceSettings {
    /// Symbols of the connector, or of one task of it.
    pub symbols: Vec<String>,
    /// The exchange's REST host.
    pub base_url: String,
    /// What to poll.
    pub streams: Vec<Stream>,
    /// Length of a kline.
    pub interval: String,
    /// Pause between two price requests.
    #[serde(deserialize_with = "units::duration")]
    pub poll_interval: Duration,
    /// Pause between two kline requests.
    #[serde(deserialize_with = "units::duration")]
    pub klines_poll_interval: Duration,
    /// Closed klines to fetch per symbol on the very first start.
    pub klines_backfill: u16,
    /// How long one request may take.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// How decimals are written.
    pub decimals: Decimals,
    /// Share of the weight limit at which the task slows down.
    pub max_weight_percent: u32,
    /// The exchange's request weight per minute and address.
    pub weight_limit: u32,
}

impl Default for BinanceSettings {
    fn default() -> Self {
        Self {
            symbols: Vec::new(),
            base_url: DEFAULT_BASE_URL.to_owned(),
            streams: vec![Stream::Prices, Stream::Klines],
            interval: "1m".to_owned(),
            poll_interval: Duration::from_secs(1),
            klines_poll_interval: Duration::from_secs(10),
            klines_backfill: 60,
            timeout: Duration::from_secs(5),
            decimals: Decimals::Number,
            max_weight_percent: 80,
            weight_limit: 6_000,
        }
    }
}

impl BinanceSettings {
    /// The used weight above which the task waits for the next minute.
    pub(crate) fn weight_ceiling(&self) -> u32 {
        (u64::from(self.weight_limit) * u64::from(self.max_weight_percent) / 100) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_connect_api::Settings;
    use serde_json::json;

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_struct() {
        let mut from_table = serde_json::Map::new();
        for key in CONFIG.keys {
            let Some(default) = key.default else { continue };
            let value = match key.kind {
                Kind::Integer { .. } | Kind::List => serde_json::from_str(default).expect("a JSON default"),
                _ => json!(default),
            };
            from_table.insert(key.name.to_owned(), value);
        }
        from_table.insert("symbols".to_owned(), json!([]));
        assert_eq!(CONFIG.check(&Settings(from_table.clone())), []);
        let read: BinanceSettings = Settings(from_table).read().expect("the defaults are readable");
        assert_eq!(format!("{read:?}"), format!("{:?}", BinanceSettings::default()));
    }
}

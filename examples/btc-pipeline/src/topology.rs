//! The pipeline's own logic: prices in; candles, moving averages and alerts out.
//!
//! ```text
//! btc_prices -> 1-minute candles -> candles -> average of 5 closes -> moving_averages
//!                        `-> first wide swing of a minute -> volatility_alerts
//! ```
//!
//! Pure: no clock, no network, tested below without a broker.
//!
//! # Invariants
//! - Time is the exchange's. A candle opens with its earliest price and closes with its latest, whatever order they
//!   arrive in.
//! - Every result is a function of the input alone, so that work repeated after a crash writes the same again: one
//!   final candle per symbol and minute, one alert at most.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_streams::engine::operator::{Operator, OperatorContext};
use highwater_streams::engine::serdes::{json, string};
use highwater_streams::engine::store::{StoreKind, StoreSpec, window_store_key};
use highwater_streams::engine::{
    Advance, Chunk, Consumed, ErrorPolicy, HoppingWindows, KeyEffect, Materialized, ProcessError, Produced,
    Row, StreamsBuilder, Topology, TopologyError, TumblingWindows,
};
use highwater_types::{Timestamp, TopicName};
use serde::{Deserialize, Serialize};

/// Prices and klines of the exchange, as the connector writes them.
pub(crate) const PRICES: &str = "btc_prices";
/// Candles of one minute.
pub(crate) const CANDLES: &str = "candles";
/// Averages of the closes of five minutes.
pub(crate) const AVERAGES: &str = "moving_averages";
/// Minutes in which a price swung widely.
pub(crate) const ALERTS: &str = "volatility_alerts";
/// Records of [`PRICES`] that are no prices; anyone may write there, so a stray one must not stop the pipeline.
pub(crate) const REJECTED: &str = "btc_prices_rejected";
/// All topics, to be created before the start.
pub(crate) const TOPICS: [&str; 5] = [PRICES, CANDLES, AVERAGES, ALERTS, REJECTED];

/// The application, and thereby the consumer group and the first part of internal topics.
pub(crate) const APPLICATION: &str = "btc-pipeline";

/// The length of a candle.
pub(crate) const MINUTE_MS: i64 = 60_000;
const MINUTE: Duration = Duration::from_secs(60);
/// How many candles an average covers.
const AVERAGED_CANDLES: u32 = 5;
/// How late a price may come and still count. Open windows cost a few hundred bytes each, so this is generous.
const GRACE: Duration = Duration::from_secs(300);
const ALERTED_STORE: &str = "alerted_minutes";
/// The log counts the age of records by their event time, and a simulated exchange may live a week ago: what a
/// changelog keeps is therefore left to compaction alone.
const KEEP: (&str, &str) = ("retention.ms", "-1");

/// A record of [`PRICES`], as far as this program looks at it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Price {
    /// `price`, or `kline` for the exchange's own candles.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) symbol: String,
    pub(crate) price: f64,
    pub(crate) event_time_ms: i64,
}

impl Price {
    /// Whether this makes candles: klines ride in the same topic, and a price is a positive number.
    pub(crate) fn counts(&self) -> bool {
        self.kind == "price" && self.price.is_finite() && self.price > 0.0
    }
}

/// One minute of one symbol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Candle {
    pub(crate) symbol: String,
    /// First millisecond of the minute.
    pub(crate) minute_ms: i64,
    pub(crate) open: f64,
    pub(crate) high: f64,
    pub(crate) low: f64,
    pub(crate) close: f64,
    /// Prices seen.
    pub(crate) ticks: u64,
    /// The exchange's time of `open` and of `close`.
    pub(crate) first_event_ms: i64,
    pub(crate) last_event_ms: i64,
}

impl Candle {
    /// Takes a price in. Of two prices of one millisecond the first one seen opens and the last one seen closes.
    pub(crate) fn add(&mut self, price: &Price) {
        if self.ticks == 0 {
            *self = Self {
                symbol: price.symbol.clone(),
                minute_ms: minute_of(price.event_time_ms),
                open: price.price,
                high: price.price,
                low: price.price,
                close: price.price,
                ticks: 0,
                first_event_ms: price.event_time_ms,
                last_event_ms: price.event_time_ms,
            };
        }
        self.ticks += 1;
        self.high = self.high.max(price.price);
        self.low = self.low.min(price.price);
        if price.event_time_ms < self.first_event_ms {
            self.first_event_ms = price.event_time_ms;
            self.open = price.price;
        }
        if price.event_time_ms >= self.last_event_ms {
            self.last_event_ms = price.event_time_ms;
            self.close = price.price;
        }
    }

    /// Distance between high and low, in percent of the open.
    pub(crate) fn swing_percent(&self) -> f64 {
        (self.high - self.low) / self.open * 100.0
    }
}

/// The minute that a moment belongs to, by its first millisecond.
pub(crate) fn minute_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(MINUTE_MS) * MINUTE_MS
}

/// The average of the closes of up to five minutes in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MovingAverage {
    pub(crate) symbol: String,
    /// First millisecond of the last minute covered.
    pub(crate) minute_ms: i64,
    pub(crate) average: f64,
    /// Candles covered; fewer than five at the start and after a gap.
    pub(crate) candles: usize,
}

/// A minute whose prices lie far apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VolatilityAlert {
    pub(crate) symbol: String,
    pub(crate) minute_ms: i64,
    /// Distance between high and low in percent of the open, when it first passed the threshold.
    pub(crate) swing_percent: f64,
    pub(crate) threshold_percent: f64,
    pub(crate) open: f64,
    pub(crate) high: f64,
    pub(crate) low: f64,
    /// The exchange's time of the price that passed it.
    pub(crate) event_time_ms: i64,
}

/// Closes of the minutes of one averaging window, by minute: setting one again changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Closes(BTreeMap<i64, f64>);

/// Describes the pipeline.
///
/// # Errors
/// None unless this file is wrong; the tests would show it.
pub(crate) fn build(alert_threshold_percent: f64) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    let rejected = TopicName::new(REJECTED).map_err(|source| TopologyError::TopicName {
        operator: PRICES.to_owned(),
        topic: REJECTED.to_owned(),
        source,
    })?;

    let candles = builder
        .stream(
            PRICES,
            Consumed::with(string(), json::<Price>())
                .on_error(ErrorPolicy::DeadLetter { topic: rejected })
                .with_timestamp_extractor(|_, price, _| Some(Timestamp::new(price.event_time_ms))),
        )
        .filter(|key, price| price.counts() && *key == price.symbol)
        .group_by_key()
        .windowed_by(TumblingWindows::of(MINUTE).grace(GRACE))
        .aggregate(
            Candle::default,
            |_, price, candle| candle.add(&price),
            Materialized::as_store("candles")
                .with_value(json())
                .changelog_config(KEEP.0, KEEP.1),
        )
        .to_stream()
        .map(|window, candle| (window.key, candle))
        .named("candles_by_symbol");
    candles.to(CANDLES, Produced::with(string(), json()));

    candles
        .process::<String, VolatilityAlert>(
            "first_wide_swing",
            vec![alerted_store()],
            KeyEffect::Keeps,
            move || {
                Box::new(FirstWideSwing {
                    alert_threshold_percent,
                })
            },
        )
        .to(ALERTS, Produced::with(string(), json()));

    builder
        .stream(CANDLES, Consumed::with(string(), json::<Candle>()))
        .group_by_key()
        .windowed_by(HoppingWindows::of(MINUTE * AVERAGED_CANDLES, Advance::by(MINUTE)).grace(GRACE))
        .aggregate(
            Closes::default,
            |_, candle, closes| {
                closes.0.insert(candle.minute_ms, candle.close);
            },
            Materialized::as_store("closes")
                .with_value(json())
                .changelog_config(KEEP.0, KEEP.1),
        )
        .to_stream()
        .flat_map(|window, closes| {
            let last_minute_ms = window.window.end.get() - MINUTE_MS;
            average(window.key, last_minute_ms, &closes).map(|average| (average.symbol.clone(), average))
        })
        .to(AVERAGES, Produced::with(string(), json()));

    builder.build(APPLICATION)
}

/// The average of a window; none while its last minute has not begun, for that is the minute it speaks about.
fn average(symbol: String, last_minute_ms: i64, closes: &Closes) -> Option<MovingAverage> {
    closes.0.get(&last_minute_ms)?;
    let candles = closes.0.len();
    Some(MovingAverage {
        symbol,
        minute_ms: last_minute_ms,
        average: closes.0.values().sum::<f64>() / candles as f64,
        candles,
    })
}

fn alerted_store() -> StoreSpec {
    let retention_ms = MINUTE_MS + GRACE.as_millis() as i64;
    let mut store = StoreSpec::new(ALERTED_STORE, StoreKind::Window { retention_ms });
    store
        .changelog_configs
        .insert(KEEP.0.to_owned(), KEEP.1.to_owned());
    store
}

/// An operator of our own, for what no step of the DSL says: at once, yet only once per symbol and minute.
struct FirstWideSwing {
    alert_threshold_percent: f64,
}

impl Operator for FirstWideSwing {
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let rows: Vec<Row<String, Candle>> = chunk.take().map_err(|actual| ProcessError::ChunkType {
            operator: context.name().to_owned(),
            expected: std::any::type_name::<Vec<Row<String, Candle>>>(),
            actual,
        })?;
        let alerted = context.store(ALERTED_STORE)?;
        let mut alerts = Vec::new();
        for row in rows {
            let candle = row.value;
            alerted.expire(row.timestamp.get());
            let minute = window_store_key(candle.minute_ms, row.key.as_bytes());
            if candle.swing_percent() <= self.alert_threshold_percent || alerted.get(&minute)?.is_some() {
                continue;
            }
            alerted.put(minute, Some("alerted".into()), row.timestamp)?;
            alerts.push(Row {
                key: row.key,
                value: VolatilityAlert {
                    swing_percent: candle.swing_percent(),
                    threshold_percent: self.alert_threshold_percent,
                    symbol: candle.symbol,
                    minute_ms: candle.minute_ms,
                    open: candle.open,
                    high: candle.high,
                    low: candle.low,
                    event_time_ms: candle.last_event_ms,
                },
                timestamp: row.timestamp,
                headers: Vec::new(),
            });
        }
        if !alerts.is_empty() {
            context.forward(Chunk::new(alerts));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use highwater_streams::engine::TopologyTestDriver;

    use super::*;

    /// 2023-11-14 22:14:00 UTC.
    const START_MS: i64 = 1_700_000_040_000;

    fn driver() -> TopologyTestDriver {
        TopologyTestDriver::new(build(0.15).expect("the topology is sound")).expect("it starts")
    }

    fn price(symbol: &str, second: i64, price: f64) -> Price {
        Price {
            kind: "price".to_owned(),
            symbol: symbol.to_owned(),
            price,
            event_time_ms: START_MS + second * 1_000,
        }
    }

    fn pipe(driver: &TopologyTestDriver, prices: &[Price]) {
        let input = driver.input_topic(PRICES, string(), json::<Price>());
        for price in prices {
            input
                .pipe(price.symbol.clone(), price.clone(), price.event_time_ms)
                .expect("it is processed");
        }
    }

    fn candles(driver: &TopologyTestDriver) -> Vec<Candle> {
        let output = driver.output_topic(CANDLES, string(), json::<Candle>());
        output
            .read_key_values()
            .into_iter()
            .map(|(_, candle)| candle)
            .collect()
    }

    fn averages(driver: &TopologyTestDriver) -> Vec<(i64, f64, usize)> {
        let output = driver.output_topic(AVERAGES, string(), json::<MovingAverage>());
        let averages = output.read_key_values();
        averages
            .into_iter()
            .map(|(_, it)| ((it.minute_ms - START_MS) / MINUTE_MS, it.average, it.candles))
            .collect()
    }

    #[test]
    fn prices_that_arrive_out_of_order_open_and_close_by_the_exchanges_time() {
        let driver = driver();
        let seconds = [(20, 100.0), (50, 103.0), (5, 101.0), (30, 99.0)];
        pipe(&driver, &seconds.map(|(second, it)| price("BTCUSDT", second, it)));
        let last = candles(&driver).pop().expect("a candle for every price");
        assert_eq!(
            (last.open, last.high, last.low, last.close),
            (101.0, 103.0, 99.0, 103.0)
        );
        assert_eq!((last.ticks, last.minute_ms), (4, START_MS));
        assert_eq!(last.last_event_ms - last.first_event_ms, 45_000);
    }

    #[test]
    fn symbols_and_minutes_have_candles_of_their_own_and_late_prices_still_find_theirs() {
        let driver = driver();
        let prices = [
            price("BTCUSDT", 59, 100.0),
            price("ETHUSDT", 59, 10.0),
            price("BTCUSDT", 60, 101.0),
            price("BTCUSDT", 10, 99.0),
        ];
        pipe(&driver, &prices);
        let seen: Vec<_> = candles(&driver)
            .into_iter()
            .map(|it| {
                (
                    it.symbol,
                    (it.minute_ms - START_MS) / MINUTE_MS,
                    it.open,
                    it.close,
                    it.ticks,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("BTCUSDT".to_owned(), 0, 100.0, 100.0, 1),
                ("ETHUSDT".to_owned(), 0, 10.0, 10.0, 1),
                ("BTCUSDT".to_owned(), 1, 101.0, 101.0, 1),
                ("BTCUSDT".to_owned(), 0, 99.0, 100.0, 2),
            ]
        );
    }

    #[test]
    fn klines_and_strays_make_no_candles_and_strays_are_kept_for_people() {
        let driver = driver();
        let kline = Price {
            kind: "kline".to_owned(),
            ..price("BTCUSDT", 0, 100.0)
        };
        pipe(&driver, &[kline]);
        let stray = (Some("BTCUSDT".into()), Some("not even JSON".into()));
        driver
            .pipe_raw(PRICES, stray.0, stray.1, Timestamp::new(START_MS))
            .expect("it goes on");
        assert_eq!(candles(&driver), []);
        let rejected = driver.output_topic(REJECTED, string(), string());
        let rejected: Vec<String> = rejected
            .read_key_values()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(rejected, ["not even JSON"]);
    }

    #[test]
    fn an_average_covers_the_five_latest_minutes_and_forgets_the_sixth() {
        let driver = driver();
        let prices: Vec<Price> = (0..6)
            .map(|minute| price("BTCUSDT", minute * 60, 100.0 + minute as f64))
            .collect();
        pipe(&driver, &prices);
        let expected = [
            (0, 100.0, 1),
            (1, 100.5, 2),
            (2, 101.0, 3),
            (3, 101.5, 4),
            (4, 102.0, 5),
            (5, 103.0, 5),
        ];
        assert_eq!(averages(&driver), expected);
    }

    #[test]
    fn a_late_price_mends_the_averages_of_its_minute_and_of_those_after_it() {
        let driver = driver();
        pipe(
            &driver,
            &[price("BTCUSDT", 0, 100.0), price("BTCUSDT", 60, 102.0)],
        );
        averages(&driver);
        pipe(&driver, &[price("BTCUSDT", 30, 104.0)]);
        let mut mended = averages(&driver);
        mended.sort_by_key(|(minute, ..)| *minute);
        assert_eq!(mended, [(0, 104.0, 1), (1, 103.0, 2)]);
    }

    #[test]
    fn a_minute_alerts_once_and_remembers_it_over_a_crash() {
        let driver = driver();
        let alerts = driver.output_topic(ALERTS, string(), json::<VolatilityAlert>());
        pipe(&driver, &[price("BTCUSDT", 0, 100.0), price("BTCUSDT", 1, 100.1)]);
        assert_eq!(alerts.read(), None);
        pipe(&driver, &[price("BTCUSDT", 2, 100.2)]);
        let (symbol, alert) = alerts.read().expect("0.2 % is more than 0.15 %");
        assert_eq!(
            (symbol.as_str(), alert.minute_ms, alert.high),
            ("BTCUSDT", START_MS, 100.2)
        );
        driver.restart().expect("state comes back from the changelogs");
        pipe(
            &driver,
            &[price("BTCUSDT", 3, 101.0), price("BTCUSDT", 60, 100.0)],
        );
        assert_eq!(alerts.read(), None);
        pipe(&driver, &[price("BTCUSDT", 61, 90.0)]);
        assert!(alerts.read().is_some(), "the next minute may alert again");
    }

    #[test]
    fn after_a_crash_a_candle_goes_on_where_it_stood() {
        let driver = driver();
        pipe(
            &driver,
            &[price("BTCUSDT", 0, 100.0), price("BTCUSDT", 20, 105.0)],
        );
        driver.restart().expect("state comes back from the changelogs");
        pipe(&driver, &[price("BTCUSDT", 40, 103.0)]);
        let last = candles(&driver).pop().expect("a candle");
        assert_eq!(
            (last.open, last.high, last.low, last.close, last.ticks),
            (100.0, 105.0, 100.0, 103.0, 3)
        );
    }
}

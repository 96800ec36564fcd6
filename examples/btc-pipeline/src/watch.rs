//! Watches the pipeline from outside, as any other program could: what the screen shows, and how long prices take.
//!
//! The latency of a price is the time from the moment the connector had polled it to the moment this watcher held a
//! candle that contains it: through producer, log, streams task, changelog commit, log again, and consumer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use highwater_client::Client;
use highwater_types::record::Record;
use tokio_util::sync::CancellationToken;

use crate::polled::polled_at_us;
use crate::topics::{self, Offsets, decoded};
use crate::topology::{ALERTS, CANDLES, Candle, PRICES, Price, VolatilityAlert};
use crate::utc;

/// Prices and candles of one symbol that may wait for one another.
const MAX_WAITING: usize = 1_000;
/// What takes longer counts as this: an hour.
const MAX_LATENCY_US: u64 = 3_600_000_000;
const POLL_WAIT: Duration = Duration::from_secs(1);

/// What has been seen since the start of this run.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The latest of each symbol.
    pub(crate) prices: BTreeMap<String, Price>,
    pub(crate) candles: BTreeMap<String, Candle>,
    pub(crate) price_count: u64,
    pub(crate) candle_updates: u64,
    pub(crate) alert_count: u64,
    /// Microseconds from poll to candle.
    pub(crate) latency_us: Histogram<u64>,
    waiting: BTreeMap<String, Waiting>,
}

/// Prices whose candle has not been seen, and candle updates whose prices have not been: two topics have no order.
#[derive(Debug, Default)]
struct Waiting {
    /// Event time and moment of polling.
    prices: VecDeque<(i64, u64)>,
    /// Latest event time inside, and moment of arrival.
    updates: VecDeque<(i64, u64)>,
}

/// Shared by watcher and screen.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<Mutex<Seen>>);

impl Board {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Seen {
            prices: BTreeMap::new(),
            candles: BTreeMap::new(),
            price_count: 0,
            candle_updates: 0,
            alert_count: 0,
            latency_us: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)
                .context("cannot make a histogram")?,
            waiting: BTreeMap::new(),
        }))))
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        // A panic elsewhere leaves numbers for people, at most one record short.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows prices, candles and alerts from `from` on until stopped.
pub(crate) async fn watch(
    client: Client,
    from: Offsets,
    board: Board,
    stop: CancellationToken,
) -> Result<()> {
    let consumer = topics::reader(&client, &from)?;
    while let Some(fetched) = stop.run_until_cancelled(consumer.poll(POLL_WAIT)).await {
        let fetched = fetched?;
        let now_us = utc::now_us();
        let mut seen = board.seen();
        for batch in fetched {
            let topic = batch.topic_partition.topic.as_str();
            batch
                .records
                .iter()
                .for_each(|record| seen.take(topic, record, now_us));
        }
    }
    Ok(())
}

impl Seen {
    fn take(&mut self, topic: &str, record: &Record, now_us: u64) {
        match topic {
            PRICES => {
                if let Some((symbol, price)) = decoded::<Price>(record)
                    && price.counts()
                {
                    self.take_price(symbol, price, polled_at_us(record));
                }
            }
            CANDLES => {
                if let Some((symbol, candle)) = decoded::<Candle>(record) {
                    self.take_candle(symbol, candle, now_us);
                }
            }
            ALERTS => self.alert_count += u64::from(decoded::<VolatilityAlert>(record).is_some()),
            _ => {}
        }
    }

    fn take_price(&mut self, symbol: &str, price: Price, polled_at_us: Option<u64>) {
        self.price_count += 1;
        if let Some(polled_at_us) = polled_at_us {
            let waiting = self.waiting.entry(symbol.to_owned()).or_default();
            let contains_it = |(until_ms, _): &&(i64, u64)| *until_ms >= price.event_time_ms;
            match waiting.updates.iter().find(contains_it) {
                Some((_, seen_us)) => self
                    .latency_us
                    .saturating_record(seen_us.saturating_sub(polled_at_us)),
                None => push_bounded(&mut waiting.prices, (price.event_time_ms, polled_at_us)),
            }
        }
        self.prices.insert(symbol.to_owned(), price);
    }

    fn take_candle(&mut self, symbol: &str, candle: Candle, now_us: u64) {
        self.candle_updates += 1;
        let waiting = self.waiting.entry(symbol.to_owned()).or_default();
        while let Some((_, polled_at_us)) = waiting
            .prices
            .pop_front_if(|(time_ms, _)| *time_ms <= candle.last_event_ms)
        {
            self.latency_us
                .saturating_record(now_us.saturating_sub(polled_at_us));
        }
        push_bounded(&mut waiting.updates, (candle.last_event_ms, now_us));
        let latest = self.candles.entry(symbol.to_owned()).or_default();
        if candle.minute_ms >= latest.minute_ms {
            *latest = candle;
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == MAX_WAITING {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(event_time_ms: i64) -> Price {
        Price {
            kind: "price".to_owned(),
            symbol: "BTCUSDT".to_owned(),
            price: 1.0,
            event_time_ms,
        }
    }

    fn candle(last_event_ms: i64) -> Candle {
        Candle {
            last_event_ms,
            ..Candle::default()
        }
    }

    fn latencies(seen: &Seen) -> Vec<u64> {
        let recorded = seen.latency_us.iter_recorded();
        recorded
            .flat_map(|it| vec![it.value_iterated_to(); it.count_at_value() as usize])
            .collect()
    }

    #[test]
    fn a_price_is_measured_up_to_the_first_candle_that_contains_it() {
        let board = Board::new().expect("a histogram");
        let mut seen = board.seen();
        seen.take_price("BTCUSDT", price(1), Some(100));
        seen.take_price("BTCUSDT", price(2), Some(200));
        seen.take_price("BTCUSDT", price(3), Some(250));
        seen.take_candle("BTCUSDT", candle(2), 300);
        assert_eq!(latencies(&seen), [100, 200]);
        seen.take_candle("BTCUSDT", candle(3), 900);
        assert_eq!(latencies(&seen), [100, 200, 650]);
    }

    #[test]
    fn a_candle_that_is_read_before_its_price_counts_from_its_own_arrival() {
        let board = Board::new().expect("a histogram");
        let mut seen = board.seen();
        seen.take_candle("BTCUSDT", candle(1), 130);
        seen.take_candle("BTCUSDT", candle(2), 500);
        seen.take_price("BTCUSDT", price(1), Some(100));
        assert_eq!(latencies(&seen), [30]);
        assert_eq!(seen.price_count, 1);
    }

    #[test]
    fn prices_of_a_killed_run_are_not_measured() {
        let board = Board::new().expect("a histogram");
        let mut seen = board.seen();
        seen.take_price("BTCUSDT", price(1), None);
        seen.take_candle("BTCUSDT", candle(1), 500);
        assert!(latencies(&seen).is_empty());
    }
}

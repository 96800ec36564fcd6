//! What people see: steps as lines; while the pipeline runs, live prices and candles over a progress bar.
//!
//! On a pipe or in a file the live part becomes a plain line every few seconds, without colours.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::topology::Candle;
use crate::utc;
use crate::watch::{Board, Seen};

const REFRESH: Duration = Duration::from_millis(200);
const PLAIN_REFRESH: Duration = Duration::from_secs(5);

/// The terminal, or what stands in its place.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// `None` where lines cannot be redrawn.
    live: Option<MultiProgress>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let live = std::io::stdout()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { live }
    }

    /// Says a line, above whatever is being redrawn.
    pub(crate) fn say(&self, line: &str) {
        self.above(|| {
            // Nobody listens any more: that is no reason to lose candles.
            let _ = writeln!(std::io::stdout(), "{line}");
        });
    }

    /// Writes to standard error without tearing the live part.
    pub(crate) fn log(&self, text: &[u8]) {
        self.above(|| {
            let _ = std::io::stderr().write_all(text);
        });
    }

    fn above(&self, write: impl FnOnce()) {
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }

    /// Shows the board until `duration` is over; never returns early, so drop it to stop.
    pub(crate) async fn follow(&self, board: &Board, symbols: &[String], duration: Duration) {
        match &self.live {
            Some(live) => follow_live(live, board, symbols, duration).await,
            None => self.follow_plain(board, symbols, duration).await,
        }
    }

    async fn follow_plain(&self, board: &Board, symbols: &[String], duration: Duration) {
        let begin = Instant::now();
        let end = begin + duration;
        while Instant::now() < end {
            tokio::time::sleep_until(end.min(Instant::now() + PLAIN_REFRESH)).await;
            let seen = board.seen();
            let prices = symbols.iter().filter_map(|symbol| {
                let price = seen.prices.get(symbol)?;
                Some(format!("{symbol} {}", price_text(price.price)))
            });
            let prices: Vec<String> = prices.collect();
            let line = format!(
                "  {:>4} s  {}  ({})",
                begin.elapsed().as_secs(),
                prices.join("  "),
                counts(&seen)
            );
            drop(seen);
            self.say(&line);
        }
    }
}

/// Takes its lines away when dropped, whether time was up or the user had enough.
struct Lines {
    symbols: Vec<ProgressBar>,
    progress: ProgressBar,
}

impl Drop for Lines {
    fn drop(&mut self) {
        for line in self.symbols.iter().chain([&self.progress]) {
            line.finish_and_clear();
        }
    }
}

async fn follow_live(live: &MultiProgress, board: &Board, symbols: &[String], duration: Duration) {
    let lines = Lines {
        symbols: symbols
            .iter()
            .map(|symbol| live.add(ProgressBar::new(1)).with_prefix(symbol.clone()))
            .collect(),
        progress: live.add(ProgressBar::new(
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        )),
    };
    let (rising, falling) = (
        style("{prefix:10.bold} {msg:.green}"),
        style("{prefix:10.bold} {msg:.red}"),
    );
    lines.progress.set_style(
        style("{bar:36.cyan/dim} {elapsed} of {len_text}  {msg}").with_key(
            "len_text",
            move |_: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{}s", duration.as_secs());
            },
        ),
    );
    let begin = Instant::now();
    while begin.elapsed() < duration {
        {
            let seen = board.seen();
            for (line, symbol) in lines.symbols.iter().zip(symbols) {
                let candle = seen.candles.get(symbol);
                let falls = candle.is_some_and(|candle| candle.close < candle.open);
                line.set_style(if falls { falling.clone() } else { rising.clone() });
                line.set_message(symbol_text(&seen, symbol, candle));
            }
            lines.progress.set_message(counts(&seen));
        }
        lines
            .progress
            .set_position(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX));
        tokio::time::sleep(REFRESH.min(duration.saturating_sub(begin.elapsed()))).await;
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn symbol_text(seen: &Seen, symbol: &str, candle: Option<&Candle>) -> String {
    let Some(price) = seen.prices.get(symbol) else {
        return "waiting for the first price".to_owned();
    };
    let price = format!("{:>12}", price_text(price.price));
    let Some(candle) = candle else {
        return price;
    };
    let arrow = if candle.close < candle.open { '▼' } else { '▲' };
    format!(
        "{price} {arrow}   {}  open {}  high {}  low {}  close {}  ({} ticks)",
        utc::clock(candle.minute_ms),
        price_text(candle.open),
        price_text(candle.high),
        price_text(candle.low),
        price_text(candle.close),
        candle.ticks
    )
}

fn counts(seen: &Seen) -> String {
    format!(
        "{} prices, {} candle updates, {} alerts",
        grouped(seen.price_count),
        grouped(seen.candle_updates),
        grouped(seen.alert_count)
    )
}

/// A price as exchanges print it: cents, or more digits for what costs little.
pub(crate) fn price_text(price: f64) -> String {
    let decimals = if price >= 10.0 { 2 } else { 5 };
    format!("{price:.decimals$}")
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}

//! Prices as a pure function of seed, symbol and time.
//!
//! The logarithm of the price is a sum of smooth noises whose periods reach from a day down to two seconds,
//! each about as strong as the square root of its period: close to a random walk, yet any moment can be
//! asked for without walking there.

/// Periods of the noises in milliseconds, and their strength in the logarithm of the price.
const OCTAVES: &[(i64, f64)] = &[
    (86_400_000, 0.040),
    (21_600_000, 0.020),
    (3_600_000, 0.0082),
    (900_000, 0.0041),
    (300_000, 0.0024),
    (60_000, 0.0011),
    (15_000, 0.000_5),
    (5_000, 0.000_3),
    (2_000, 0.000_2),
];

/// What a symbol starts from when nothing else is known of it.
const BASE_PRICES: &[(&str, f64)] = &[
    ("BTC", 67_000.0),
    ("ETH", 3_400.0),
    ("SOL", 160.0),
    ("BNB", 590.0),
    ("XRP", 0.6),
    ("ADA", 0.45),
];

/// Open, high, low, close and volume of one bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// First moment of the bar, in milliseconds since the epoch.
    pub open_time_ms: i64,
    /// Last millisecond of the bar.
    pub close_time_ms: i64,
    /// Price at its first second.
    pub open: f64,
    /// Highest price at a whole second.
    pub high: f64,
    /// Lowest price at a whole second.
    pub low: f64,
    /// Price at its last second so far.
    pub close: f64,
    /// Amount traded of the base asset.
    pub volume: f64,
    /// Number of trades.
    pub trades: i64,
}

/// The prices of every symbol, from one seed.
#[derive(Debug, Clone, Copy)]
pub struct PriceProcess {
    seed: u64,
}

impl PriceProcess {
    /// The process that grows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The price of `symbol` at a moment, rounded to the symbol's tick (two decimals from 10 upwards).
    pub fn price(&self, symbol: &str, time_ms: i64) -> f64 {
        let stream = hash(
            self.seed,
            symbol
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |h, b| mix(h ^ u64::from(b))),
        );
        let log: f64 = OCTAVES
            .iter()
            .enumerate()
            .map(|(octave, (period_ms, strength))| {
                strength * smooth_noise(hash(stream, octave as u64), time_ms, *period_ms)
            })
            .sum();
        let price = base_price(symbol) * log.exp();
        let ticks_per_unit = if price >= 10.0 { 100.0 } else { 100_000.0 };
        (price * ticks_per_unit).round() / ticks_per_unit
    }

    /// Amount of the base asset traded in the second that begins at `second_ms`.
    fn volume(&self, symbol: &str, second_ms: i64) -> f64 {
        let noise = unit(hash(
            self.seed ^ 0x5bd1,
            hash(symbol.len() as u64, second_ms as u64),
        ));
        let scale = 20_000.0 / base_price(symbol);
        ((0.1 + noise * noise) * scale * 100_000.0).round() / 100_000.0
    }

    /// The bar that covers `open_time_ms .. open_time_ms + length_ms`, as far as `now_ms`; `None` if it has not begun.
    pub fn bar(&self, symbol: &str, open_time_ms: i64, length_ms: i64, now_ms: i64) -> Option<Bar> {
        if now_ms < open_time_ms {
            return None;
        }
        let end_ms = (open_time_ms + length_ms).min(now_ms + 1);
        let open = self.price(symbol, open_time_ms);
        let mut bar = Bar {
            open_time_ms,
            close_time_ms: open_time_ms + length_ms - 1,
            open,
            high: open,
            low: open,
            close: open,
            volume: 0.0,
            trades: 0,
        };
        // A long bar is sampled: a day holds 86,400 seconds, and a stand-in need not visit each.
        let step_ms = (length_ms / 600).max(1_000);
        let mut second_ms = open_time_ms;
        while second_ms < end_ms {
            let price = self.price(symbol, second_ms);
            bar.high = bar.high.max(price);
            bar.low = bar.low.min(price);
            bar.close = price;
            bar.volume += self.volume(symbol, second_ms) * (step_ms / 1_000) as f64;
            bar.trades += 7 * step_ms / 1_000;
            second_ms += step_ms;
        }
        Some(bar)
    }
}

fn base_price(symbol: &str) -> f64 {
    BASE_PRICES
        .iter()
        .find(|(base, _)| symbol.starts_with(base))
        .map_or(100.0, |(_, price)| *price)
}

/// Noise between -1 and 1 that changes smoothly from one lattice point to the next.
fn smooth_noise(stream: u64, time_ms: i64, period_ms: i64) -> f64 {
    let cell = time_ms.div_euclid(period_ms);
    let within = time_ms.rem_euclid(period_ms) as f64 / period_ms as f64;
    let (left, right) = (lattice(stream, cell), lattice(stream, cell + 1));
    let eased = within * within * (3.0 - 2.0 * within);
    left + (right - left) * eased
}

fn lattice(stream: u64, cell: i64) -> f64 {
    unit(hash(stream, cell as u64)) * 2.0 - 1.0
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn hash(left: u64, right: u64) -> u64 {
    mix(left.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(right.wrapping_add(0x632b_e59b_d9b4_e019)))
}

/// Finaliser with full avalanche, so that neighbouring seconds are unrelated.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 30;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 27;
    bits = bits.wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_700_000_000_000;

    #[test]
    fn the_same_seed_gives_the_same_price_and_another_seed_another() {
        let (one, two) = (PriceProcess::new(7), PriceProcess::new(8));
        assert_eq!(
            one.price("BTCUSDT", NOON_MS),
            PriceProcess::new(7).price("BTCUSDT", NOON_MS)
        );
        assert_ne!(one.price("BTCUSDT", NOON_MS), two.price("BTCUSDT", NOON_MS));
        assert_ne!(one.price("BTCUSDT", NOON_MS), one.price("ETHUSDT", NOON_MS));
    }

    #[test]
    fn prices_move_a_little_in_a_second_and_stay_within_reason_for_a_day() {
        let process = PriceProcess::new(42);
        let mut previous = process.price("BTCUSDT", NOON_MS);
        for second in 1..86_400 {
            let price = process.price("BTCUSDT", NOON_MS + second * 1_000);
            assert!(
                (price / previous - 1.0).abs() < 0.002,
                "{previous} to {price} in one second"
            );
            assert!((50_000.0..90_000.0).contains(&price), "{price}");
            previous = price;
        }
    }

    #[test]
    fn a_bar_spans_the_prices_of_its_seconds() {
        let process = PriceProcess::new(1);
        let bar = process
            .bar("ETHUSDT", NOON_MS, 60_000, NOON_MS + 3_600_000)
            .expect("it has begun");
        let prices: Vec<f64> = (0..60)
            .map(|s| process.price("ETHUSDT", NOON_MS + s * 1_000))
            .collect();
        assert_eq!(bar.open, prices[0]);
        assert_eq!(bar.close, prices[59]);
        assert_eq!(bar.high, prices.iter().copied().fold(f64::MIN, f64::max));
        assert_eq!(bar.low, prices.iter().copied().fold(f64::MAX, f64::min));
        assert!(process.bar("ETHUSDT", NOON_MS, 60_000, NOON_MS - 1).is_none());
    }
}

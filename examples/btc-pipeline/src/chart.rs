//! The picture at the end: one HTML page with candlesticks as inline SVG, no script, nothing loaded from elsewhere.
//!
//! Candles of the pipeline stand full; where the exchange's own klines reach further back they stand pale before
//! them, so that a short run still shows where it belongs. The axis counts candles, not hours: a pause leaves no hole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::screen::price_text;
use crate::topology::MINUTE_MS;
use crate::utc;

/// More candles than this do not fit side by side; the latest are shown.
const MAX_BARS: usize = 120;
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = 78.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;

/// Open, high, low and close of a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    pub(crate) open: f64,
    pub(crate) high: f64,
    pub(crate) low: f64,
    pub(crate) close: f64,
}

/// What is drawn of one symbol. Everything is keyed by the minute's first millisecond.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub(crate) symbol: String,
    pub(crate) candles: BTreeMap<i64, Bar>,
    /// The exchange's own candles, drawn where the pipeline has none.
    pub(crate) klines: BTreeMap<i64, Bar>,
    pub(crate) averages: BTreeMap<i64, f64>,
    pub(crate) alerts: BTreeSet<i64>,
}

/// The page as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Where the prices come from, in a sentence.
    pub(crate) origin: String,
    /// Figures in the head of the page: a name and a value each.
    pub(crate) figures: Vec<(String, String)>,
    pub(crate) series: Vec<Series>,
}

impl Page {
    /// The HTML.
    pub(crate) fn html(&self) -> String {
        let mut body = String::new();
        for (name, value) in &self.figures {
            let _ = write!(
                body,
                "<div><dt>{}</dt><dd>{}</dd></div>",
                escaped(name),
                escaped(value)
            );
        }
        let charts: String = self.series.iter().map(Series::figure).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Highwater: the BTC price pipeline</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
             <header><h1>The BTC price pipeline</h1><p>{origin}</p></header>\n<dl>{body}</dl>\n{LEGEND}\n{charts}\
             <footer>Times are UTC. Point at a candle for its figures.</footer>\n</main>\n</body>\n</html>\n",
            origin = escaped(&self.origin),
        )
    }
}

/// One candle on its place.
struct Placed {
    minute_ms: i64,
    bar: Bar,
    is_kline: bool,
}

/// From prices and places to the drawing's units.
struct Scale {
    lowest: f64,
    highest: f64,
    step: f64,
}

impl Scale {
    fn x(&self, place: usize) -> f64 {
        LEFT + (place as f64 + 0.5) * self.step
    }

    fn y(&self, price: f64) -> f64 {
        let share = (price - self.lowest) / (self.highest - self.lowest);
        HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    }
}

impl Series {
    fn placed(&self) -> Vec<Placed> {
        let minutes: BTreeSet<i64> = self.candles.keys().chain(self.klines.keys()).copied().collect();
        let skipped = minutes.len().saturating_sub(MAX_BARS);
        let minutes = minutes.into_iter().skip(skipped);
        minutes
            .filter_map(|minute_ms| {
                let candle = self.candles.get(&minute_ms);
                Some(Placed {
                    minute_ms,
                    bar: *candle.or_else(|| self.klines.get(&minute_ms))?,
                    is_kline: candle.is_none(),
                })
            })
            .collect()
    }

    fn figure(&self) -> String {
        let placed = self.placed();
        let Some(last) = placed.last() else {
            return format!(
                "<figure><figcaption><b>{}</b> no prices yet</figcaption></figure>\n",
                escaped(&self.symbol)
            );
        };
        let scale = self.scale(&placed);
        let change = (last.bar.close / placed[0].bar.open - 1.0) * 100.0;
        let direction = if change < 0.0 { "down" } else { "up" };
        let mut svg = String::new();
        draw_grid(&mut svg, &placed, &scale);
        self.draw_candles(&mut svg, &placed, &scale);
        self.draw_average(&mut svg, &placed, &scale);
        let y = scale.y(last.bar.close);
        let _ = write!(
            svg,
            "<line class=\"now\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"now\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT + 6.0,
            y + 4.0,
            price_text(last.bar.close),
        );
        format!(
            "<figure><figcaption><b>{symbol}</b> <span>{close}</span> <span class=\"{direction}\">{change:+.2} %</span> \
             <small>{count} minutes from {from}</small></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Candles of {symbol}\">{svg}</svg></figure>\n",
            symbol = escaped(&self.symbol),
            close = price_text(last.bar.close),
            count = placed.len(),
            from = utc::date_and_clock(placed[0].minute_ms),
        )
    }

    fn scale(&self, placed: &[Placed]) -> Scale {
        let averages = placed.iter().filter_map(|it| self.averages.get(&it.minute_ms));
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
        for price in placed
            .iter()
            .flat_map(|it| [&it.bar.low, &it.bar.high])
            .chain(averages)
        {
            lowest = lowest.min(*price);
            highest = highest.max(*price);
        }
        // A price that never moved still gets a middle to stand in.
        let margin = ((highest - lowest) * 0.06).max(highest.abs() * 1e-5);
        Scale {
            lowest: lowest - margin,
            highest: highest + margin,
            step: (WIDTH - LEFT - RIGHT) / placed.len().max(30) as f64,
        }
    }

    fn draw_candles(&self, svg: &mut String, placed: &[Placed], scale: &Scale) {
        let width = (scale.step * 0.68).min(14.0);
        for (
            place,
            Placed {
                minute_ms,
                bar,
                is_kline,
            },
        ) in placed.iter().enumerate()
        {
            let x = scale.x(place);
            let (upper, lower) = (scale.y(bar.open.max(bar.close)), scale.y(bar.open.min(bar.close)));
            let class = match (bar.close < bar.open, is_kline) {
                (false, false) => "up",
                (true, false) => "down",
                (false, true) => "up pale",
                (true, true) => "down pale",
            };
            let _ = write!(
                svg,
                "<g class=\"{class}\"><title>{time}{origin}\nopen {open}\nhigh {high}\nlow {low}\nclose {close}</title>\
                 <path d=\"M{x:.1} {top:.1}V{upper:.1}M{x:.1} {lower:.1}V{foot:.1}\"/>\
                 <rect x=\"{left:.1}\" y=\"{upper:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/></g>",
                time = utc::date_and_clock(*minute_ms),
                origin = if *is_kline { " (the exchange's kline)" } else { "" },
                open = price_text(bar.open),
                high = price_text(bar.high),
                low = price_text(bar.low),
                close = price_text(bar.close),
                top = scale.y(bar.high),
                foot = scale.y(bar.low),
                left = x - width / 2.0,
                height = (lower - upper).max(1.0),
            );
            if self.alerts.contains(minute_ms) {
                let y = scale.y(bar.high) - 5.0;
                let _ = write!(
                    svg,
                    "<path class=\"alert\" d=\"M{x:.1} {y:.1}l-4 -7h8z\"><title>volatility alert at {}</title></path>",
                    utc::clock(*minute_ms)
                );
            }
        }
    }

    fn draw_average(&self, svg: &mut String, placed: &[Placed], scale: &Scale) {
        let mut path = String::new();
        let mut previous_ms = None;
        for (place, it) in placed.iter().enumerate() {
            let Some(average) = self.averages.get(&it.minute_ms) else {
                continue;
            };
            // A line across a pause would claim averages that nobody computed.
            let joins = previous_ms == Some(it.minute_ms - MINUTE_MS);
            let verb = if joins { 'L' } else { 'M' };
            let _ = write!(path, "{verb}{:.1} {:.1}", scale.x(place), scale.y(*average));
            previous_ms = Some(it.minute_ms);
        }
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"average\" d=\"{path}\"/>");
        }
    }
}

fn draw_grid(svg: &mut String, placed: &[Placed], scale: &Scale) {
    let spread = scale.highest - scale.lowest;
    let step = round_step(spread / 8.0);
    let mut price = (scale.lowest / step).ceil() * step;
    while price < scale.highest {
        let y = scale.y(price);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT + 6.0,
            y + 4.0,
            axis_text(price, spread),
        );
        price += step;
    }
    // As many labels as have room, on round minutes.
    let every = [1, 2, 5, 10, 15, 30, 60]
        .into_iter()
        .find(|minutes| *minutes as f64 * scale.step >= 56.0)
        .unwrap_or(60);
    for (place, it) in placed.iter().enumerate() {
        if (it.minute_ms / MINUTE_MS) % every == 0 {
            let x = scale.x(place);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
                 <text class=\"time\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - 8.0,
                utc::clock(it.minute_ms),
            );
        }
    }
}

/// The nearest of 1, 2, 5, 10, 20, ... that is no smaller.
fn round_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let leading = raw / power;
    let leading = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|it| *it >= leading)
        .unwrap_or(10.0);
    leading * power
}

/// A price on the axis, with as many decimals as its neighbours need to be told apart.
fn axis_text(price: f64, spread: f64) -> String {
    let decimals = (2.0 - spread.log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{price:.decimals$}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const LEGEND: &str = "<p class=\"legend\"><span><i class=\"up\"></i>rising minute</span>\
<span><i class=\"down\"></i>falling minute</span><span><i class=\"pale\"></i>the exchange's own kline</span>\
<span><i class=\"average\"></i>average of 5 closes</span><span><i class=\"alert\"></i>volatility alert</span></p>";

const STYLE: &str = "
:root{color-scheme:light dark;--paper:#fbfbf9;--card:#fff;--ink:#1d2329;--faint:#6a737d;--line:#e3e5e8;
--up:#0b8a6f;--down:#c8402f;--average:#3566c9;--alert:#c98a00}
@media(prefers-color-scheme:dark){:root{--paper:#111418;--card:#181c22;--ink:#e4e7eb;--faint:#8b95a1;--line:#2a3038;
--up:#35c3a0;--down:#f0705e;--average:#7aa5ff;--alert:#f0b429}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 20px 40px}
h1{margin:0;font-size:24px}
header p,.legend,footer,small{color:var(--faint)}
header p{margin:2px 0 0}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:20px 0 14px}
dl div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 12px}
dt{color:var(--faint);font-size:13px}
dd{margin:0;font-size:19px;font-variant-numeric:tabular-nums}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 14px;font-size:13px}
.legend i{display:inline-block;width:10px;height:10px;margin-right:6px;border:1.5px solid currentColor;border-radius:1px}
.legend .up{color:var(--up)}.legend .down{color:var(--down);background:var(--down)}
.legend .pale{color:var(--faint);opacity:.5}
.legend .average{color:var(--average);height:0;width:16px;border-width:1px 0;vertical-align:middle}
.legend .alert{color:var(--alert);background:var(--alert);border-radius:50%}
figure{margin:0 0 18px;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px 6px}
figcaption{font-variant-numeric:tabular-nums}
figcaption b{font-size:17px;margin-right:6px}
figcaption .up{color:var(--up)}figcaption .down{color:var(--down)}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--faint);font-size:12px;font-variant-numeric:tabular-nums}
svg text.time{text-anchor:middle}
svg text.now{fill:var(--ink);font-weight:600;stroke:var(--card);stroke-width:4px;paint-order:stroke}
.grid{stroke:var(--line)}
line.now{stroke:var(--faint);stroke-dasharray:2 4}
g.up path,g.up rect{stroke:var(--up);stroke-width:1.3;fill:var(--card)}
g.down path,g.down rect{stroke:var(--down);stroke-width:1.3;fill:var(--down)}
g.pale{opacity:.32}
path.average{fill:none;stroke:var(--average);stroke-width:1.8;stroke-linejoin:round}
path.alert{fill:var(--alert)}
footer{font-size:13px}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(open: f64, close: f64) -> Bar {
        Bar {
            open,
            high: open.max(close) + 1.0,
            low: open.min(close) - 1.0,
            close,
        }
    }

    fn series(minutes: i64) -> Series {
        Series {
            symbol: "BTCUSDT".to_owned(),
            candles: (0..minutes)
                .map(|it| (it * MINUTE_MS, bar(100.0 + it as f64, 101.0)))
                .collect(),
            ..Series::default()
        }
    }

    #[test]
    fn a_page_shows_every_candle_once_and_loads_nothing() {
        let page = Page {
            origin: "a stand-in <not> the exchange".to_owned(),
            figures: vec![("candles".to_owned(), "3".to_owned())],
            series: vec![series(3)],
        };
        let html = page.html();
        assert_eq!(html.matches("<rect ").count(), 3);
        assert!(html.contains("&lt;not&gt;"));
        for outside in ["http", "<script", "url(", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(
            !html.contains("NaN") && !html.contains("inf"),
            "every coordinate is a number"
        );
    }

    #[test]
    fn klines_fill_only_the_minutes_without_candles() {
        let mut series = series(2);
        series.klines = (-2..2).map(|it| (it * MINUTE_MS, bar(100.0, 99.0))).collect();
        let placed = series.placed();
        let pale: Vec<bool> = placed.iter().map(|it| it.is_kline).collect();
        assert_eq!(pale, [true, true, false, false]);
    }

    #[test]
    fn a_long_history_shows_its_end_and_the_average_breaks_at_a_pause() {
        let mut series = series(500);
        assert_eq!(series.placed().len(), MAX_BARS);
        series.averages = [497, 498, 499]
            .into_iter()
            .map(|it| (it * MINUTE_MS, 100.0))
            .collect();
        series.candles.remove(&(498 * MINUTE_MS));
        let figure = series.figure();
        let path = figure.split("class=\"average\" d=\"").nth(1).expect("a line");
        let path = path.split('"').next().expect("its end");
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 0));
    }

    #[test]
    fn a_price_that_never_moves_and_a_symbol_without_prices_are_drawn_too() {
        let still = Series {
            candles: [(
                0,
                Bar {
                    open: 5.0,
                    high: 5.0,
                    low: 5.0,
                    close: 5.0,
                },
            )]
            .into(),
            ..Series::default()
        };
        assert!(!still.figure().contains("NaN"));
        assert!(Series::default().figure().contains("no prices yet"));
    }
}

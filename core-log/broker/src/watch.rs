//! What a person should hear of without looking at a dashboard: one readable line per trouble, said again only
//! after a while.
//!
//! [`Watch::look`] compares what it is shown with what it saw before and answers with the lines to log; it reads
//! nothing itself. The same facts are in the metrics, whose alert rules are finer.
//!
//! Invariant: a trouble that lasts is repeated every [`REPEAT_MS`] and not more often, whatever its cause does.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use highwater_storage::StdDisk;

use crate::broker::Broker;
use crate::log::query::Extent;

/// How often the node is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Silence after a line about the same thing.
const REPEAT_MS: u64 = 10 * 60 * 1000;

/// A group is behind when its lag has only grown over this many looks (five minutes) ...
const GROWING_LOOKS: u32 = 10;

/// ... and is at least this many records.
const LAG_WORTH_A_LINE: i64 = 1000;

/// Room below which a disk is too small, as a share of its size.
const LOW_DISK_SHARE: f64 = 0.10;

/// A disk that will be full within this time at the present pace is too small.
const FULL_SOON_HOURS: f64 = 24.0;

/// What the node looks like at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    /// Monotonic.
    pub(crate) now_ms: u64,
    /// Lag by group and topic.
    pub(crate) lags: BTreeMap<(String, String), i64>,
    /// Free and total bytes of the data directory's file system.
    pub(crate) disk: Option<(u64, u64)>,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Notice {
    Lagging {
        group: String,
        topic: String,
        lag: i64,
        grown: i64,
    },
    LowDisk {
        free_bytes: u64,
        total_bytes: u64,
        hours_left: Option<f64>,
    },
}

#[derive(Debug)]
struct Growth {
    last: i64,
    first: i64,
    looks: u32,
}

/// What was seen before.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    growth: HashMap<(String, String), Growth>,
    first_free: Option<(u64, u64)>,
    said_at_ms: HashMap<String, u64>,
}

impl Watch {
    /// The lines that this moment deserves.
    pub(crate) fn look(&mut self, seen: &Observation) -> Vec<Notice> {
        self.said_at_ms
            .retain(|_, at| seen.now_ms.saturating_sub(*at) < REPEAT_MS);
        let mut notices = self.lagging(seen);
        notices.extend(self.low_disk(seen));
        notices
    }

    fn may_say(&mut self, what: &str, now_ms: u64) -> bool {
        let silent = !self.said_at_ms.contains_key(what);
        if silent {
            self.said_at_ms.insert(what.to_owned(), now_ms);
        }
        silent
    }

    fn lagging(&mut self, seen: &Observation) -> Vec<Notice> {
        self.growth.retain(|key, _| seen.lags.contains_key(key));
        let mut behind = Vec::new();
        for (key, lag) in &seen.lags {
            let growth = self.growth.entry(key.clone()).or_insert(Growth {
                last: *lag,
                first: *lag,
                looks: 0,
            });
            if *lag > growth.last {
                growth.looks += 1;
            } else {
                *growth = Growth {
                    last: *lag,
                    first: *lag,
                    looks: 0,
                };
            }
            growth.last = *lag;
            if growth.looks >= GROWING_LOOKS && *lag >= LAG_WORTH_A_LINE {
                behind.push((key.clone(), *lag, lag - growth.first));
            }
        }
        behind.retain(|((group, topic), ..)| self.may_say(&format!("lag {group} {topic}"), seen.now_ms));
        let notice = |((group, topic), lag, grown)| Notice::Lagging {
            group,
            topic,
            lag,
            grown,
        };
        behind.into_iter().map(notice).collect()
    }

    fn low_disk(&mut self, seen: &Observation) -> Option<Notice> {
        let (free_bytes, total_bytes) = seen.disk?;
        let (first_ms, first_free) = *self.first_free.get_or_insert((seen.now_ms, free_bytes));
        let hours = seen.now_ms.saturating_sub(first_ms) as f64 / 3_600_000.0;
        let used = first_free.saturating_sub(free_bytes) as f64;
        // A pace needs a while to be one.
        let hours_left = (hours > 0.25 && used > 0.0).then(|| free_bytes as f64 * hours / used);
        let is_low = (free_bytes as f64) < total_bytes as f64 * LOW_DISK_SHARE;
        let is_full_soon = hours_left.is_some_and(|left| left < FULL_SOON_HOURS);
        if (is_low || is_full_soon) && self.may_say("disk", seen.now_ms) {
            return Some(Notice::LowDisk {
                free_bytes,
                total_bytes,
                hours_left,
            });
        }
        None
    }
}

/// Looks at the node until it stops.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut watch = Watch::default();
    let start = tokio::time::Instant::now() + LOOK_EVERY;
    let mut ticks = tokio::time::interval_at(start, LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = broker.stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seen = Arc::clone(&broker);
        let Ok(seen) = tokio::task::spawn_blocking(move || observe(&seen)).await else {
            return;
        };
        watch.look(&seen).iter().for_each(say);
    }
}

fn observe(broker: &Broker) -> Observation {
    let space = StdDisk::shared().space(&broker.data_dir).ok();
    Observation {
        now_ms: broker.clock.monotonic_ms(),
        lags: lags(broker),
        disk: space.map(|space| (space.free_bytes, space.total_bytes)),
    }
}

/// Records between each group's committed offsets and the ends, by group and topic.
fn lags(broker: &Broker) -> BTreeMap<(String, String), i64> {
    let end = |topic: &str, partition: i32| {
        let found = broker.partitions.find(topic, partition).ok()?;
        found.extent().ok().map(|extent: Extent| extent.high_watermark)
    };
    let mut commits = Vec::new();
    broker.groups.for_each_shard(|shard| {
        for (group_id, group) in shard.durable().groups() {
            for (topic, partitions) in group.offsets() {
                for (partition, committed) in partitions {
                    let key = (group_id.to_string(), topic.to_string());
                    commits.push((key, *partition, committed.offset));
                }
            }
        }
    });
    let mut lags = BTreeMap::new();
    for (key, partition, offset) in commits {
        let lag = end(&key.1, partition.get()).map_or(0, |end| end.distance_from(offset).max(0));
        let sum: &mut i64 = lags.entry(key).or_default();
        *sum = sum.saturating_add(lag);
    }
    lags
}

fn say(notice: &Notice) {
    match notice {
        Notice::Lagging {
            group,
            topic,
            lag,
            grown,
        } => {
            tracing::warn!(
                group,
                topic,
                lag,
                grown,
                "a consumer group falls further and further behind"
            );
        }
        Notice::LowDisk {
            free_bytes,
            total_bytes,
            hours_left,
        } => {
            let hours_left = hours_left.map_or_else(|| "unknown".to_owned(), |hours| format!("{hours:.0}"));
            tracing::warn!(
                free_bytes,
                total_bytes,
                hours_left,
                "the disk of the data directory is nearly full; free some room, shorten retention or enlarge it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK_MS: u64 = 30_000;

    fn seen(look: u64) -> Observation {
        Observation {
            now_ms: look * LOOK_MS,
            ..Observation::default()
        }
    }

    fn with_lag(look: u64, lag: i64) -> Observation {
        let key = ("billing".to_owned(), "orders".to_owned());
        Observation {
            lags: BTreeMap::from([(key, lag)]),
            ..seen(look)
        }
    }

    #[test]
    fn a_group_that_only_falls_behind_is_named_once_in_ten_minutes() {
        let mut watch = Watch::default();
        let notices: Vec<usize> = (0..60)
            .map(|look| watch.look(&with_lag(look, 2000 + look as i64)).len())
            .collect();
        let said: Vec<usize> = (0..60).filter(|look| notices[*look] > 0).collect();
        assert_eq!(said, [10, 30, 50]);
    }

    #[test]
    fn a_group_that_catches_up_now_and_then_is_not_behind() {
        let mut watch = Watch::default();
        for look in 0..100 {
            let lag = 5000 + (look % 7) * 100;
            assert_eq!(watch.look(&with_lag(look as u64, lag)), [], "look {look}");
        }
    }

    #[test]
    fn a_disk_is_named_when_little_is_left_or_little_time() {
        let disk = |look, free| Observation {
            disk: Some((free, 1000)),
            ..seen(look)
        };
        let mut watch = Watch::default();
        assert_eq!(watch.look(&disk(0, 500)), []);
        // 400 of 1000 in half an hour: the rest lasts a few minutes.
        let notices = watch.look(&disk(60, 100));
        let [
            Notice::LowDisk {
                hours_left: Some(hours),
                ..
            },
        ] = notices[..]
        else {
            panic!("{notices:?}")
        };
        assert!((hours - 0.125).abs() < 0.001, "{hours}");
        let mut small = Watch::default();
        assert_eq!(small.look(&disk(0, 99)).len(), 1);
    }
}

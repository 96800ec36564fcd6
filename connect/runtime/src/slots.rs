//! Which slot runs which task.
//!
//! A slot is a partition of an internal topic; the worker that the group gives the partition to runs the slot's
//! tasks. The planner chooses slots when it plans a connector and writes them into the config log, because a choice
//! derived from the log's history would differ between a reader of the full log and one of the compacted log.
//!
//! # Invariants
//! - The same loads give the same slots; a task's slot changes only with its connector's plan.
//! - Any few slots taken in [`order`] lie evenly among the first and last half, and among the even and odd slots:
//!   group assignors hand out partitions in contiguous or alternating shares.

use std::collections::BTreeMap;

/// Slots in the order in which equally loaded ones are chosen: steps of about the golden ratio.
pub(crate) fn order(slot_count: u32) -> impl Iterator<Item = u32> {
    let step = golden_step(slot_count);
    (0..u64::from(slot_count)).map(move |i| {
        let slot = i * u64::from(step) % u64::from(slot_count);
        u32::try_from(slot).unwrap_or(0) // below slot_count
    })
}

fn golden_step(slot_count: u32) -> u32 {
    let golden = (f64::from(slot_count) * 0.618_034).round();
    let near = |step: &u32| (f64::from(*step) - golden).abs();
    (1..=slot_count.max(1))
        .filter(|step| greatest_common_divisor(*step, slot_count) == 1)
        .min_by(|a, b| near(a).total_cmp(&near(b)))
        .unwrap_or(1)
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// The least loaded slots for `tasks` more tasks, given how many tasks each slot has.
pub(crate) fn choose(slot_count: u32, loads: &BTreeMap<u32, usize>, tasks: usize) -> Vec<u32> {
    let mut loads: Vec<(u32, usize)> = order(slot_count)
        .map(|slot| (slot, loads.get(&slot).copied().unwrap_or(0)))
        .collect();
    let mut chosen = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        // min_by_key takes the first of equals, so the order decides.
        if let Some((slot, load)) = loads.iter_mut().min_by_key(|(_, load)| *load) {
            *load += 1;
            chosen.push(*slot);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_used_once_before_any_is_used_twice() {
        for slot_count in [1, 2, 3, 7, 64, 100] {
            let mut slots: Vec<u32> = choose(
                slot_count,
                &BTreeMap::new(),
                usize::try_from(slot_count).expect("small"),
            );
            slots.sort_unstable();
            assert_eq!(slots, (0..slot_count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn few_tasks_spread_over_two_workers_however_slots_are_shared() {
        let slots = choose(64, &BTreeMap::new(), 8);
        let lower_half = slots.iter().filter(|slot| **slot < 32).count();
        let even = slots.iter().filter(|slot| **slot % 2 == 0).count();
        assert!(
            (3..=5).contains(&lower_half) && (3..=5).contains(&even),
            "{slots:?}"
        );
    }

    #[test]
    fn loaded_slots_are_passed_over() {
        let loads = BTreeMap::from([(0, 1), (1, 1), (3, 2)]);
        assert_eq!(choose(4, &loads, 1), [2]);
        assert_eq!(choose(4, &loads, 4).len(), 4);
        assert!(!choose(4, &loads, 4).contains(&3));
    }
}

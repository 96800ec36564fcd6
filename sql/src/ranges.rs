//! Sets of integers as sorted ranges: what a filter on an offset, a partition or a timestamp lets through.
//!
//! # Invariants
//! - Ranges are closed, sorted, disjoint and not adjacent, so that equal sets are equal values.
//!
//! ```text
//! x >= 5 AND x < 9 OR x = 20   ->   5..=8, 20..=20
//! ```

use std::{fmt, ops::RangeInclusive};

/// A set of 64-bit integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<RangeInclusive<i64>>);

impl Ranges {
    pub(crate) fn all() -> Self {
        Self(vec![i64::MIN..=i64::MAX])
    }

    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// From `start` to `end`, both included; nothing when they are the wrong way round.
    pub(crate) fn between(start: i64, end: i64) -> Self {
        if start > end {
            Self::none()
        } else {
            Self(vec![start..=end])
        }
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::all()
    }

    pub(crate) fn contains(&self, value: i64) -> bool {
        match self.0.as_slice() {
            [] => false,
            [only] => only.contains(&value),
            many => {
                let at = many.partition_point(|range| *range.end() < value);
                many.get(at).is_some_and(|range| range.contains(&value))
            }
        }
    }

    pub(crate) fn min(&self) -> Option<i64> {
        self.0.first().map(|range| *range.start())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RangeInclusive<i64>> {
        self.0.iter()
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        all.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<i64>> = Vec::with_capacity(all.len());
        for range in all {
            match merged.last_mut() {
                // Adjacent ranges merge too; at the top of the numbers there is no next one to be adjacent to.
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=(*last.end()).max(*range.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }

    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut common = Vec::new();
        for a in &self.0 {
            for b in &other.0 {
                let (start, end) = ((*a.start()).max(*b.start()), (*a.end()).min(*b.end()));
                if start <= end {
                    common.push(start..=end);
                }
            }
        }
        Self(common)
    }

    pub(crate) fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(i64::MIN);
        for range in &self.0 {
            if let Some(from) = next
                && from < *range.start()
            {
                gaps.push(from..=*range.start() - 1);
            }
            next = range.end().checked_add(1);
        }
        if let Some(from) = next {
            gaps.push(from..=i64::MAX);
        }
        Self(gaps)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match (*range.start(), *range.end()) {
                (start, end) if start == end => write!(f, "{start}")?,
                (i64::MIN, i64::MAX) => f.write_str("any")?,
                (i64::MIN, end) => write!(f, "..={end}")?,
                (start, i64::MAX) => write!(f, "{start}..")?,
                (start, end) => write!(f, "{start}..={end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_operations_agree_with_membership_of_every_small_number() {
        let sets = [
            Ranges::none(),
            Ranges::all(),
            Ranges::between(2, 4),
            Ranges::between(5, 5),
            Ranges::between(0, 1).union(&Ranges::between(6, i64::MAX)),
            Ranges::between(i64::MIN, 3).union(&Ranges::between(5, 6)),
        ];
        for a in &sets {
            for b in &sets {
                for x in [i64::MIN, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, i64::MAX] {
                    assert_eq!(
                        a.union(b).contains(x),
                        a.contains(x) || b.contains(x),
                        "{a} | {b} at {x}"
                    );
                    assert_eq!(
                        a.intersect(b).contains(x),
                        a.contains(x) && b.contains(x),
                        "{a} & {b} at {x}"
                    );
                    assert_eq!(a.complement().contains(x), !a.contains(x), "!{a} at {x}");
                }
                assert_eq!(a.union(b), b.union(a));
                assert_eq!(a.intersect(b), b.intersect(a));
            }
            assert_eq!(a.complement().complement(), *a);
        }
    }

    #[test]
    fn adjacent_ranges_become_one() {
        let set = Ranges::between(1, 2)
            .union(&Ranges::between(5, 9))
            .union(&Ranges::between(3, 4));
        assert_eq!(set.to_string(), "1..=9");
        assert_eq!(Ranges::between(7, 7).complement().to_string(), "..=6, 8..");
    }
}

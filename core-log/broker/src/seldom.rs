//! What happens often once it happens, put into words seldom.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counts events of one kind and says when a log line about them is due.
#[derive(Debug)]
pub(crate) struct Seldom {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    unsaid: u64,
    due_ms: u64,
}

impl Seldom {
    /// At most one line per `interval`; the first event deserves one at once.
    pub(crate) const fn every(interval: Duration) -> Self {
        Seldom {
            interval,
            state: Mutex::new(State { unsaid: 0, due_ms: 0 }),
        }
    }

    /// Notes an event. When a line is due: the number of events since the last line, this one included.
    pub(crate) fn note(&self, now_ms: u64) -> Option<u64> {
        // The state is whole after every statement that can panic.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unsaid += 1;
        if now_ms < state.due_ms {
            return None;
        }
        state.due_ms = now_ms.saturating_add(self.interval.as_millis() as u64);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_into_words_once_per_interval_with_their_number() {
        let refusals = Seldom::every(Duration::from_secs(10));
        assert_eq!(refusals.note(5), Some(1));
        for at_ms in 6..1_006 {
            assert_eq!(refusals.note(at_ms), None);
        }
        assert_eq!(refusals.note(10_005), Some(1_001));
        assert_eq!(refusals.note(10_006), None);
    }
}

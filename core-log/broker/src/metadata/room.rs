//! Waiting for room: a full disk is no reason for the metadata quorum to stop.
//!
//! What a full disk refuses is undone or can be done over, so it is tried again until there is room. Until then
//! changes are refused, and what is under way is finished when there is room. A disk that fails otherwise is another
//! matter (METAQ-3).

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::MetadataError;

/// How long after a refusal the disk is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Who waits for room, and whether it is still worth waiting. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    shared: Arc<Shared>,
    /// Whether the log waits, and with it every change.
    log_waits: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: Mutex<bool>,
    over: Condvar,
}

/// Whose work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Of the log or the vote: nothing is committed while it waits.
    Log,
    /// A snapshot, behind everything else.
    Snapshot,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
            log_waits: watch::Sender::new(false),
        }
    }

    /// Does `work` until the disk has room for it. Blocking. The work has to leave things so that it can be done over.
    pub(super) fn patiently<T>(
        &self,
        whose: Work,
        mut work: impl FnMut() -> Result<T, MetadataError>,
    ) -> Result<T, MetadataError> {
        let mut is_waiting = false;
        loop {
            let done = work();
            let lacks_room = done.as_ref().is_err_and(MetadataError::is_for_want_of_room);
            if lacks_room && !is_waiting {
                tracing::error!(
                    ?whose,
                    error = done.as_ref().err().map(ToString::to_string),
                    "the disk is full: metadata changes wait until there is room"
                );
            }
            if whose == Work::Log && lacks_room != is_waiting {
                self.log_waits.send_replace(lacks_room);
            }
            if is_waiting && !lacks_room {
                tracing::info!(?whose, "metadata changes go on");
            }
            is_waiting = lacks_room;
            if !lacks_room || self.is_over_within(PAUSE) {
                return done;
            }
        }
    }

    /// Nobody waits from here on.
    pub(super) fn over(&self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.over.notify_all();
    }

    /// Returns as soon as the log waits for room.
    pub(super) async fn lacking(&self) {
        let mut log_waits = self.log_waits.subscribe();
        if log_waits.wait_for(|waits| *waits).await.is_err() {
            // Whoever asks holds the other end.
            std::future::pending().await
        }
    }

    fn is_over_within(&self, pause: Duration) -> bool {
        let is_over = self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .shared
            .over
            .wait_timeout_while(is_over, pause, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

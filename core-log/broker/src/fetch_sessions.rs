//! Incremental fetch sessions (KIP-227, semantic 48): a client names its partitions once, later requests and answers
//! carry only what changed.
//!
//! A session is taken out of the cache while a fetch of it is in work and put back with the answer; a fetch that ends
//! any other way (its connection broke) takes the session with it. A session belongs to the connection that used it
//! last and ends with that connection: unlike Kafka, nothing of a client that has gone waits for its eviction.
//!
//! Bounds: sessions of a node (`max.incremental.fetch.session.cache.slots`), sessions of a connection, partitions of
//! all sessions together. Who gets no session is answered with id 0 and goes on with full fetches.
//!
//! Invariants: ids are random, above 0 and never in use twice at a time; an epoch is accepted once.

mod partitions;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_types::Uuid;
use highwater_wire::ErrorCode;
pub(crate) use partitions::{PartitionKey, SessionPartitions, TopicKey, Wanted};

use crate::limits::{
    FETCH_SESSION_MIN_EVICTION_MS, MAX_FETCH_SESSION_PARTITIONS, MAX_FETCH_SESSIONS_PER_CONNECTION,
};

/// The id that means "no session".
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a full fetch that wants a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a full fetch that wants none.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// The epoch a client sends after `epoch`: 1 follows the largest, 0 is for new sessions only.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// The sessions of a node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    max_sessions: usize,
    next_owner: AtomicU64,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Session>,
    /// Partitions of all sessions.
    partitions: usize,
}

#[derive(Debug)]
struct Session {
    owner: u64,
    created_ms: u64,
    last_used_ms: u64,
    /// The epoch the next request must carry.
    epoch: i32,
    uses_topic_ids: bool,
    size: usize,
    /// Out while a fetch is in work.
    partitions: Option<SessionPartitions>,
}

/// How many sessions there are, for gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionCounts {
    pub(crate) sessions: usize,
    pub(crate) partitions: usize,
}

/// One connection, or one door in this process. Its sessions end with it.
#[derive(Debug)]
pub(crate) struct SessionOwner {
    id: u64,
    sessions: Arc<FetchSessions>,
}

impl Drop for SessionOwner {
    fn drop(&mut self) {
        let mut cache = self.sessions.lock();
        let gone: Vec<i32> = cache.owned_by(self.id).map(|(id, _)| id).collect();
        for id in gone {
            cache.remove(id);
        }
    }
}

/// The part of a request that names a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) uses_topic_ids: bool,
}

impl FetchSessions {
    pub(crate) fn new(max_sessions: usize) -> Arc<Self> {
        Arc::new(FetchSessions {
            max_sessions,
            next_owner: AtomicU64::new(0),
            cache: Mutex::default(),
        })
    }

    /// Someone who may hold sessions.
    pub(crate) fn owner(self: &Arc<Self>) -> Arc<SessionOwner> {
        Arc::new(SessionOwner {
            id: self.next_owner.fetch_add(1, Ordering::Relaxed),
            sessions: Arc::clone(self),
        })
    }

    pub(crate) fn counts(&self) -> SessionCounts {
        let cache = self.lock();
        SessionCounts {
            sessions: cache.sessions.len(),
            partitions: cache.partitions,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Every change is complete before anything can panic; at worst a count is off until the next change.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionOwner {
    /// Ends a session, if there is one of this id.
    pub(crate) fn close(&self, id: i32) {
        if id != NO_SESSION {
            self.sessions.lock().remove(id);
        }
    }

    /// A new session over `partitions`; [`NO_SESSION`] when there is no room.
    pub(crate) fn create(&self, uses_topic_ids: bool, partitions: SessionPartitions, now_ms: u64) -> i32 {
        let size = partitions.len();
        let mut cache = self.sessions.lock();
        if size == 0 || size > MAX_FETCH_SESSION_PARTITIONS {
            return NO_SESSION;
        }
        cache.limit_owner(self.id);
        while cache.sessions.len() >= self.sessions.max_sessions
            || cache.partitions + size > MAX_FETCH_SESSION_PARTITIONS
        {
            if !cache.evict_for(size, now_ms) {
                return NO_SESSION;
            }
        }
        let id = cache.unused_id();
        cache.partitions += size;
        cache.sessions.insert(
            id,
            Session {
                owner: self.id,
                created_ms: now_ms,
                last_used_ms: now_ms,
                epoch: next_epoch(INITIAL_EPOCH),
                uses_topic_ids,
                size,
                partitions: Some(partitions),
            },
        );
        id
    }

    /// Takes a session out for one fetch.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    pub(crate) fn resume(&self, request: SessionRequest, now_ms: u64) -> Result<Resumed, ErrorCode> {
        let mut cache = self.sessions.lock();
        let session = cache
            .sessions
            .get_mut(&request.id)
            .ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != request.epoch || session.partitions.is_none() {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let partitions = session
            .partitions
            .take()
            .ok_or(ErrorCode::InvalidFetchSessionEpoch)?;
        session.owner = self.id;
        session.last_used_ms = now_ms;
        session.epoch = next_epoch(session.epoch);
        Ok(Resumed {
            id: request.id,
            sessions: Arc::clone(&self.sessions),
            partitions,
            is_kept: false,
        })
    }
}

/// A session while one fetch of it is in work. Dropping it ends the session; [`Resumed::keep`] puts it back.
#[derive(Debug)]
#[must_use = "dropping it ends the session"]
pub(crate) struct Resumed {
    pub(crate) id: i32,
    pub(crate) partitions: SessionPartitions,
    sessions: Arc<FetchSessions>,
    is_kept: bool,
}

impl Resumed {
    /// Accounts for partitions that came and went.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND when the node remembers too many partitions already: the session is over, and
    /// the client goes on with full fetches.
    pub(crate) fn resized(&self) -> Result<(), ErrorCode> {
        let size = self.partitions.len();
        let mut cache = self.sessions.lock();
        let others = cache.partitions - cache.sessions.get(&self.id).map_or(0, |session| session.size);
        if others + size > MAX_FETCH_SESSION_PARTITIONS {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if let Some(session) = cache.sessions.get_mut(&self.id) {
            session.size = size;
            cache.partitions = others + size;
        }
        Ok(())
    }

    /// Puts the session back for the next request.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
        let partitions = std::mem::take(&mut self.partitions);
        let mut cache = self.sessions.lock();
        // It may have been closed or evicted meanwhile.
        if let Some(session) = cache.sessions.get_mut(&self.id) {
            session.partitions = Some(partitions);
        }
    }
}

impl Drop for Resumed {
    fn drop(&mut self) {
        if !self.is_kept {
            self.sessions.lock().remove(self.id);
        }
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.size;
        }
    }

    fn owned_by(&self, owner: u64) -> impl Iterator<Item = (i32, &Session)> {
        let owned = self
            .sessions
            .iter()
            .filter(move |(_, session)| session.owner == owner);
        owned.map(|(id, session)| (*id, session))
    }

    /// Makes room for one more session of `owner`: the one it used longest ago goes.
    fn limit_owner(&mut self, owner: u64) {
        if self.owned_by(owner).count() < MAX_FETCH_SESSIONS_PER_CONNECTION {
            return;
        }
        let oldest = self
            .owned_by(owner)
            .min_by_key(|(_, session)| session.last_used_ms);
        if let Some((id, _)) = oldest {
            self.remove(id);
        }
    }

    /// Kafka's rule: the session unused for longest goes if it is stale; otherwise the smallest of those that have
    /// lived long enough, if it is smaller than the new one.
    fn evict_for(&mut self, size: usize, now_ms: u64) -> bool {
        let is_old = |since_ms: u64| now_ms.saturating_sub(since_ms) > FETCH_SESSION_MIN_EVICTION_MS;
        let sessions = || self.sessions.iter();
        let stale = sessions()
            .min_by_key(|(id, session)| (session.last_used_ms, **id))
            .filter(|(_, session)| is_old(session.last_used_ms));
        let small = || {
            sessions()
                .filter(|(_, session)| is_old(session.created_ms))
                .min_by_key(|(id, session)| (session.size, **id))
                .filter(|(_, session)| session.size < size)
        };
        let Some(id) = stale.or_else(small).map(|(id, _)| *id) else {
            return false;
        };
        self.remove(id);
        metrics::counter!("highwater_broker_fetch_sessions_evicted_total").increment(1);
        true
    }

    fn unused_id(&self) -> i32 {
        loop {
            let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
            // The first four bytes of a version 4 id are random throughout.
            let id = i32::from_be_bytes([a, b, c, d]) & i32::MAX;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The metadata quorum: one Raft group that decides the order of metadata records, and the image they add up to.
//!
//! Everything a broker does on metadata goes through [`MetadataQuorum`]; Raft itself stays behind it (D4). A change is
//! decided on the latest image by a pure function of `highwater-cluster`, proposed, committed, and replayed; only then
//! is it true, and only then is it told. A proposal that no longer fits the image it is replayed onto is refused as a
//! whole, on every node alike, and [`decide`] makes the decision anew.
//!
//! Refuses: starting on the files of another broker, or on files that are damaged anywhere but in the unfinished end of
//! the log.
//!
//! # Invariants
//! - METAQ-1: what [`MetadataQuorum::propose`] has answered is on disk; a crash at any point keeps it.
//! - METAQ-2: images appear in the order of their versions and hold committed records only.
//! - METAQ-3: after a failed write nothing more is written: the group stops, and proposals fail until a restart. A full
//!   disk is no failure: the group waits for room, and refuses proposals meanwhile.
//!
//! One voter today; files, terms and votes are those of a quorum already.

mod files;
mod identity;
pub(crate) mod inspect;
mod log_store;
mod network;
mod raft_types;
mod room;
mod state_machine;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use highwater_cluster::{MetadataImage, MetadataRecord, decide as decisions};
use highwater_storage::Disk;
use highwater_types::BrokerId;
use openraft::{
    Config, Raft, SnapshotPolicy,
    error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError},
};
use tokio::sync::{Mutex, watch};

use self::{
    files::MetadataDir,
    identity::Identity,
    log_store::LogStore,
    network::NoPeers,
    raft_types::{Applied, Proposal, TypeConfig},
    room::Room,
    state_machine::StateMachine,
};

/// The group that decides about metadata, as the rest of the broker sees it.
pub(crate) trait MetadataQuorum: Send + Sync + fmt::Debug {
    /// Commits records as one step and waits until they are part of [`MetadataQuorum::image`]; answers the version of
    /// the image that first holds them.
    fn propose(&self, records: Vec<MetadataRecord>) -> BoxFuture<'_, Result<u64, ProposeError>>;

    /// The latest image, and word of every later one.
    fn image(&self) -> watch::Receiver<Arc<MetadataImage>>;

    /// An image that holds everything committed before the call: what a read that must not be stale begins with.
    fn linearizable(&self) -> BoxFuture<'_, Result<Arc<MetadataImage>, ProposeError>>;

    /// Who votes and how far they are, as this node knows it.
    fn status(&self) -> QuorumStatus;

    /// Held by whoever decides, so that decisions of this process do not race each other.
    fn turn(&self) -> &Mutex<()>;

    /// Waits until the group has ended without being told to, and says why. Safe to drop and call again.
    fn failed(&self) -> BoxFuture<'_, String>;

    /// Stops taking part. Proposals fail from here on.
    fn stop(&self) -> BoxFuture<'_, ()>;
}

/// The state of the quorum at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QuorumStatus {
    /// The broker whose node decides, if one does.
    pub(crate) leader: Option<BrokerId>,
    /// Counts leaders.
    pub(crate) term: u64,
    /// The index after the last entry that is committed and applied.
    pub(crate) committed_index: u64,
    /// The voters.
    pub(crate) voters: Vec<VoterStatus>,
}

/// One voter of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VoterStatus {
    /// The broker whose node votes.
    pub(crate) broker_id: BrokerId,
    /// The index after the last entry of its log.
    pub(crate) end_index: u64,
    /// Whether it decides at present.
    pub(crate) is_leader: bool,
}

/// Why records were not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The records do not follow the latest image; decide anew.
    #[error("the metadata has moved on: {reason}")]
    Refused {
        /// What replay said.
        reason: String,
    },
    /// Another node decides at present, or none does. Retriable.
    #[error("this node does not lead the metadata quorum; {}", leader_hint(*leader))]
    NotLeader {
        /// The node that does, if known.
        leader: Option<u64>,
    },
    /// The disk is full. What was proposed may still be committed once there is room. Retriable.
    #[error("the disk of the metadata is full; the change may be made once there is room")]
    NoRoom,
    /// The group has stopped, because the node stops or because its disk failed.
    #[error("the metadata quorum has stopped: {reason}")]
    Stopped {
        /// What Raft said.
        reason: String,
    },
}

fn leader_hint(leader: Option<u64>) -> String {
    leader.map_or("no leader is known".to_owned(), |leader| {
        format!("quorum node {leader} does")
    })
}

/// Why [`decide`] did not change anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecideError<E> {
    /// The decision itself.
    #[error(transparent)]
    Decision(E),
    /// The quorum.
    #[error(transparent)]
    Quorum(ProposeError),
}

/// How often a decision is made anew when other nodes' decisions keep coming first.
const MAX_DECISIONS: usize = 5;

/// Decides on the latest image, commits the records, and answers what was decided along with them. Without records
/// nothing is proposed.
///
/// The decision may run several times, each time on a newer image; it must be pure.
pub(crate) async fn decide<T, E>(
    quorum: &dyn MetadataQuorum,
    mut decision: impl FnMut(&MetadataImage) -> Result<(T, Vec<MetadataRecord>), E>,
) -> Result<T, DecideError<E>> {
    let _turn = quorum.turn().lock().await;
    let mut attempt = 1;
    loop {
        let image = Arc::clone(&quorum.image().borrow());
        let (answer, records) = decision(&image).map_err(DecideError::Decision)?;
        if records.is_empty() {
            return Ok(answer);
        }
        match quorum.propose(records).await {
            Ok(_) => return Ok(answer),
            Err(ProposeError::Refused { reason }) if attempt < MAX_DECISIONS => {
                tracing::debug!(attempt, reason, "metadata moved on during a decision");
                attempt += 1;
            }
            Err(error) => return Err(DecideError::Quorum(error)),
        }
    }
}

/// Why the metadata of a node could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The disk refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content of a file is not what was written.
    #[error("{} is damaged at byte {position}: {problem}; restore the metadata directory from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The directory was written by a broker of another id.
    #[error("{} belongs to broker {found}, not to broker {configured}; point the node at its own directory", path.display())]
    WrongBroker {
        /// The directory.
        path: PathBuf,
        /// The broker it belongs to.
        found: i32,
        /// The broker that was started.
        configured: i32,
    },
    /// The files are of a newer version.
    #[error("{what} is at level {found}, this build knows {known}; start a newer build")]
    TooNew {
        /// What has the level.
        what: &'static str,
        /// The level found.
        found: i16,
        /// The highest level known.
        known: i16,
    },
    /// The group did not come up.
    #[error("the metadata quorum did not start: {reason}")]
    Raft {
        /// What Raft said.
        reason: String,
    },
}

/// What a node needs to open its metadata.
#[derive(Debug, Clone)]
pub(crate) struct MetadataConfig {
    /// The door to files.
    pub(crate) disk: Arc<dyn Disk>,
    /// The node's data directory; metadata lives in `metadata` below it.
    pub(crate) data_dir: PathBuf,
    /// The broker of this node.
    pub(crate) broker_id: BrokerId,
}

/// Entries of the Raft log between two snapshots. Small: entries are kept in memory until a snapshot covers them.
const ENTRIES_PER_SNAPSHOT: u64 = 1_000;

/// Entries kept behind a snapshot, for followers that are a little late.
const ENTRIES_KEPT: u64 = 200;

/// A quorum on openraft with files of our own.
pub(crate) struct RaftQuorum {
    raft: Raft<TypeConfig>,
    room: Room,
    raft_id: u64,
    broker_id: BrokerId,
    image: watch::Receiver<Arc<MetadataImage>>,
    turn: Mutex<()>,
}

impl fmt::Debug for RaftQuorum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.image.borrow().version();
        formatter
            .debug_struct("RaftQuorum")
            .field("version", &version)
            .finish_non_exhaustive()
    }
}

impl MetadataError {
    /// Whether a write was undone because the disk is full.
    fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if room::is_full(source))
    }
}

impl RaftQuorum {
    /// Opens the metadata of a node, or creates it. When this returns, the node leads its quorum, the image is the
    /// latest, and the cluster has an id.
    pub(crate) async fn start(config: MetadataConfig) -> Result<Self, MetadataError> {
        let MetadataConfig {
            disk,
            data_dir,
            broker_id,
        } = config;
        let opened = tokio::task::spawn_blocking(move || open_files(disk, data_dir, broker_id));
        let Opened {
            identity,
            log_store,
            state_machine,
            room,
        } = opened.await.map_err(raft_error)??;
        let image = state_machine.image();
        let raft_id = identity.raft_id;
        let raft = Raft::new(
            raft_id,
            Arc::new(raft_config()?),
            NoPeers,
            log_store,
            state_machine,
        );
        let raft = raft.await.map_err(raft_error)?;
        let quorum = Self {
            raft,
            room,
            raft_id,
            broker_id,
            image,
            turn: Mutex::new(()),
        };
        if let Err(error) = quorum.bring_up(raft_id).await {
            quorum.stop().await;
            return Err(error);
        }
        Ok(quorum)
    }

    async fn bring_up(&self, raft_id: u64) -> Result<(), MetadataError> {
        if !self.raft.is_initialized().await.map_err(raft_error)? {
            let voters = std::collections::BTreeSet::from([raft_id]);
            self.raft.initialize(voters).await.map_err(raft_error)?;
        } else if self.raft.current_leader().await.is_none() {
            // A crash between a vote and its confirmation: do not wait for the timeout, nobody else can win.
            self.raft.trigger().elect().await.map_err(raft_error)?;
        }
        let wait = self.raft.wait(Some(START_TIMEOUT));
        wait.current_leader(raft_id, "the only voter leads")
            .await
            .map_err(raft_error)?;
        let image = self.linearizable().await.map_err(raft_error)?;
        let level = image
            .features()
            .get("metadata.version")
            .copied()
            .unwrap_or(decisions::METADATA_VERSION);
        if level > decisions::METADATA_VERSION {
            let known = decisions::METADATA_VERSION;
            return Err(MetadataError::TooNew {
                what: "feature metadata.version",
                found: level,
                known,
            });
        }
        let fresh = identity::fresh_cluster_id();
        let named = decide(self, |image| {
            Ok::<_, ProposeError>(((), decisions::bootstrap(image, &fresh)))
        });
        named.await.map_err(raft_error)
    }
}

/// How long the only voter may take to lead; it needs a few syncs.
const START_TIMEOUT: Duration = Duration::from_secs(30);

struct Opened {
    identity: Identity,
    log_store: LogStore,
    state_machine: StateMachine,
    room: Room,
}

fn open_files(disk: Arc<dyn Disk>, data_dir: PathBuf, broker_id: BrokerId) -> Result<Opened, MetadataError> {
    let dir = MetadataDir::open(disk, data_dir.join("metadata"))?;
    let identity = Identity::load_or_create(&dir, broker_id)?;
    let room = dir.room().clone();
    let log_store = LogStore::open(dir.clone())?;
    let state_machine = StateMachine::open(dir)?;
    Ok(Opened {
        identity,
        log_store,
        state_machine,
        room,
    })
}

/// Timeouts suit voters that sync to shared disks; with a single voter they never run out.
fn raft_config() -> Result<Config, MetadataError> {
    let config = Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..Config::default()
    };
    config.validate().map_err(raft_error)
}

fn raft_error(error: impl fmt::Display) -> MetadataError {
    MetadataError::Raft {
        reason: error.to_string(),
    }
}

impl MetadataQuorum for RaftQuorum {
    fn propose(&self, records: Vec<MetadataRecord>) -> BoxFuture<'_, Result<u64, ProposeError>> {
        Box::pin(async move {
            let write = self.raft.client_write(Proposal { records });
            let written = tokio::select! {
                biased;
                // Asked first: proposals would pile up in front of a log that waits.
                () = self.room.lacking() => return Err(ProposeError::NoRoom),
                written = write => written,
            };
            let written = written.map_err(|error| match error {
                RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                    ProposeError::NotLeader { leader: to.leader_id }
                }
                other => ProposeError::Stopped {
                    reason: other.to_string(),
                },
            })?;
            match written.data {
                Applied::Version(version) => Ok(version),
                Applied::Refused { reason } => Err(ProposeError::Refused { reason }),
            }
        })
    }

    fn image(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    fn linearizable(&self) -> BoxFuture<'_, Result<Arc<MetadataImage>, ProposeError>> {
        Box::pin(async move {
            self.raft
                .ensure_linearizable()
                .await
                .map_err(|error| match error {
                    RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)) => {
                        ProposeError::NotLeader { leader: to.leader_id }
                    }
                    RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => {
                        ProposeError::NotLeader { leader: None }
                    }
                    RaftError::Fatal(fatal) => ProposeError::Stopped {
                        reason: fatal.to_string(),
                    },
                })?;
            Ok(Arc::clone(&self.image.borrow()))
        })
    }

    fn status(&self) -> QuorumStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        // Indexes count entries from 0; the end of a log is the index that comes next.
        let end_index = metrics.last_log_index.map_or(0, |index| index + 1);
        let is_leader = metrics.current_leader == Some(self.raft_id);
        // The only voter is this node.
        let voter = VoterStatus {
            broker_id: self.broker_id,
            end_index,
            is_leader,
        };
        QuorumStatus {
            leader: is_leader.then_some(self.broker_id),
            term: metrics.current_term,
            committed_index: metrics.last_applied.map_or(0, |id| id.index + 1),
            voters: vec![voter],
        }
    }

    fn turn(&self) -> &Mutex<()> {
        &self.turn
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(async move {
            let mut metrics = self.raft.metrics();
            let ended = metrics.wait_for(|metrics| {
                let state = &metrics.running_state;
                state
                    .as_ref()
                    .is_err_and(|fatal| !matches!(fatal, Fatal::Stopped))
            });
            let reason = match ended.await {
                Ok(metrics) => metrics.running_state.as_ref().err().map(ToString::to_string),
                Err(_) => None,
            };
            match reason {
                Some(reason) => reason,
                // Stopped as it was told to.
                None => std::future::pending().await,
            }
        })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.room.over();
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "the metadata quorum did not stop cleanly");
            }
        })
    }
}

#[cfg(test)]
mod tests;

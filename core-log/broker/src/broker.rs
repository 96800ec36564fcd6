//! What all handlers of a node share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytestring::ByteString;
use highwater_cluster::{BrokerProperties, BrokerSettings, ConfigView, MetadataImage};
use highwater_types::BrokerId;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::auth::Security;
use crate::clock::Clock;
use crate::fetch_sessions::FetchSessions;
use crate::groups::{GroupHost, OFFSETS_TOPIC};
use crate::limits::Limits;
use crate::log::space::SpaceGuard;
use crate::log::table::PartitionTable;
use crate::log_levels::LogLevels;
use crate::metadata::MetadataQuorum;
use crate::net::send_buffer::SendBuffers;
use crate::producer_ids::ProducerIds;
use crate::quotas::Quotas;
use crate::seldom::Seldom;
use crate::telemetry::Telemetry;

/// Where clients of one listener find a broker, as answers carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) id: BrokerId,
    pub(crate) host: ByteString,
    pub(crate) port: i32,
    pub(crate) rack: Option<ByteString>,
}

/// The shared state of a node.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) node_id: BrokerId,
    pub(crate) data_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) properties: BrokerProperties,
    /// The settings as they were at the start; those that change at run time are read from the image.
    pub(crate) settings: BrokerSettings,
    pub(crate) clock: Clock,
    pub(crate) metadata: Arc<dyn MetadataQuorum>,
    pub(crate) latest: watch::Receiver<Arc<MetadataImage>>,
    pub(crate) partitions: PartitionTable,
    /// Held while logs and groups are brought in line with the metadata.
    pub(crate) reconciling: Mutex<()>,
    pub(crate) fetch_sessions: Arc<FetchSessions>,
    /// Wakes the cleaner before its rest is over: a setting may have changed.
    pub(crate) cleaner_wake: tokio::sync::Notify,
    /// Room on the disk.
    pub(crate) space: SpaceGuard,
    pub(crate) groups: GroupHost,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) quotas: Quotas,
    pub(crate) request_memory: Arc<Semaphore>,
    /// Memory for requests of clients that have not logged in.
    pub(crate) login_memory: Arc<Semaphore>,
    /// What protects the listeners.
    pub(crate) security: Security,
    pub(crate) response_memory: Arc<Semaphore>,
    /// Places for stretches of files that are to be sent.
    pub(crate) sent_files: Arc<Semaphore>,
    pub(crate) send_buffers: SendBuffers,
    /// Requests that access rules did not allow.
    pub(crate) denials: Seldom,
    /// TLS connections that did not come about.
    pub(crate) failed_handshakes: Seldom,
    pub(crate) telemetry: Telemetry,
    pub(crate) log_levels: Option<Arc<dyn LogLevels>>,
    /// How long opening all logs took, once they are open.
    pub(crate) recovery_took: OnceLock<Duration>,
    /// Wakes everything that waits: long polls, joins, timers.
    pub(crate) stopping: CancellationToken,
}

impl Broker {
    /// The latest metadata.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.latest.borrow())
    }

    /// Configs as this broker sees them in `image`.
    pub(crate) fn configs<'a>(&'a self, image: &'a MetadataImage) -> ConfigView<'a> {
        ConfigView {
            image,
            broker_id: self.node_id,
            properties: &self.properties,
        }
    }

    /// The brokers as clients of `listener` reach them; those of an unknown listener (sessions in this
    /// process) are told the first address.
    pub(crate) fn addresses(&self, image: &MetadataImage, listener: &str) -> Vec<Address> {
        let brokers = image.brokers().iter();
        brokers
            .filter_map(|(id, broker)| {
                let endpoint = broker.endpoint(listener).or_else(|| broker.endpoints.first())?;
                Some(Address {
                    id: *id,
                    host: endpoint.host.as_str().into(),
                    port: i32::from(endpoint.port),
                    rack: broker.rack.as_deref().map(ByteString::from),
                })
            })
            .collect()
    }

    /// Partitions of the topic that holds the groups; 0 while it does not exist.
    pub(crate) fn offsets_partitions(&self) -> i32 {
        self.image()
            .topic(OFFSETS_TOPIC)
            .map_or(0, |topic| topic.partition_count())
    }

    /// Brings logs and groups in line with the latest metadata. Blocks on the disk; concurrent calls
    /// take turns: who comes second must not go on, and answer that a topic is gone, before the first has done all of
    /// it. What is then made anew under the name would be forgotten with the old.
    pub(crate) fn reconcile(&self) {
        let _turn = self.reconciling.lock().unwrap_or_else(PoisonError::into_inner);
        let image = self.image();
        self.quotas.update(image.client_quotas());
        let gone = self.partitions.reconcile(&image, &self.configs(&image));
        self.groups.reconcile(&self.partitions.led_of(OFFSETS_TOPIC));
        self.cleaner_wake.notify_one();
        if !gone.is_empty() {
            self.groups.forget_topics(&gone);
        }
    }

    /// Opens logs for which the disk had no room, if it may have by now. Blocks on the disk; needs a runtime.
    pub(crate) fn reopen(&self) {
        let image = self.partitions.applied();
        let free_bytes = self.space.free_bytes();
        if self.partitions.reopen(&image, &self.configs(&image), free_bytes) {
            self.groups.reconcile(&self.partitions.led_of(OFFSETS_TOPIC));
            self.cleaner_wake.notify_one();
        }
    }

    /// [`Broker::reconcile`] away from the threads that serve requests.
    pub(crate) async fn reconcile_in_background(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || broker.reconcile()).await {
            tracing::error!(%error, "applying metadata to the logs failed");
        }
    }

    /// Writes down where logs start, after DeleteRecords moved some.
    pub(crate) async fn checkpoint_log_starts(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        // A join error means that the runtime ends; shutdown writes the checkpoints too.
        let _ = tokio::task::spawn_blocking(move || broker.partitions.checkpoint_log_starts()).await;
    }
}

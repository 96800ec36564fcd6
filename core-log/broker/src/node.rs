//! A node: everything a broker is made of, started and stopped as one.
//!
//! Start: settings are checked, ports are bound, the data directory is locked, the metadata quorum comes up,
//! the broker registers, logs are opened, and only then connections are accepted. Stop is the reverse: no
//! new connections, what is in work is finished, logs are made durable, the clean-shutdown marker is left.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use highwater_cluster::decide::{BrokerRegistration, register_broker};
use highwater_cluster::{BrokerProperties, BrokerSettings, ConfigView, EndpointRecord, MetadataImage};
use highwater_coordinator::{AssignorKind, GroupConfig};
use highwater_storage::{
    CorruptionPolicy, DataDir, DataDirOptions, Disk, DiskFailure, FailStopDisk, MetaProperties, NodeSecret,
    StorageError,
};
use highwater_types::{BrokerId, Uuid};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::auth::{self, Security, SecurityByListener};
use crate::authorizer::DENIAL_LOG_INTERVAL;
use crate::background;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::exposition::Exposition;
use crate::fetch_sessions::FetchSessions;
use crate::gauges;
use crate::groups::GroupHost;
use crate::limits::{FLUSH_THREADS, LOGIN_MEMORY_BYTES, Limits, MAX_SENT_FILES, SendBufferLimit};
use crate::log::space::SpaceGuard;
use crate::log::table::{PartitionTable, TableOptions};
use crate::metadata::{self, DecideError, MetadataConfig, MetadataQuorum, RaftQuorum};
use crate::net::congestion::Congestion;
use crate::net::connection::HANDSHAKE_LOG_INTERVAL;
use crate::net::listener::{Acceptor, ConnectionCount};
use crate::net::send_buffer::SendBuffers;
use crate::producer_ids::ProducerIds;
use crate::quotas::Quotas;
use crate::seldom::Seldom;
use crate::session::{Session, SessionInfo};
use crate::telemetry::Telemetry;

/// What brokers without a listener register, since an address is needed to name them. Only sessions in this
/// process ever see it.
const IN_PROCESS: &str = "in-process";
const IN_PROCESS_PORT: u16 = 9092;

/// A running broker.
#[derive(Debug)]
pub struct Node {
    broker: Arc<Broker>,
    listeners: Vec<(String, SocketAddr)>,
    broker_epoch: i64,
    disk: WatchedDisk,
    /// Ends accepting and idle connections.
    draining: CancellationToken,
    connections: TaskTracker,
    background: TaskTracker,
    /// A node that is dropped instead of shut down serves no more, like one whose process was killed.
    _ends_with_the_node: [DropGuard; 2],
}

struct Bound {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
    endpoint: EndpointRecord,
}

impl Node {
    /// Starts a node. When this returns, it serves.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running then.
    pub async fn start(config: NodeConfig) -> Result<Node, NodeError> {
        let properties = BrokerProperties::new(config.properties.clone())?;
        let bound = bind(&config).await?;
        let clock = Clock::new();
        let disk = WatchedDisk::new(&config);
        let data_dir = open_data_dir(Arc::clone(&disk.disk), &config.data_dir).await?;
        let quorum_config = MetadataConfig {
            disk: Arc::clone(&disk.disk),
            data_dir: config.data_dir.clone(),
            broker_id: config.node_id,
        };
        let quorum: Arc<dyn MetadataQuorum> = Arc::new(RaftQuorum::start(quorum_config).await?);
        let endpoints = bound.iter().map(|bound| bound.endpoint.clone()).collect();
        let served = serve(
            &config,
            properties,
            clock,
            Opened {
                data_dir,
                disk: Arc::clone(&disk.disk),
            },
            Arc::clone(&quorum),
            endpoints,
        )
        .await;
        let (broker, broker_epoch) = match served {
            Ok(served) => served,
            Err(error) => {
                quorum.stop().await;
                return Err(error);
            }
        };
        let draining = CancellationToken::new();
        let mut node = Node {
            _ends_with_the_node: [
                draining.clone().drop_guard(),
                broker.stopping.clone().drop_guard(),
            ],
            broker,
            listeners: Vec::new(),
            broker_epoch,
            disk,
            draining,
            connections: TaskTracker::new(),
            background: TaskTracker::new(),
        };
        background::start(&node.broker, &node.background);
        node.accept(bound);
        tracing::info!(node = %config.node_id, listeners = ?node.listeners, "node serves");
        Ok(node)
    }

    fn accept(&mut self, bound: Vec<Bound>) {
        let connections = Arc::<ConnectionCount>::default();
        for Bound {
            name,
            listener,
            address,
            ..
        } in bound
        {
            let acceptor = Acceptor {
                broker: Arc::clone(&self.broker),
                security: self.broker.security.of(&name),
                congestion: Congestion::of(&listener),
                listener,
                listener_name: name.as_str().into(),
                connections: Arc::clone(&connections),
                tasks: self.connections.clone(),
                draining: self.draining.clone(),
            };
            self.connections.spawn(acceptor.run());
            self.listeners.push((name, address));
        }
    }

    /// Where a listener is bound; tells the port that port 0 became.
    pub fn listener_addr(&self, name: &str) -> Option<SocketAddr> {
        self.listeners
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, address)| *address)
    }

    /// A door for callers in this process.
    pub fn session(&self, info: SessionInfo) -> Session {
        Session::new(Arc::clone(&self.broker), info)
    }

    /// What the handlers share.
    #[cfg(test)]
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The broker's id.
    pub fn node_id(&self) -> BrokerId {
        self.broker.node_id
    }

    /// The latest metadata.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.broker.image()
    }

    /// Writes what Prometheus is shown of the state of this moment: kafka_exporter's families and the node's own.
    /// Everything that is counted as it happens goes through the `metrics` facade instead.
    pub fn write_metrics(&self, out: &mut Exposition) {
        gauges::record(&self.broker, out);
    }

    /// Whether the node has begun to stop, or has stopped.
    pub fn is_stopping(&self) -> bool {
        self.broker.stopping.is_cancelled()
    }

    /// Why the node should not be sent traffic, one sentence per reason; empty when all is well.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.broker.stopping.is_cancelled() {
            troubles.push("the node is stopping".to_owned());
        }
        troubles.extend(self.disk.failure().map(|failure| failure.to_string()));
        troubles.extend(self.broker.space.trouble());
        let waiting = self.broker.partitions.waiting_count();
        if waiting > 0 {
            troubles.push(format!(
                "{waiting} partitions could not be opened for want of room on the disk; they are once there is room"
            ));
        }
        let failed = self.broker.partitions.failed_count().saturating_sub(waiting);
        if failed > 0 {
            troubles.push(format!("{failed} partitions cannot be used; the log says why"));
        }
        let all = self.broker.partitions.all();
        let fenced = all.iter().filter(|partition| partition.is_fenced()).count();
        if fenced > 0 && self.disk.failure().is_none() {
            troubles.push(format!(
                "{fenced} partitions take no records until the node restarts; the log says why"
            ));
        }
        troubles
    }

    /// Waits until the disk or the metadata quorum fails and says how. The node takes no more writes or changes then
    /// and should be stopped; until it is, reading goes on. Safe to drop and call again.
    pub async fn failed(&self) -> NodeError {
        tokio::select! {
            biased;
            // The quorum's failure may be the disk's.
            failed = self.disk.failed() => failed,
            reason = self.broker.metadata.failed() => NodeError::MetadataStopped { reason },
        }
    }

    /// Stops: finishes what is in work, makes every log durable, leaves the clean-shutdown marker.
    ///
    /// # Errors
    /// [`NodeError`] when logs or checkpoints could not be written; the next start recovers then.
    pub async fn shutdown(self) -> Result<(), NodeError> {
        let Node {
            broker,
            draining,
            connections,
            background,
            broker_epoch,
            ..
        } = self;
        draining.cancel();
        broker.stopping.cancel();
        connections.close();
        if timeout(broker.limits.drain_timeout, connections.wait())
            .await
            .is_err()
        {
            let open = connections.len();
            tracing::info!(open, "closing connections that did not finish in time");
        }
        background.close();
        background.wait().await;
        broker.groups.stopped().await;
        let closing = Arc::clone(&broker);
        let closed = tokio::task::spawn_blocking(move || closing.partitions.close(Some(broker_epoch))).await;
        broker.metadata.stop().await;
        let closed = closed.map_err(|_| NodeError::Interrupted)?;
        closed.map_err(|source| NodeError::Storage {
            path: broker.data_dir.clone(),
            source,
        })?;
        tracing::info!(node = %broker.node_id, "node stopped");
        Ok(())
    }
}

async fn bind(config: &NodeConfig) -> Result<Vec<Bound>, NodeError> {
    let mut bound: Vec<Bound> = Vec::new();
    for listener_config in &config.listeners {
        let name = listener_config.name.clone();
        if bound.iter().any(|other| other.name == name) {
            return Err(NodeError::DuplicateListener { listener: name });
        }
        let refused = |source| NodeError::Bind {
            listener: name.clone(),
            address: listener_config.bind,
            source,
        };
        let listener = TcpListener::bind(listener_config.bind).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (host, port) = listener_config.advertised_at(address);
        let endpoint = EndpointRecord {
            listener: name.clone(),
            host,
            port,
        };
        bound.push(Bound {
            name,
            listener,
            address,
            endpoint,
        });
    }
    Ok(bound)
}

/// The node's disk, and the news that it has failed.
#[derive(Debug)]
struct WatchedDisk {
    data_dir: PathBuf,
    disk: Arc<dyn Disk>,
    failure: watch::Receiver<Option<DiskFailure>>,
}

impl WatchedDisk {
    fn new(config: &NodeConfig) -> Self {
        let (tell, failure) = watch::channel(None);
        let path = config.data_dir.clone();
        metrics::gauge!("highwater_disk_failed").set(0.0);
        let on_failure = move |failure: &DiskFailure| {
            metrics::gauge!("highwater_disk_failed").set(1.0);
            tracing::error!(path = %path.display(), %failure,
                "the data directory failed: nothing is written any more; check the disk and start again");
            tell.send_replace(Some(failure.clone()));
        };
        WatchedDisk {
            data_dir: config.data_dir.clone(),
            disk: Arc::new(FailStopDisk::new(Arc::clone(&config.disk), on_failure)),
            failure,
        }
    }

    /// What has failed, if anything has.
    fn failure(&self) -> Option<NodeError> {
        let failure = self.failure.borrow().clone()?;
        let path = self.data_dir.clone();
        Some(NodeError::DiskFailed { path, failure })
    }

    async fn failed(&self) -> NodeError {
        let mut failure = self.failure.clone();
        let path = self.data_dir.clone();
        let failed = failure.wait_for(Option::is_some).await;
        match failed.as_deref() {
            Ok(Some(failure)) => NodeError::DiskFailed {
                path,
                failure: failure.clone(),
            },
            // The disk lives as long as the one who could tell of it.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// The data directory, locked, and the disk it lies on.
struct Opened {
    data_dir: DataDir,
    disk: Arc<dyn Disk>,
}

async fn open_data_dir(disk: Arc<dyn Disk>, path: &Path) -> Result<DataDir, NodeError> {
    let owned = path.to_path_buf();
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let opened = tokio::task::spawn_blocking(move || DataDir::open(disk, owned, options)).await;
    opened
        .map_err(|_| NodeError::Interrupted)?
        .map_err(|source| storage_error(path, source))
}

fn storage_error(path: &Path, source: StorageError) -> NodeError {
    NodeError::Storage {
        path: path.to_path_buf(),
        source,
    }
}

/// Puts the broker together on a quorum that is up, registers it and opens its logs.
async fn serve(
    config: &NodeConfig,
    properties: BrokerProperties,
    clock: Clock,
    opened: Opened,
    quorum: Arc<dyn MetadataQuorum>,
    endpoints: Vec<EndpointRecord>,
) -> Result<(Arc<Broker>, i64), NodeError> {
    let broker_epoch = register(&*quorum, config.node_id, endpoints).await?;
    let latest = quorum.image();
    let groups_latest = latest.clone();
    let image = Arc::clone(&latest.borrow());
    let Opened { data_dir, disk } = opened;
    identify(&data_dir, config, &image)?;
    let secret = secret(&data_dir, config)?;
    let view = ConfigView {
        image: &image,
        broker_id: config.node_id,
        properties: &properties,
    };
    let settings = view.broker_settings()?;
    let security = SecurityByListener::new(&config.listeners, &view, settings.security.clone())?;
    let limits = limits(config, &properties, &settings);
    let table = TableOptions {
        node_id: config.node_id,
        threads: usize::try_from(settings.num_recovery_threads_per_data_dir)
            .unwrap_or(1)
            .max(1),
        flush_threads: FLUSH_THREADS,
    };
    let fetch_session_slots =
        usize::try_from(settings.max_incremental_fetch_session_cache_slots).unwrap_or(usize::MAX);
    let space = SpaceGuard::new(disk, config.data_dir.clone(), settings.highwater_min_free_bytes);
    let stopping = CancellationToken::new();
    let telemetry = Telemetry::new();
    let broker = Arc::new(Broker {
        node_id: config.node_id,
        data_dir: config.data_dir.clone(),
        request_memory: Arc::new(Semaphore::new(limits.request_memory_bytes)),
        login_memory: Arc::new(Semaphore::new(LOGIN_MEMORY_BYTES)),
        security: protect(config, security, secret).await?,
        response_memory: Arc::new(Semaphore::new(limits.response_memory_bytes)),
        sent_files: Arc::new(Semaphore::new(MAX_SENT_FILES)),
        send_buffers: SendBuffers::new(limits.send_buffer),
        limits,
        properties,
        clock,
        metadata: quorum,
        latest,
        partitions: PartitionTable::new(data_dir, table, clock).map_err(NodeError::Thread)?,
        reconciling: Mutex::new(()),
        space,
        fetch_sessions: FetchSessions::new(fetch_session_slots),
        cleaner_wake: tokio::sync::Notify::new(),
        groups: GroupHost::new(group_config(&settings), clock, groups_latest, stopping.clone()),
        producer_ids: ProducerIds::default(),
        quotas: Quotas::new(&settings),
        denials: Seldom::every(DENIAL_LOG_INTERVAL),
        failed_handshakes: Seldom::every(HANDSHAKE_LOG_INTERVAL),
        telemetry,
        log_levels: config.log_levels.clone(),
        recovery_took: OnceLock::new(),
        settings,
        stopping,
    });
    let opening = clock.instant();
    broker.reconcile_in_background().await;
    let took = clock.instant() - opening;
    let _ = broker.recovery_took.set(took);
    tracing::info!(
        partitions = broker.partitions.all().len(),
        failed = broker.partitions.failed_count(),
        took_ms = took.as_millis() as u64,
        "logs are open"
    );
    broker.partitions.report_strays(&image);
    Ok((broker, broker_epoch))
}

async fn register(
    quorum: &dyn MetadataQuorum,
    broker_id: BrokerId,
    mut endpoints: Vec<EndpointRecord>,
) -> Result<i64, NodeError> {
    if endpoints.is_empty() {
        let (listener, host) = (IN_PROCESS.to_owned(), IN_PROCESS.to_owned());
        endpoints.push(EndpointRecord {
            listener,
            host,
            port: IN_PROCESS_PORT,
        });
    }
    let registration = BrokerRegistration {
        broker_id,
        incarnation_id: Uuid::new_v4(),
        endpoints,
        rack: None,
    };
    let decided = metadata::decide(quorum, |image| register_broker(image, &registration)).await;
    decided.map_err(|error| match error {
        DecideError::Decision(error) => NodeError::Registration(error),
        DecideError::Quorum(error) => NodeError::Quorum(error),
    })
}

/// Reads what the listeners are protected with.
async fn protect(
    config: &NodeConfig,
    settings: SecurityByListener,
    secret: NodeSecret,
) -> Result<Security, NodeError> {
    let listeners = config.listeners.clone();
    let reading = tokio::task::spawn_blocking(move || Security::new(&listeners, &settings, &secret));
    Ok(reading.await.map_err(|_| NodeError::Interrupted)??)
}

/// What only this node knows. A node that nobody logs in to needs no secret on disk.
fn secret(data_dir: &DataDir, config: &NodeConfig) -> Result<NodeSecret, NodeError> {
    let fresh = auth::new_secret()?;
    if !config
        .listeners
        .iter()
        .any(|listener| listener.protocol.has_sasl())
    {
        return Ok(fresh);
    }
    data_dir
        .node_secret(fresh)
        .map_err(|source| storage_error(&config.data_dir, source))
}

/// Compares the directory with who starts here, and signs a new one.
fn identify(data_dir: &DataDir, config: &NodeConfig, image: &MetadataImage) -> Result<(), NodeError> {
    let path = &config.data_dir;
    let (cluster_id, node_id) = (image.cluster_id().unwrap_or_default(), config.node_id.get());
    let known = data_dir
        .meta_properties()
        .map_err(|source| storage_error(path, source))?;
    match known {
        Some(meta) if meta.cluster_id == cluster_id && meta.node_id == node_id => Ok(()),
        Some(meta) => Err(NodeError::WrongDirectory {
            path: path.clone(),
            found: format!("node {} of cluster {}", meta.node_id, meta.cluster_id),
            expected: format!("node {node_id} of cluster {cluster_id}"),
        }),
        None => {
            let directory_id = Uuid::new_v4();
            let meta = MetaProperties {
                cluster_id: cluster_id.to_owned(),
                node_id,
                directory_id,
            };
            data_dir
                .write_meta_properties(&meta)
                .map_err(|source| storage_error(path, source))
        }
    }
}

/// The limits given, where a property does not say otherwise. Those of connections are asked for when one comes.
fn limits(config: &NodeConfig, properties: &BrokerProperties, settings: &BrokerSettings) -> Limits {
    let mut limits = config.limits.clone();
    if properties.get("socket.request.max.bytes").is_some() {
        limits.max_frame_bytes = usize::try_from(settings.socket_request_max_bytes).unwrap_or(usize::MAX);
    }
    if properties.get("socket.send.buffer.bytes").is_some() {
        limits.send_buffer = match settings.socket_send_buffer_bytes {
            Some(bytes) => SendBufferLimit::Fixed(bytes),
            None => SendBufferLimit::System,
        };
    }
    if let Some(bytes) = settings.queued_max_request_bytes {
        limits.request_memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if properties.get("connections.max.idle.ms").is_some() {
        let idle_ms = settings
            .connections_max_idle_ms
            .and_then(|ms| u64::try_from(ms).ok());
        limits.idle_timeout = std::time::Duration::from_millis(idle_ms.unwrap_or(NEVER_MS));
    }
    limits.checked()
}

/// What "no idle timeout" becomes: ten years.
const NEVER_MS: u64 = 10 * 365 * 24 * 3_600_000;

fn group_config(settings: &BrokerSettings) -> GroupConfig {
    let defaults = GroupConfig::default();
    let max_group_size = usize::try_from(settings.group_max_size).unwrap_or(usize::MAX);
    let mut assignors: Vec<AssignorKind> = settings
        .group_consumer_assignors
        .iter()
        .filter_map(|name| AssignorKind::from_name(name))
        .collect();
    if assignors.is_empty() {
        assignors = defaults.consumer_assignors.clone();
    }
    GroupConfig {
        min_session_timeout_ms: settings.group_min_session_timeout_ms,
        max_session_timeout_ms: settings.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: u64::from(settings.group_initial_rebalance_delay_ms),
        max_group_size: max_group_size.min(defaults.max_group_size),
        offset_metadata_max_units: usize::try_from(settings.offset_metadata_max_bytes).unwrap_or(0),
        offsets_retention_ms: settings.offsets_retention_ms,
        offsets_retention_check_interval_ms: u64::try_from(settings.offsets_retention_check_interval_ms)
            .unwrap_or(defaults.offsets_retention_check_interval_ms),
        consumer_session_timeout_ms: u64::from(settings.group_consumer_session_timeout_ms),
        consumer_heartbeat_interval_ms: settings.group_consumer_heartbeat_interval_ms,
        consumer_session_timeout_bounds_ms: u64::from(settings.group_consumer_min_session_timeout_ms)
            ..=u64::from(settings.group_consumer_max_session_timeout_ms),
        consumer_heartbeat_interval_bounds_ms: settings.group_consumer_min_heartbeat_interval_ms
            ..=settings.group_consumer_max_heartbeat_interval_ms,
        consumer_max_group_size: usize::try_from(settings.group_consumer_max_size)
            .unwrap_or(usize::MAX)
            .min(defaults.consumer_max_group_size),
        consumer_assignors: assignors,
        // The registry lets no other word through.
        migration_policy: settings
            .group_consumer_migration_policy
            .parse()
            .unwrap_or_default(),
        ..defaults
    }
}

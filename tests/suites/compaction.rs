//! Compaction while a node is killed and stopped: the last value of every key stays, what is deleted stays so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, Delivery, IsolationLevel, OffsetSpec,
    ProducerConfig, ProducerRecord, admin::NewTopic,
};
use highwater_types::record::{Header, Record};
use highwater_types::{Bytes, Offset, PartitionId, TopicName, TopicPartition};
use tokio::sync::{mpsc, watch};

use crate::support::Dev;

const KEYS: u64 = 300;
/// The header that numbers every record, tombstones too.
const NUMBER: &str = "number";
/// How long anything that must happen may take on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: usize = 5;

/// Small segments, cleaned as soon as anything is dirty, slowly enough to be met in the middle.
const OFTEN_AND_SLOWLY: [&str; 4] = [
    "--set",
    "log.cleaner.backoff.ms=10",
    "--set",
    "log.cleaner.io.max.bytes.per.second=6000000",
];

fn compacted(topic: &TopicName) -> NewTopic {
    let mut new = NewTopic::new(topic.clone(), 1);
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        // A tombstone may go as soon as it has been cleaned once: what it deleted must be gone by then.
        ("delete.retention.ms", "0"),
    ];
    new.configs = configs.map(|(name, value)| (name.into(), value.into())).into();
    new
}

/// What a record does to its key; nine write a value, the tenth deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Write {
    number: u64,
    is_tombstone: bool,
}

impl Write {
    /// The first 20 keys are written in the first thousand records only, so that old values must last.
    fn numbered(number: u64) -> (u64, Write) {
        let key = match number {
            0..1_000 => number % KEYS,
            // A step that has no divisor in common with the number of keys that go on.
            _ => 20 + number.wrapping_mul(17) % (KEYS - 20),
        };
        let is_tombstone = number % 10 == 9;
        (key, Write { number, is_tombstone })
    }

    fn record(self, key: u64, topic: &TopicName) -> ProducerRecord {
        let value = (!self.is_tombstone).then(|| Bytes::from(format!("{:0>200}", self.number)));
        ProducerRecord {
            partition: Some(PartitionId::new(0)),
            key: Some(format!("key-{key}").into()),
            value,
            headers: vec![Header::new(NUMBER, Some(Bytes::from(self.number.to_string())))],
            ..ProducerRecord::new(topic.clone(), Bytes::new())
        }
    }
}

/// The writes of every key, in order, and how many of all writes are acknowledged without a gap.
#[derive(Debug, Default, Clone)]
struct Model {
    writes: HashMap<u64, Vec<Write>>,
    acknowledged: u64,
}

type Shared = Arc<Mutex<Model>>;

fn look<T>(model: &Shared, at: impl FnOnce(&mut Model) -> T) -> T {
    at(&mut model.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes until told to stop and everything is acknowledged.
async fn write(client: Client, topic: TopicName, model: Shared, stop: watch::Receiver<bool>) -> Result<()> {
    let producer = client.producer(ProducerConfig::default())?;
    let (sender, mut deliveries) = mpsc::channel::<Delivery>(1_000);
    let counted = Arc::clone(&model);
    let count = tokio::spawn(async move {
        while let Some(delivery) = deliveries.recv().await {
            delivery.await?;
            look(&counted, |model| model.acknowledged += 1);
        }
        Ok::<_, highwater_client::ProduceError>(())
    });
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        if number % 100 == 99 {
            // Slower than the cleaner: what is dirty stays small, and one cleaning follows the other.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (key, write) = Write::numbered(number);
        // Known before it is sent: it may be in the log without anybody having heard of it.
        look(&model, |model| model.writes.entry(key).or_default().push(write));
        let delivery = producer.send(write.record(key, &topic)).await?;
        if sender.send(delivery).await.is_err() {
            break;
        }
    }
    drop(sender);
    count.await??;
    Ok(())
}

fn reader(client: &Client) -> Result<Consumer> {
    Ok(client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        enable_auto_commit: false,
        max_poll_records: 10_000,
        ..ConsumerConfig::default()
    })?)
}

fn number_of(record: &Record) -> Result<u64> {
    let header = record
        .headers
        .iter()
        .find(|header| header.key_str() == Some(NUMBER));
    let number = header
        .and_then(|header| header.value.as_ref())
        .context("a number")?;
    Ok(std::str::from_utf8(number)?.parse()?)
}

/// Reads everything there is, and checks that nothing is repeated or out of order; gives the last write of each key
/// and how many records there are.
async fn read(client: &Client, topic: &TopicName) -> Result<(HashMap<u64, Write>, u64)> {
    let consumer = reader(client)?;
    let partition = TopicPartition::new(topic.clone(), PartitionId::new(0));
    let listed = client
        .admin()
        .list_offsets(
            [(partition.clone(), OffsetSpec::Latest)],
            IsolationLevel::ReadUncommitted,
        )
        .await?;
    let (_, end) = listed.into_iter().next().context("an end")?;
    let end = end.offset.context("an end")?;
    consumer.assign([partition.clone()])?;
    let (mut last, mut records) = (HashMap::new(), 0);
    let mut before: Option<(Offset, u64)> = None;
    let deadline = Instant::now() + PATIENCE;
    while consumer.position(&partition).await? < end {
        ensure!(
            Instant::now() < deadline,
            "{records} records came, up to {before:?}"
        );
        let polled = consumer.poll(Duration::from_secs(1)).await?;
        for record in polled.iter().flat_map(|partition| &partition.records) {
            let number = number_of(record)?;
            ensure!(
                before.is_none_or(|(offset, before)| offset < record.offset && before < number),
                "{number} at {} follows {before:?}",
                record.offset
            );
            before = Some((record.offset, number));
            let key = record.key.as_ref().context("a key")?;
            let key = std::str::from_utf8(key)?.trim_start_matches("key-").parse()?;
            let is_tombstone = record.value.is_none();
            last.insert(key, Write { number, is_tombstone });
            records += 1;
        }
    }
    Ok((last, records))
}

/// Whether what is there can be, when everything acknowledged in `known` is to be there or superseded by something
/// that was sent.
fn check(known: &Model, sent: &Model, found: &HashMap<u64, Write>) -> Result<()> {
    for (key, writes) in &sent.writes {
        let Some(acknowledged) = known
            .writes
            .get(key)
            .and_then(|writes| writes.iter().rfind(|write| write.number < known.acknowledged))
        else {
            continue;
        };
        let may_be_gone = writes
            .iter()
            .any(|write| write.is_tombstone && write.number >= acknowledged.number);
        let last = found.get(key);
        let is_there = last.is_some_and(|last| last.number >= acknowledged.number);
        // A reader that is slower than `delete.retention.ms` may see an old value and miss its tombstone.
        ensure!(
            is_there || may_be_gone,
            "key {key}: {acknowledged:?} is acknowledged, {last:?} is there"
        );
        ensure!(
            last.is_none_or(|last| writes.contains(last)),
            "key {key}: {last:?} was never sent"
        );
    }
    Ok(())
}

/// Whether exactly the last writes are there; tombstones may be gone, and nothing may be in their place.
fn check_settled(sent: &Model, found: &HashMap<u64, Write>) -> Result<()> {
    for (key, writes) in &sent.writes {
        let expected = writes.last().context("a write")?;
        match found.get(key) {
            None => ensure!(expected.is_tombstone, "key {key}: {expected:?} is lost"),
            Some(last) => ensure!(last == expected, "key {key}: {last:?} instead of {expected:?}"),
        }
    }
    Ok(())
}

/// What a cleaning has left or is writing in a partition's directory.
fn half_done(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("cleaned" | "swap")) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Waits until a cleaning is writing.
async fn cleaning_runs(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while half_done(dir)?.is_empty() {
        ensure!(Instant::now() < deadline, "no cleaning runs in {}", dir.display());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn create(client: &Client, topic: &TopicName) -> Result<()> {
    for (_, answer) in client.admin().create_topics([compacted(topic)]).await? {
        answer?;
    }
    Ok(())
}

async fn acknowledged(model: &Shared, at_least: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while look(model, |model| model.acknowledged) < at_least {
        ensure!(
            Instant::now() < deadline,
            "fewer than {at_least} are acknowledged"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_in_the_middle_of_compaction_lose_no_last_value_and_bring_nothing_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let topic = TopicName::new("compacted")?;
    let any = ([127, 0, 0, 1], 0).into();
    let start =
        |kafka| tokio::task::block_in_place(|| Dev::start_on(folder.path(), kafka, &OFTEN_AND_SLOWLY));
    let mut node = start(any)?;
    let kafka = node.kafka;
    let client = Client::connect(ClientConfig::new([kafka.to_string()])).await?;
    create(&client, &topic).await?;
    let model = Shared::default();
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write(client.clone(), topic.clone(), Arc::clone(&model), stopped));
    let dir = folder.path().join("compacted-0");
    for round in 0..KILLS {
        let before = look(&model, |model| model.acknowledged);
        acknowledged(&model, before + 6_000).await?;
        cleaning_runs(&dir).await?;
        ensure!(!writing.is_finished(), "the producer gave up");
        let known = look(&model, |model| model.clone());
        tokio::task::block_in_place(|| node.kill())?;
        node = start(kafka)?;
        let (found, records) = read(&client, &topic).await?;
        let sent = look(&model, |model| model.clone());
        check(&known, &sent, &found).with_context(|| format!("after kill {round}, {records} records"))?;
    }
    stop.send(true)?;
    tokio::time::timeout(PATIENCE, writing).await???;
    let sent = look(&model, |model| model.clone());
    // A reader may be slower than the horizon of a tombstone: what it saw before is then no last word.
    let deadline = Instant::now() + PATIENCE;
    let records = loop {
        let (found, records) = read(&client, &topic).await?;
        match check_settled(&sent, &found) {
            Ok(()) if records < sent.acknowledged / 2 => break records,
            Ok(()) => ensure!(Instant::now() < deadline, "{records} records are left"),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    };
    println!(
        "{} written, {records} left after {KILLS} kills",
        sent.acknowledged
    );
    tokio::task::block_in_place(|| node.stop())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_compaction_is_prompt_and_leaves_nothing_half_done() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let log = folder.path().join("log");
    let topic = TopicName::new("compacted")?;
    // Some ten seconds for each of the two passes: a stop that waited for the end would show.
    let slowly = [
        "--set",
        "log.cleaner.backoff.ms=10",
        "--set",
        "log.cleaner.io.max.bytes.per.second=400000",
    ];
    let start = |more: &[&str]| tokio::task::block_in_place(|| Dev::start_logged(&data, &log, more));
    let mut node = start(&["--set", "log.cleaner.enable=false"])?;
    let client = Client::connect(ClientConfig::new([node.kafka.to_string()])).await?;
    create(&client, &topic).await?;
    let model = Shared::default();
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write(client, topic.clone(), Arc::clone(&model), stopped));
    acknowledged(&model, 20_000).await?;
    stop.send(true)?;
    tokio::time::timeout(PATIENCE, writing).await???;
    let sent = look(&model, |model| model.clone());
    tokio::task::block_in_place(|| node.stop())?;

    let dir = data.join("compacted-0");
    node = start(&slowly)?;
    cleaning_runs(&dir).await?;
    // Fails if it takes longer than a stop may, or ends with another code than 0.
    tokio::task::block_in_place(|| node.stop())?;
    assert_eq!(half_done(&dir)?, Vec::<PathBuf>::new());
    let said = std::fs::read_to_string(&log)?;
    ensure!(
        !said.contains("log compacted topic=compacted"),
        "the cleaning was over before the stop:\n{said}"
    );

    node = start(&["--set", "log.cleaner.backoff.ms=10"])?;
    let said = std::fs::read_to_string(&log)?;
    let opened = said
        .lines()
        .find(|line| line.contains("logs opened"))
        .context("logs opened")?;
    ensure!(
        opened.contains("path=\"clean shutdown\"") && opened.contains("segments_scanned=0"),
        "{opened}"
    );
    let client = Client::connect(ClientConfig::new([node.kafka.to_string()])).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (found, records) = read(&client, &topic).await?;
        check(&sent, &sent, &found)?;
        let settled = check_settled(&sent, &found);
        if settled.is_ok() && records < sent.acknowledged / 2 {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{settled:?}, {records} records are left"
        );
    }
    tokio::task::block_in_place(|| node.stop())
}

//! The pipeline's topics as a whole: made before the start, read from end to end after it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use highwater_client::admin::NewTopic;
use highwater_client::{Client, Consumer, ConsumerConfig, IsolationLevel, OffsetSpec};
use highwater_types::record::Record;
use highwater_types::{Offset, TopicName, TopicPartition};
use serde::de::DeserializeOwned;

use crate::topology::{PRICES, TOPICS};

/// Partitions of every topic: as many as there are symbols, so that each may have a task of its own.
const PARTITIONS: i32 = 3;
/// The longest silence while records are known to be there.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// The name as the client wants it; all names of this program are constants.
pub(crate) fn named(topic: &str) -> Result<TopicName> {
    Ok(TopicName::new(topic)?)
}

/// Creates what is missing. Nothing is ever thrown away: the exchange's time decides how old a record is, and the
/// stand-in lives in the past.
pub(crate) async fn create(client: &Client) -> Result<()> {
    let admin = client.admin();
    let there = admin.list_topics().await.context("cannot list topics")?;
    let mut missing = Vec::new();
    for topic in TOPICS {
        if !there.iter().any(|it| it.name.as_str() == topic) {
            missing.push(NewTopic::new(named(topic)?, PARTITIONS).config("retention.ms", "-1"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for (topic, answer) in admin
        .create_topics(missing)
        .await
        .context("cannot create topics")?
    {
        answer.with_context(|| format!("cannot create topic {topic}"))?;
    }
    Ok(())
}

/// Where each partition of some topics stands.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

/// The ends of the topics' partitions.
pub(crate) async fn ends(client: &Client, topics: &[&str]) -> Result<Offsets> {
    let listed = list(client, topics, OffsetSpec::Latest).await?;
    Ok(listed
        .into_iter()
        .map(|(partition, (offset, _))| (partition, offset))
        .collect())
}

/// The latest event time of all prices and klines; `None` in a new directory.
pub(crate) async fn last_event_ms(client: &Client) -> Result<Option<i64>> {
    let listed = list(client, &[PRICES], OffsetSpec::MaxTimestamp).await?;
    Ok(listed.into_values().filter_map(|(_, time_ms)| time_ms).max())
}

async fn list(
    client: &Client,
    topics: &[&str],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, (Offset, Option<i64>)>> {
    let names = topics
        .iter()
        .map(|topic| named(topic))
        .collect::<Result<Vec<_>>>()?;
    let view = client.metadata(&names).await.context("cannot describe topics")?;
    let partitions = names
        .iter()
        .filter_map(|name| view.topics.get(name))
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|it| (TopicPartition::new(topic.name.clone(), it.partition), spec))
        });
    let listed = client
        .admin()
        .list_offsets(partitions, IsolationLevel::ReadUncommitted)
        .await
        .context("cannot list offsets")?;
    let known = listed
        .into_iter()
        .filter_map(|(partition, it)| Some((partition, (it.offset?, it.timestamp.map(|time| time.get())))));
    Ok(known.collect())
}

/// A reader without a group that starts at these offsets.
pub(crate) fn reader(client: &Client, from: &Offsets) -> Result<Consumer> {
    let consumer = client.consumer(ConsumerConfig {
        max_poll_records: 10_000,
        ..ConsumerConfig::default()
    })?;
    consumer.assign(from.keys().cloned())?;
    for (partition, offset) in from {
        consumer.seek(partition, *offset)?;
    }
    Ok(consumer)
}

/// Shows every record of a topic up to its present end, in the order of each partition.
pub(crate) async fn read_all(client: &Client, topic: &str, mut show: impl FnMut(&Record)) -> Result<()> {
    let mut left = ends(client, &[topic]).await?;
    left.retain(|_, end| *end > Offset::ZERO);
    let from = left
        .keys()
        .map(|partition| (partition.clone(), Offset::ZERO))
        .collect();
    let consumer = reader(client, &from)?;
    while !left.is_empty() {
        let fetched = consumer.poll(READ_TIMEOUT).await?;
        if fetched.is_empty() {
            bail!("topic {topic} gives no records for {READ_TIMEOUT:?}, although it has some");
        }
        for batch in fetched {
            batch.records.iter().for_each(&mut show);
            let reached = batch.records.last().map(|record| record.offset.next());
            if reached >= left.get(&batch.topic_partition).copied() {
                left.remove(&batch.topic_partition);
            }
        }
    }
    Ok(())
}

/// The key as text and the value as JSON of some type; `None` for what is neither.
pub(crate) fn decoded<T: DeserializeOwned>(record: &Record) -> Option<(&str, T)> {
    let key = std::str::from_utf8(record.key.as_ref()?).ok()?;
    Some((key, serde_json::from_slice(record.value.as_ref()?).ok()?))
}

//! `highwater consume`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use highwater_client::{AutoOffsetReset, Client, Consumer, ConsumerConfig, IsolationLevel, OffsetSpec};
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition, record::Record};
use serde_json::{Value, json};

use crate::output::{Output, line};
use crate::shutdown;
use crate::topic::topic_name;

/// Read records and print them.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --group the partitions are read directly and nothing is committed. Values are printed as text, one per line;
with -o json every record is one JSON object with key, headers, partition, offset and timestamp.")]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Join this consumer group and commit what was printed.
    #[arg(long, short)]
    group: Option<String>,
    /// Start at the oldest record instead of the end.
    #[arg(long)]
    from_beginning: bool,
    /// Start at this offset of every partition read.
    #[arg(long, conflicts_with_all = ["from_beginning", "group"])]
    offset: Option<i64>,
    /// Read only these partitions, such as 0,2.
    #[arg(long, short, value_delimiter = ',', conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Stop after this many records.
    #[arg(long, short)]
    max_messages: Option<u64>,
    /// Stop at the end the topic had when the command started.
    #[arg(long, short)]
    exit_at_end: bool,
    /// Stop when nothing came for this many seconds.
    #[arg(long)]
    timeout_s: Option<u64>,
    /// Print the key before the value, separated by a tab.
    #[arg(long)]
    print_key: bool,
    /// Print aborted and undecided transactional records too.
    #[arg(long)]
    read_uncommitted: bool,
}

pub(crate) async fn run(args: ConsumeArgs, client: &Client, output: &Output) -> Result<()> {
    let topic = topic_name(&args.topic)?;
    let ends = if args.exit_at_end {
        ends_of(client, &topic).await?
    } else {
        BTreeMap::new()
    };
    let consumer = open(&args, client, &topic).await?;
    let outcome = tokio::select! {
        outcome = print(&args, &consumer, output, &ends) => outcome,
        stop = shutdown::requested() => stop,
    };
    consumer.close().await;
    outcome
}

async fn partitions_of(client: &Client, topic: &TopicName) -> Result<Vec<TopicPartition>> {
    match client
        .admin()
        .describe_topics([topic.clone()])
        .await?
        .remove(topic)
    {
        Some(described) => Ok(described?
            .partitions
            .iter()
            .map(|p| TopicPartition::new(topic.clone(), p.partition))
            .collect()),
        None => bail!("the cluster does not answer about {topic}"),
    }
}

async fn ends_of(client: &Client, topic: &TopicName) -> Result<BTreeMap<TopicPartition, Offset>> {
    let wanted = partitions_of(client, topic)
        .await?
        .into_iter()
        .map(|p| (p, OffsetSpec::Latest));
    let ends = client
        .admin()
        .list_offsets(wanted, IsolationLevel::default())
        .await?;
    Ok(ends
        .into_iter()
        .filter_map(|(partition, end)| Some((partition, end.offset?)))
        .collect())
}

async fn open(args: &ConsumeArgs, client: &Client, topic: &TopicName) -> Result<Consumer> {
    let reset = if args.from_beginning {
        AutoOffsetReset::Earliest
    } else {
        AutoOffsetReset::Latest
    };
    let config = ConsumerConfig {
        group_id: args.group.clone().map(Into::into),
        auto_offset_reset: reset,
        isolation_level: if args.read_uncommitted {
            IsolationLevel::ReadUncommitted
        } else {
            IsolationLevel::ReadCommitted
        },
        enable_auto_commit: args.group.is_some(),
        max_poll_records: 10_000,
        ..ConsumerConfig::default()
    };
    let consumer = client.consumer(config)?;
    if args.group.is_some() {
        consumer.subscribe([topic.clone()])?;
        return Ok(consumer);
    }
    let all = partitions_of(client, topic).await?;
    let wanted: Vec<TopicPartition> = if args.partitions.is_empty() {
        all
    } else {
        let wanted: Vec<_> = args
            .partitions
            .iter()
            .map(|p| TopicPartition::new(topic.clone(), PartitionId::new(*p)))
            .collect();
        if let Some(unknown) = wanted.iter().find(|partition| !all.contains(partition)) {
            bail!("there is no partition {unknown}; {topic} has {}", all.len());
        }
        wanted
    };
    consumer.assign(wanted.clone())?;
    if let Some(offset) = args.offset {
        for partition in &wanted {
            consumer.seek(partition, Offset::new(offset))?;
        }
    }
    Ok(consumer)
}

async fn print(
    args: &ConsumeArgs,
    consumer: &Consumer,
    output: &Output,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> Result<()> {
    let mut printed = 0u64;
    let mut last = Instant::now();
    loop {
        if args.exit_at_end && at_end(consumer, ends).await? {
            return Ok(());
        }
        for partition in consumer.poll(Duration::from_millis(500)).await? {
            for record in &partition.records {
                print_record(args, output, &partition.topic_partition, record)?;
                printed += 1;
                if args.max_messages == Some(printed) {
                    return Ok(());
                }
            }
            last = Instant::now();
        }
        if args
            .timeout_s
            .is_some_and(|limit| last.elapsed() >= Duration::from_secs(limit))
        {
            return Ok(());
        }
    }
}

async fn at_end(consumer: &Consumer, ends: &BTreeMap<TopicPartition, Offset>) -> Result<bool> {
    let assigned = consumer.assignment();
    if assigned.is_empty() {
        return Ok(false);
    }
    for partition in assigned {
        let end = ends.get(&partition).copied().unwrap_or(Offset::ZERO);
        if consumer.position(&partition).await? < end {
            return Ok(false);
        }
    }
    Ok(true)
}

fn print_record(args: &ConsumeArgs, output: &Output, from: &TopicPartition, record: &Record) -> Result<()> {
    let text = |bytes: &Option<bytes::Bytes>| {
        bytes
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    if output.is_json() {
        let headers: Vec<Value> = record
            .headers
            .iter()
            .map(|header| json!([String::from_utf8_lossy(&header.key), text(&header.value)]))
            .collect();
        return line(
            &json!({
                "topic": from.topic.as_str(), "partition": from.partition.get(), "offset": record.offset.get(),
                "timestamp_ms": record.timestamp.get(), "key": text(&record.key), "value": text(&record.value),
                "headers": headers,
            })
            .to_string(),
        );
    }
    let value = text(&record.value).unwrap_or_else(|| "(null)".to_owned());
    if args.print_key {
        let key = text(&record.key).unwrap_or_else(|| "(null)".to_owned());
        return line(&format!("{key}\t{value}"));
    }
    line(&value)
}

//! `highwater produce`.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use highwater_client::{Client, ProducerConfig, ProducerRecord};
use highwater_types::{
    PartitionId,
    record::{Compression, Header},
};

use crate::topic::topic_name;

/// Acknowledgements awaited at most before more lines are read.
const MAX_OUTSTANDING: usize = 10_000;

/// Write records, one per line of standard input.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic.
    topic: String,
    /// The key of every record.
    #[arg(long, short)]
    key: Option<String>,
    /// Split each line into key and value at the first occurrence of this text.
    #[arg(long, conflicts_with = "key")]
    key_separator: Option<String>,
    /// The partition; the key decides if left out.
    #[arg(long, short)]
    partition: Option<i32>,
    /// A header as name=value; may be given several times.
    #[arg(long = "header", short = 'H', value_parser = header)]
    headers: Vec<(String, String)>,
    /// Compression: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    compression: Compression,
    /// Say where every record went.
    #[arg(long, short)]
    verbose: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .ok_or_else(|| "write it as name=value".to_owned())
}

pub(crate) async fn run(args: ProduceArgs, client: &Client) -> Result<()> {
    let topic = topic_name(&args.topic)?;
    let producer = client.producer(ProducerConfig {
        compression: args.compression,
        ..ProducerConfig::default()
    })?;
    let headers: Vec<Header> = args
        .headers
        .iter()
        .map(|(n, v)| Header::new(n.clone(), Some(v.clone().into())))
        .collect();
    let started = Instant::now();
    let mut lines = lines_of_stdin();
    let mut outstanding = FuturesUnordered::new();
    let mut written = 0u64;
    let mut is_open = true;
    while is_open || !outstanding.is_empty() {
        tokio::select! {
            line = lines.recv(), if is_open && outstanding.len() < MAX_OUTSTANDING => {
                let Some(line) = line else {
                    is_open = false;
                    continue;
                };
                let line = line.context("cannot read standard input")?;
                let mut record = match args.key_separator.as_deref().and_then(|separator| line.split_once(separator)) {
                    Some((key, value)) => ProducerRecord::keyed(topic.clone(), key.to_owned(), value.to_owned()),
                    None => ProducerRecord::new(topic.clone(), line),
                };
                if let Some(key) = &args.key {
                    record.key = Some(key.clone().into());
                }
                record.partition = args.partition.map(PartitionId::new);
                record.headers.clone_from(&headers);
                outstanding.push(producer.send(record).await?);
            }
            Some(delivered) = outstanding.next() => {
                let place = delivered?;
                written += 1;
                if args.verbose {
                    let offset = place.offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
                    eprintln!("{}-{} offset {offset}", place.topic, place.partition);
                }
            }
        }
    }
    producer.close().await;
    eprintln!(
        "wrote {written} records to {topic} in {:.2} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Lines come from a thread of their own: reading standard input blocks.
fn lines_of_stdin() -> tokio::sync::mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1024);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

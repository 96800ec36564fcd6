//! `highwater group`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use highwater_client::{Client, CommittedOffset, IsolationLevel, OffsetSpec};
use highwater_types::{ByteString, Offset, Timestamp, TopicPartition};
use serde_json::{Value, json};

use crate::output::Output;
use crate::topic::topic_name;

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List groups.
    List,
    /// Show members, offsets and lag.
    Describe {
        /// Name of the group.
        name: String,
    },
    /// Set the offsets of a group without members.
    Reset(ResetArgs),
    /// Delete groups without members.
    Delete {
        /// Names of the groups.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Where a group is to go on.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Name of the group.
    name: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Where to: earliest, latest, an offset, or a time as milliseconds since the epoch (time:1700000000000).
    #[arg(long)]
    to: String,
    /// Only say what would be set.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(command: GroupCommand, client: &Client, output: &Output) -> Result<()> {
    match command {
        GroupCommand::List => {
            let groups = client.admin().list_groups().await?;
            let rows = groups
                .iter()
                .map(|group| {
                    vec![
                        json!(&*group.group_id),
                        json!(group.state.as_deref()),
                        json!(&*group.protocol_type),
                    ]
                })
                .collect();
            output.rows(&["group", "state", "type"], rows)
        }
        GroupCommand::Describe { name } => describe(client, output, &name.into()).await,
        GroupCommand::Reset(args) => reset(client, output, args).await,
        GroupCommand::Delete { names } => {
            let groups: Vec<ByteString> = names.into_iter().map(Into::into).collect();
            for (name, answer) in client.admin().delete_groups(groups).await? {
                answer?;
                output.done(
                    &format!("deleted {name}"),
                    json!({ "group": &*name, "deleted": true }),
                )?;
            }
            Ok(())
        }
    }
}

async fn describe(client: &Client, output: &Output, name: &ByteString) -> Result<()> {
    let admin = client.admin();
    let group = match admin.describe_groups([name.clone()]).await?.remove(name) {
        Some(answer) => answer?,
        None => bail!("the cluster does not answer about {name}"),
    };
    if &*group.state == "Dead" {
        bail!("there is no group {name}; `highwater group list` shows those there are");
    }
    let offsets = admin.list_group_offsets(name).await?;
    let mut owners: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
    for member in &group.members {
        owners.extend(
            member
                .assignment
                .iter()
                .map(|partition| (partition, &*member.client_id)),
        );
    }
    let mut partitions: Vec<&TopicPartition> = offsets.keys().chain(owners.keys().copied()).collect();
    partitions.sort();
    partitions.dedup();
    let wanted = partitions
        .iter()
        .map(|partition| ((*partition).clone(), OffsetSpec::Latest));
    let ends = admin
        .list_offsets(wanted.collect::<Vec<_>>(), IsolationLevel::default())
        .await?;
    let rows: Vec<Vec<Value>> = partitions
        .iter()
        .map(|partition| {
            let committed = offsets.get(*partition).map(|committed| committed.offset.get());
            let end = ends
                .get(*partition)
                .and_then(|end| end.offset)
                .map(|end| end.get());
            vec![
                json!(partition.topic.as_str()),
                json!(partition.partition.get()),
                json!(committed),
                json!(end),
                json!(
                    end.zip(committed)
                        .map(|(end, committed)| (end - committed).max(0))
                ),
                json!(owners.get(partition)),
            ]
        })
        .collect();
    if !output.is_json() {
        crate::output::line(&format!(
            "{name}: {}, {} members, assignor {}, coordinator {}",
            group.state,
            group.members.len(),
            if group.protocol.is_empty() {
                "-"
            } else {
                &group.protocol
            },
            group.coordinator.address()
        ))?;
    }
    output.rows(&["topic", "partition", "committed", "end", "lag", "owner"], rows)
}

async fn reset(client: &Client, output: &Output, args: ResetArgs) -> Result<()> {
    let topic = topic_name(&args.topic)?;
    let admin = client.admin();
    let described = match admin.describe_topics([topic.clone()]).await?.remove(&topic) {
        Some(answer) => answer?,
        None => bail!("the cluster does not answer about {topic}"),
    };
    let partitions: Vec<TopicPartition> = described
        .partitions
        .iter()
        .map(|p| TopicPartition::new(topic.clone(), p.partition))
        .collect();
    let listed = |spec: OffsetSpec| {
        let wanted: Vec<_> = partitions
            .iter()
            .map(|partition| (partition.clone(), spec))
            .collect();
        admin.list_offsets(wanted, IsolationLevel::default())
    };
    let first = listed(OffsetSpec::Earliest).await?;
    let end = listed(OffsetSpec::Latest).await?;
    let at = match args.to.as_str() {
        "earliest" => first.clone(),
        "latest" => end.clone(),
        other => match other.strip_prefix("time:").map(str::parse) {
            Some(Ok(ms)) => listed(OffsetSpec::Timestamp(Timestamp::new(ms))).await?,
            Some(Err(error)) => bail!("--to {other}: {error}; write milliseconds since the epoch"),
            None => BTreeMap::new(),
        },
    };
    let mut target: BTreeMap<TopicPartition, CommittedOffset> = BTreeMap::new();
    for partition in &partitions {
        let of = |listed: &BTreeMap<TopicPartition, highwater_client::ListedOffset>| {
            listed.get(partition).and_then(|listed| listed.offset)
        };
        let (first, end) = (
            of(&first).unwrap_or(Offset::ZERO),
            of(&end).unwrap_or(Offset::ZERO),
        );
        let wanted = if at.is_empty() {
            let offset: i64 = args.to.parse().map_err(|_| {
                anyhow::anyhow!(
                    "--to {}: write earliest, latest, an offset or time:MILLISECONDS",
                    args.to
                )
            })?;
            Offset::new(offset).clamp(first, end)
        } else {
            of(&at).unwrap_or(end) // no record is that young: the end
        };
        target.insert(partition.clone(), wanted.into());
    }
    if !args.dry_run {
        admin
            .alter_group_offsets(&args.name.clone().into(), target.clone())
            .await?;
    }
    let rows = target
        .iter()
        .map(|(partition, to)| {
            vec![
                json!(partition.topic.as_str()),
                json!(partition.partition.get()),
                json!(to.offset.get()),
            ]
        })
        .collect();
    output.rows(&["topic", "partition", "new offset"], rows)
}

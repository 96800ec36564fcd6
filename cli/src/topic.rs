//! `highwater topic`.

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use highwater_client::admin::{ConfigOp, ConfigResource, ConfigSource, NewTopic};
use highwater_client::{Client, IsolationLevel, OffsetSpec};
use highwater_types::{TopicName, TopicPartition};
use serde_json::{Value, json};

use crate::output::Output;

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics.
    Create {
        /// Names of the topics.
        #[arg(required = true)]
        names: Vec<String>,
        /// Number of partitions; the cluster's default if left out.
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Number of replicas; the cluster's default if left out.
        #[arg(long, short)]
        replication_factor: Option<i16>,
        /// A topic configuration such as retention.ms=3600000; may be given several times.
        #[arg(long, short, value_parser = assignment)]
        config: Vec<(String, String)>,
        /// Succeed when a topic is there already.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics.
    List {
        /// Internal topics too, and those whose names begin with an underscore.
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, offsets and the configuration that differs from the defaults.
    Describe {
        /// Name of the topic.
        name: String,
        /// All of the configuration.
        #[arg(long)]
        all_configs: bool,
    },
    /// Change configuration or the number of partitions.
    Alter {
        /// Name of the topic.
        name: String,
        /// Set a configuration such as retention.ms=3600000; may be given several times.
        #[arg(long, value_parser = assignment)]
        set: Vec<(String, String)>,
        /// Go back to the default of a configuration; may be given several times.
        #[arg(long)]
        unset: Vec<String>,
        /// New total number of partitions.
        #[arg(long)]
        partitions: Option<i32>,
    },
    /// Delete topics and their data.
    Delete {
        /// Names of the topics.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A name from the command line.
pub(crate) fn topic_name(name: &str) -> Result<TopicName> {
    TopicName::new(name.to_owned()).with_context(|| format!("topic `{name}`"))
}

pub(crate) async fn run(command: TopicCommand, client: &Client, output: &Output) -> Result<()> {
    match command {
        TopicCommand::Create {
            names,
            partitions,
            replication_factor,
            config,
            if_not_exists,
        } => {
            let topics = names
                .iter()
                .map(|name| {
                    let configs = config
                        .iter()
                        .map(|(n, v)| (n.clone().into(), v.clone().into()))
                        .collect();
                    Ok(NewTopic {
                        name: topic_name(name)?,
                        partitions,
                        replication_factor,
                        configs,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            create(client, output, topics, if_not_exists).await
        }
        TopicCommand::List { internal } => list(client, output, internal).await,
        TopicCommand::Describe { name, all_configs } => describe(client, output, &name, all_configs).await,
        TopicCommand::Alter {
            name,
            set,
            unset,
            partitions,
        } => alter(client, output, &name, set, unset, partitions).await,
        TopicCommand::Delete { names } => delete(client, output, &names).await,
    }
}

async fn create(client: &Client, output: &Output, topics: Vec<NewTopic>, if_not_exists: bool) -> Result<()> {
    for (name, answer) in client.admin().create_topics(topics).await? {
        match answer {
            Ok(()) => output.done(
                &format!("created {name}"),
                json!({ "topic": name.as_str(), "created": true }),
            )?,
            Err(error)
                if if_not_exists && error.code() == Some(highwater_wire::ErrorCode::TopicAlreadyExists) =>
            {
                output.done(
                    &format!("{name} is there already"),
                    json!({ "topic": name.as_str(), "created": false }),
                )?;
            }
            Err(error) => bail!("{error}"),
        }
    }
    Ok(())
}

async fn list(client: &Client, output: &Output, internal: bool) -> Result<()> {
    let topics = client.admin().list_topics().await?;
    let rows = topics
        .iter()
        .filter(|topic| internal || !(topic.is_internal || topic.name.as_str().starts_with('_')))
        .map(|topic| {
            let replicas = topic
                .partitions
                .first()
                .map_or(0, |partition| partition.replicas.len());
            vec![
                json!(topic.name.as_str()),
                json!(topic.partitions.len()),
                json!(replicas),
            ]
        })
        .collect();
    output.rows(&["name", "partitions", "replicas"], rows)
}

async fn describe(client: &Client, output: &Output, name: &str, all_configs: bool) -> Result<()> {
    let name = topic_name(name)?;
    let admin = client.admin();
    let topic = match admin.describe_topics([name.clone()]).await?.remove(&name) {
        Some(answer) => answer?,
        None => bail!("the cluster does not answer about {name}"),
    };
    let partitions: Vec<TopicPartition> = topic
        .partitions
        .iter()
        .map(|p| TopicPartition::new(name.clone(), p.partition))
        .collect();
    let wanted = |spec: OffsetSpec| {
        partitions
            .iter()
            .map(move |p| (p.clone(), spec))
            .collect::<Vec<_>>()
    };
    let first = admin
        .list_offsets(wanted(OffsetSpec::Earliest), IsolationLevel::default())
        .await?;
    let end = admin
        .list_offsets(wanted(OffsetSpec::Latest), IsolationLevel::default())
        .await?;
    let rows: Vec<Vec<Value>> = topic
        .partitions
        .iter()
        .zip(&partitions)
        .map(|(partition, key)| {
            let offset =
                |of: Option<&highwater_client::ListedOffset>| of.and_then(|o| o.offset).map(|o| o.get());
            let (first, end) = (offset(first.get(key)), offset(end.get(key)));
            let ids =
                |ids: &[highwater_types::BrokerId]| json!(ids.iter().map(|id| id.get()).collect::<Vec<_>>());
            vec![
                json!(partition.partition.get()),
                json!(partition.leader.map(|leader| leader.get())),
                ids(&partition.replicas),
                ids(&partition.isr),
                json!(first),
                json!(end),
                json!(first.zip(end).map(|(first, end)| end - first)),
            ]
        })
        .collect();
    let resource = ConfigResource::Topic(name.clone());
    let configs = match admin
        .describe_configs([resource.clone()])
        .await?
        .remove(&resource)
    {
        Some(answer) => answer?,
        None => Vec::new(),
    };
    let configs: Vec<Vec<Value>> = configs
        .iter()
        .filter(|entry| all_configs || entry.source == ConfigSource::Topic)
        .map(|entry| {
            vec![
                json!(&*entry.name),
                json!(entry.value.as_deref()),
                json!(format!("{:?}", entry.source)),
            ]
        })
        .collect();
    output.rows(
        &[
            "partition",
            "leader",
            "replicas",
            "isr",
            "first offset",
            "end offset",
            "records",
        ],
        rows,
    )?;
    if !configs.is_empty() {
        output.rows(&["config", "value", "source"], configs)?;
    }
    Ok(())
}

async fn alter(
    client: &Client,
    output: &Output,
    name: &str,
    set: Vec<(String, String)>,
    unset: Vec<String>,
    partitions: Option<i32>,
) -> Result<()> {
    let name = topic_name(name)?;
    if set.is_empty() && unset.is_empty() && partitions.is_none() {
        bail!("nothing to change; give --set name=value, --unset name or --partitions N");
    }
    let admin = client.admin();
    let changes: Vec<_> = set
        .into_iter()
        .map(|(name, value)| (name.into(), ConfigOp::Set(value.into())))
        .chain(unset.into_iter().map(|name| (name.into(), ConfigOp::Delete)))
        .collect();
    if !changes.is_empty() {
        let resource = ConfigResource::Topic(name.clone());
        for (_, answer) in admin.incremental_alter_configs([(resource, changes)]).await? {
            answer?;
        }
    }
    if let Some(total) = partitions {
        for (_, answer) in admin.create_partitions([(name.clone(), total)]).await? {
            answer?;
        }
    }
    output.done(
        &format!("changed {name}"),
        json!({ "topic": name.as_str(), "changed": true }),
    )
}

async fn delete(client: &Client, output: &Output, names: &[String]) -> Result<()> {
    let topics = names
        .iter()
        .map(|name| topic_name(name))
        .collect::<Result<Vec<_>>>()?;
    for (name, answer) in client.admin().delete_topics(topics).await? {
        answer?;
        output.done(
            &format!("deleted {name}"),
            json!({ "topic": name.as_str(), "deleted": true }),
        )?;
    }
    Ok(())
}

//! Topics an application needs: waits for its sources, creates its internal ones.

use std::{collections::BTreeMap, time::Duration};

use highwater_client::{Admin, ClientError, admin::NewTopic};
use highwater_streams_engine::{
    PlanError, Topology,
    topology::{InternalTopicPlan, Plan},
};
use highwater_types::TopicName;
use tokio::time::Instant;

use crate::{StreamsConfig, StreamsError};

/// How often missing topics are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Plans the topology against the cluster and creates what is missing of its internal topics.
pub(crate) async fn prepare(
    topology: &Topology,
    admin: &Admin,
    config: &StreamsConfig,
) -> Result<Plan, StreamsError> {
    let deadline = Instant::now() + config.source_topics_timeout;
    let plan = loop {
        match topology.plan(&partitions(admin).await?) {
            Ok(plan) => break plan,
            Err(PlanError::MissingTopic { topic }) if Instant::now() < deadline => {
                look_for_refusal(admin, topic.clone()).await?;
                tracing::info!(%topic, "waiting for a source topic");
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let mut refused = create(&plan.internal_topics, admin, config).await?;
    // Creation is answered by the controller; wait until the topics can be looked up, too. A refusal counts only while
    // the topic is missing: another process of the application may have been faster.
    loop {
        let known = partitions(admin).await?;
        let Some(missing) = plan
            .internal_topics
            .iter()
            .find(|topic| !known.contains_key(&topic.topic))
        else {
            return Ok(plan);
        };
        if Instant::now() >= deadline {
            let topic = missing.topic.clone();
            return Err(refused.remove(&topic).map_or_else(
                || PlanError::MissingTopic { topic }.into(),
                StreamsError::client("create an internal topic"),
            ));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// A topic that this client may not see is missing in lists and is not worth waiting for.
async fn look_for_refusal(admin: &Admin, topic: TopicName) -> Result<(), StreamsError> {
    let failed = StreamsError::client("see a source topic");
    let answers = match admin.describe_topics([topic]).await {
        Ok(answers) => answers,
        Err(error) => return Err(failed(error)),
    };
    match answers.into_values().next() {
        Some(Err(error)) if !error.is_retriable() => Err(failed(error)),
        _ => Ok(()),
    }
}

async fn partitions(admin: &Admin) -> Result<BTreeMap<TopicName, i32>, StreamsError> {
    let topics = admin
        .list_topics()
        .await
        .map_err(StreamsError::client("list topics"))?;
    let counted = topics.iter().map(|topic| {
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        (topic.name.clone(), count)
    });
    Ok(counted.filter(|(_, count)| *count > 0).collect())
}

/// Creates what is missing; answers with what was refused.
async fn create(
    topics: &[InternalTopicPlan],
    admin: &Admin,
    config: &StreamsConfig,
) -> Result<BTreeMap<TopicName, ClientError>, StreamsError> {
    let known = partitions(admin).await?;
    let missing = topics.iter().filter(|topic| !known.contains_key(&topic.topic));
    let new: Vec<NewTopic> = missing
        .map(|topic| {
            let mut new = NewTopic::new(topic.topic.clone(), topic.partitions);
            new.replication_factor = config.replication_factor;
            topic.configs.iter().fold(new, |new, (name, value)| {
                new.config(name.as_str(), value.as_str())
            })
        })
        .collect();
    let mut refused = BTreeMap::new();
    if !new.is_empty() {
        let answers = admin
            .create_topics(new)
            .await
            .map_err(StreamsError::client("create internal topics"))?;
        for (topic, answer) in answers {
            match answer {
                Ok(()) => tracing::info!(%topic, "created internal topic"),
                Err(error) => {
                    tracing::debug!(%topic, %error, "internal topic not created");
                    refused.insert(topic, error);
                }
            }
        }
    }
    Ok(refused)
}

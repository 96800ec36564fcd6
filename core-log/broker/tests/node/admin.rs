//! What administrators ask: topics, configs, elections, log directories, features, quorum, producers.

mod broker_configs;
mod client_metrics;
mod group_configs;
mod hostile;
mod loggers;
mod requests;
mod semantics;

use std::time::{Duration, Instant};

use highwater_broker::{Limits, Node, Session, SessionInfo};
use highwater_wire::messages::alter_configs_request::{
    AlterConfigsResource as ReplacedResource, AlterableConfig as ReplacedConfig,
};
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use highwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use highwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use highwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::update_features_request::FeatureUpdateKey;
use highwater_wire::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    CreateTopicsResponse, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, FetchRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, UpdateFeaturesRequest, alter_partition_reassignments_request, describe_log_dirs_request,
    describe_producers_request, describe_quorum_request, describe_topic_partitions_request,
    elect_leaders_request,
};
use highwater_wire::{ErrorCode, Request};
use uuid::Uuid;

use crate::support::{Wire, batch, fetch_request, produce_request, start, start_with};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A node spoken to in its own process, in the newest version of each request.
struct Admin {
    node: Node,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Admin {
    async fn start(properties: &[(&str, &str)]) -> Admin {
        let dir = tempfile::tempdir().unwrap();
        let (node, _) = start_with(dir.path(), Limits::default(), properties).await;
        let session = node.session(SessionInfo::default());
        Admin {
            node,
            session,
            _dir: dir,
        }
    }

    async fn call<R: Request>(&self, version: i16, request: R) -> R::Response {
        let body = self.session.call(version, request.into()).await.unwrap().unwrap();
        match R::Response::try_from(body) {
            Ok(response) => response,
            Err(error) => panic!("{error}"),
        }
    }

    async fn create(&self, topics: Vec<CreatableTopic>, validate_only: bool) -> CreateTopicsResponse {
        let request = CreateTopicsRequest {
            topics,
            validate_only,
            ..Default::default()
        };
        self.call(7, request).await
    }

    /// Creates a topic and answers the code.
    async fn try_create(&self, topic: CreatableTopic) -> ErrorCode {
        code(self.create(vec![topic], false).await.topics[0].error_code)
    }

    async fn metadata(&self, version: i16, names: &[&str]) -> MetadataResponse {
        let topics = names.iter().map(|name| MetadataRequestTopic {
            name: Some((*name).into()),
            ..Default::default()
        });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.call(version, request).await
    }

    async fn describe(&self, resource_type: i8, name: &str) -> DescribeConfigsResult {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        self.call(4, request).await.results.remove(0)
    }

    async fn config(&self, resource_type: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
        let described = self.describe(resource_type, name).await;
        let found = described.configs.into_iter().find(|config| config.name == key);
        found.unwrap_or_else(|| panic!("{key} is not described"))
    }

    /// One incremental operation; answers the code.
    async fn alter(
        &self,
        resource_type: i8,
        name: &str,
        operations: &[(&str, i8, Option<&str>)],
    ) -> ErrorCode {
        let configs = operations.iter().map(|(key, operation, value)| AlterableConfig {
            name: (*key).into(),
            config_operation: *operation,
            value: value.map(Into::into),
        });
        let resource = AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            validate_only: false,
        };
        code(self.call(1, request).await.responses[0].error_code)
    }

    async fn produce(&self, topic: &str, acks: i16) -> ErrorCode {
        let request: ProduceRequest = produce_request(topic, batch(&["v"]), acks);
        let response = self.call(9, request).await;
        code(response.responses[0].partition_responses[0].error_code)
    }

    async fn delete_records(&self, topic: &str, offset: i64) -> (ErrorCode, i64) {
        let partition = DeleteRecordsPartition {
            partition_index: 0,
            offset,
        };
        let topic = DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![partition],
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: 1_000,
        };
        let answer = self.call(2, request).await.topics.remove(0).partitions.remove(0);
        (code(answer.error_code), answer.low_watermark)
    }

    async fn delete_topic(&self, name: Option<&str>, topic_id: Uuid) -> ErrorCode {
        let state = DeleteTopicState {
            name: name.map(Into::into),
            topic_id,
        };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            ..Default::default()
        };
        code(self.call(6, request).await.responses[0].error_code)
    }
}

fn code(raw: i16) -> ErrorCode {
    ErrorCode::from_code(raw)
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn topic_with(name: &str, key: &str, value: &str) -> CreatableTopic {
    CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: key.into(),
            value: Some(value.into()),
        }],
        ..topic(name)
    }
}

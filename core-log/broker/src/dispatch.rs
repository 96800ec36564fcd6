//! From a decoded request to its handler and back.

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::Principal;
use highwater_storage::FileRange;
use highwater_wire::{RequestBody, ResponseBody};
use tokio::sync::OwnedSemaphorePermit;

use crate::authorizer::{Access, Caller, Verdict, judge};
use crate::broker::Broker;
use crate::fetch_sessions::SessionOwner;
use crate::handlers::{
    acls, api_versions, client_quotas, config_resources, configs, delete_records, describe_cluster,
    describe_topic_partitions, elections, epochs, fetch, find_coordinator, group_admin, groups, list_offsets,
    log_dirs, metadata, produce, producer_ids, producers, quorum, reassignments, sasl, scram_users, topics,
    update_features,
};
use crate::net::connection::Peer;

/// In tests of this crate a client of this name meets a defect in every handler.
#[cfg(test)]
fn panic_injection(context: &RequestContext) {
    assert_ne!(context.client_id.as_deref(), Some("meets-a-defect"));
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    pub(crate) client_id: Option<ByteString>,
    pub(crate) principal: Principal,
    pub(crate) caller: Caller,
    /// Shown by DescribeGroups; `/address` as Kafka writes it.
    pub(crate) client_host: ByteString,
    /// Addresses in answers are those of the listener the client came in by (semantic 15).
    pub(crate) listener_name: Arc<str>,
    /// The handler runs in a task of the node's own, not in that of whoever called a session, and the answer goes to a
    /// socket.
    pub(crate) is_connection: bool,
    /// Holds the fetch sessions of this connection; they end with it.
    pub(crate) fetch_sessions: Arc<SessionOwner>,
}

impl RequestContext {
    pub(crate) fn for_connection(broker: &Broker, peer: &Peer) -> Self {
        RequestContext {
            client_id: None,
            principal: Principal::anonymous(),
            caller: Caller::Client {
                address: peer.address.ip(),
            },
            client_host: format!("/{}", peer.address.ip()).into(),
            listener_name: Arc::clone(&peer.listener_name),
            is_connection: true,
            fetch_sessions: broker.fetch_sessions.owner(),
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Body(ResponseBody),
    /// A produce with `acks=0` has no answer.
    Nothing,
    /// A failure that has no place in any answer: the connection closes instead.
    Close,
}

/// A reply and what it holds until it is written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// Response memory.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
    pub(crate) files: FilesToSend,
}

/// Record sets of a fetch answer that are still in their files. They are empty in the answer's body.
#[derive(Debug, Default)]
pub(crate) struct FilesToSend {
    /// In ascending order of the record sets.
    pub(crate) ranges: Vec<RecordsInFile>,
    /// Their places among all that the node sends.
    pub(crate) places: Option<OwnedSemaphorePermit>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct RecordsInFile {
    /// Which record set of the answer it is, counted from 0.
    pub(crate) record_set: usize,
    pub(crate) range: FileRange,
}

impl FilesToSend {
    pub(crate) fn len_bytes(&self) -> usize {
        self.ranges.iter().map(|file| file.range.len_bytes()).sum()
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer {
            reply,
            memory: None,
            files: FilesToSend::default(),
        }
    }
}

impl Broker {
    /// Handles one request. Never fails: what goes wrong is in the reply.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        context: &RequestContext,
        version: i16,
        body: RequestBody,
    ) -> Answer {
        #[cfg(test)]
        panic_injection(context);
        let key = body.api_key();
        let started = self.clock.instant();
        let access = self.access(context, key);
        let answer = match access.is_unlimited() {
            true => self.answer(context, version, body).await,
            // On the heap, so that an idle connection stays small.
            false => Box::pin(self.answer_allowed(&access, context, version, body)).await,
        };
        self.telemetry.request(key, self.clock.instant() - started);
        if let Reply::Body(body) = &answer.reply {
            self.telemetry.errors(body);
        }
        answer
    }

    /// Answers what the sender may ask, and refuses the rest.
    async fn answer_allowed(
        self: &Arc<Self>,
        access: &Access<'_>,
        context: &RequestContext,
        version: i16,
        body: RequestBody,
    ) -> Answer {
        match judge(access, version, body) {
            Verdict::Answer(reply) => reply.into(),
            Verdict::Serve(body, completion) => {
                let mut answer = self.answer(context, version, body).await;
                if let Some(complete) = completion {
                    complete(access, &mut answer.reply);
                }
                answer
            }
        }
    }

    async fn answer(self: &Arc<Self>, context: &RequestContext, version: i16, body: RequestBody) -> Answer {
        match body {
            RequestBody::Produce(request) => produce::handle(self, context, version, request).await.into(),
            RequestBody::Fetch(request) => fetch::handle(self, context, version, request).await,
            // The rest is rarer and larger: on the heap, so that an idle connection stays small.
            other => Box::pin(self.handle_other(context, version, other)).await.into(),
        }
    }

    async fn handle_other(
        self: &Arc<Self>,
        context: &RequestContext,
        version: i16,
        body: RequestBody,
    ) -> Reply {
        Reply::Body(match body {
            RequestBody::ApiVersions(r) => ResponseBody::ApiVersions(api_versions::handle(self, version, &r)),
            // On a listener with SASL the connection itself answers.
            RequestBody::SaslHandshake(_) => ResponseBody::SaslHandshake(sasl::handshake()),
            RequestBody::SaslAuthenticate(_) => ResponseBody::SaslAuthenticate(sasl::authenticate()),
            RequestBody::Metadata(r) => {
                ResponseBody::Metadata(metadata::handle(self, context, version, r).await)
            }
            RequestBody::ListOffsets(r) => {
                ResponseBody::ListOffsets(list_offsets::handle(self, version, r).await)
            }
            RequestBody::OffsetForLeaderEpoch(r) => {
                ResponseBody::OffsetForLeaderEpoch(epochs::handle(self, r))
            }
            RequestBody::InitProducerId(r) => {
                ResponseBody::InitProducerId(producer_ids::handle(self, r).await)
            }
            RequestBody::FindCoordinator(r) => {
                ResponseBody::FindCoordinator(find_coordinator::handle(self, context, version, r).await)
            }
            RequestBody::JoinGroup(_)
            | RequestBody::SyncGroup(_)
            | RequestBody::Heartbeat(_)
            | RequestBody::LeaveGroup(_)
            | RequestBody::OffsetCommit(_)
            | RequestBody::OffsetFetch(_)
            | RequestBody::ConsumerGroupHeartbeat(_) => groups::handle(self, context, version, body).await,
            RequestBody::DescribeGroups(_)
            | RequestBody::ListGroups(_)
            | RequestBody::DeleteGroups(_)
            | RequestBody::ConsumerGroupDescribe(_)
            | RequestBody::OffsetDelete(_) => group_admin::handle(self, context, version, body).await,
            RequestBody::CreateTopics(r) => {
                ResponseBody::CreateTopics(topics::create(self, context, version, r).await)
            }
            RequestBody::DeleteTopics(r) => {
                ResponseBody::DeleteTopics(topics::delete(self, context, version, r).await)
            }
            RequestBody::CreatePartitions(r) => {
                ResponseBody::CreatePartitions(topics::create_partitions(self, context, version, r).await)
            }
            RequestBody::DeleteRecords(r) => {
                ResponseBody::DeleteRecords(delete_records::handle(self, r).await)
            }
            RequestBody::DescribeConfigs(r) => ResponseBody::DescribeConfigs(configs::describe(self, r)),
            RequestBody::AlterConfigs(r) => ResponseBody::AlterConfigs(configs::replace(self, r).await),
            RequestBody::IncrementalAlterConfigs(r) => {
                ResponseBody::IncrementalAlterConfigs(configs::alter(self, r).await)
            }
            RequestBody::DescribeCluster(r) => {
                ResponseBody::DescribeCluster(describe_cluster::handle(self, context, version, &r))
            }
            other => return self.handle_admin(context, version, other).await,
        })
    }

    /// Requests of administrators that came with later versions of the protocol.
    async fn handle_admin(
        self: &Arc<Self>,
        context: &RequestContext,
        version: i16,
        body: RequestBody,
    ) -> Reply {
        Reply::Body(match body {
            RequestBody::AlterReplicaLogDirs(r) => {
                ResponseBody::AlterReplicaLogDirs(log_dirs::alter(self, r))
            }
            RequestBody::DescribeLogDirs(r) => {
                ResponseBody::DescribeLogDirs(log_dirs::describe(self, r).await)
            }
            RequestBody::ElectLeaders(r) => ResponseBody::ElectLeaders(elections::handle(self, r)),
            RequestBody::AlterPartitionReassignments(r) => {
                ResponseBody::AlterPartitionReassignments(reassignments::alter(self, r))
            }
            RequestBody::ListPartitionReassignments(_) => {
                ResponseBody::ListPartitionReassignments(reassignments::list())
            }
            RequestBody::DescribeClientQuotas(r) => {
                ResponseBody::DescribeClientQuotas(client_quotas::describe(self, r))
            }
            RequestBody::AlterClientQuotas(r) => {
                ResponseBody::AlterClientQuotas(client_quotas::alter(self, r).await)
            }
            RequestBody::DescribeUserScramCredentials(r) => {
                ResponseBody::DescribeUserScramCredentials(scram_users::describe(self, r))
            }
            RequestBody::AlterUserScramCredentials(r) => {
                ResponseBody::AlterUserScramCredentials(scram_users::alter(self, r).await)
            }
            RequestBody::DescribeAcls(r) => ResponseBody::DescribeAcls(acls::describe(self, r)),
            RequestBody::CreateAcls(r) => ResponseBody::CreateAcls(acls::create(self, r).await),
            RequestBody::DeleteAcls(r) => ResponseBody::DeleteAcls(acls::delete(self, r).await),
            RequestBody::DescribeQuorum(r) => ResponseBody::DescribeQuorum(quorum::handle(self, r)),
            RequestBody::UpdateFeatures(r) => {
                ResponseBody::UpdateFeatures(update_features::handle(self, version, r).await)
            }
            RequestBody::DescribeProducers(r) => ResponseBody::DescribeProducers(producers::handle(self, r)),
            RequestBody::ListConfigResources(r) => {
                ResponseBody::ListConfigResources(config_resources::handle(self, version, &r))
            }
            RequestBody::DescribeTopicPartitions(r) => {
                ResponseBody::DescribeTopicPartitions(describe_topic_partitions::handle(self, context, r))
            }
            // Not in the advertised table; the connection and the session refuse it before this.
            _ => return Reply::Close,
        })
    }
}

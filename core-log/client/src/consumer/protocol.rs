//! Subscriptions and assignments as Kafka's consumers exchange them inside JoinGroup and SyncGroup: a version
//! number, then the fields. Later versions append fields, so a version we do not know reads as the last we know.

use std::collections::BTreeMap;

use highwater_types::{ByteString, Bytes, GenerationId, PartitionId, TopicName, TopicPartition};
use highwater_wire::{
    DecodeError, FrameReader, FrameWriter, Message,
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
        consumer_protocol_subscription,
    },
};

use super::assignor::{MemberAssignment, MemberSubscription};

/// `protocol.type` of consumer groups.
pub(crate) const PROTOCOL_TYPE: ByteString = ByteString::from_static("consumer");

const LAST_VERSION: i16 = 3;

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&TopicName, Vec<i32>> {
    let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
    for tp in partitions {
        topics.entry(&tp.topic).or_default().push(tp.partition.get());
    }
    topics
}

fn encode(version: i16, message: &impl Message) -> Bytes {
    let mut writer = FrameWriter::new();
    writer.put_i16(version);
    message.encode(&mut writer, version);
    writer.finish().into_bytes()
}

fn decode<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let mut reader = FrameReader::new(bytes);
    let version = reader.i16()?;
    M::decode(&mut reader, version.clamp(0, LAST_VERSION))
}

/// Topics and partitions of a peer; names that are not legal cannot exist and are left out.
fn partitions<'a>(topics: impl Iterator<Item = (&'a ByteString, &'a Vec<i32>)>) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for (name, indexes) in topics {
        if let Ok(topic) = TopicName::new(name.clone()) {
            all.extend(
                indexes
                    .iter()
                    .map(|i| TopicPartition::new(topic.clone(), PartitionId::new(*i))),
            );
        }
    }
    all
}

/// The metadata of a JoinGroup protocol, in version 3; older readers ignore what they do not know.
pub(crate) fn encode_subscription(subscription: &MemberSubscription) -> Bytes {
    let mut topics: Vec<ByteString> = subscription
        .topics
        .iter()
        .map(|topic| topic.as_byte_string().clone())
        .collect();
    topics.sort();
    let owned = by_topic(&subscription.owned_partitions)
        .into_iter()
        .map(
            |(topic, partitions)| consumer_protocol_subscription::TopicPartition {
                topic: topic.as_byte_string().clone(),
                partitions,
            },
        );
    let message = ConsumerProtocolSubscription {
        topics,
        user_data: subscription.user_data.clone(),
        owned_partitions: owned.collect(),
        generation_id: subscription.generation.map_or(-1, GenerationId::get),
        rack_id: subscription.rack_id.clone(),
    };
    encode(LAST_VERSION, &message)
}

/// Reads what a member wrote; `member_id` and instance come from the JoinGroup response.
pub(crate) fn decode_subscription(
    member_id: ByteString,
    group_instance_id: Option<ByteString>,
    metadata: Bytes,
) -> Result<MemberSubscription, DecodeError> {
    let message: ConsumerProtocolSubscription = decode(metadata)?;
    Ok(MemberSubscription {
        member_id,
        group_instance_id,
        topics: message
            .topics
            .into_iter()
            .filter_map(|name| TopicName::new(name).ok())
            .collect(),
        user_data: message.user_data,
        owned_partitions: partitions(message.owned_partitions.iter().map(|t| (&t.topic, &t.partitions))),
        generation: (message.generation_id >= 0).then(|| GenerationId::new(message.generation_id)),
        rack_id: message.rack_id,
    })
}

/// One member's part of SyncGroup. All versions have the same bytes; 0 is understood by everybody.
pub(crate) fn encode_assignment(assignment: &MemberAssignment) -> Bytes {
    let assigned = by_topic(&assignment.partitions)
        .into_iter()
        .map(
            |(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic: topic.as_byte_string().clone(),
                partitions,
            },
        );
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: assignment.user_data.clone(),
    };
    encode(0, &message)
}

/// Reads this member's part. No bytes at all mean nothing was assigned, as a leader that knew nothing leaves it.
pub(crate) fn decode_assignment(
    member_id: ByteString,
    bytes: Bytes,
) -> Result<MemberAssignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(MemberAssignment {
            member_id,
            ..Default::default()
        });
    }
    let message: ConsumerProtocolAssignment = decode(bytes)?;
    let partitions = partitions(
        message
            .assigned_partitions
            .iter()
            .map(|t| (&t.topic, &t.partitions)),
    );
    Ok(MemberAssignment {
        member_id,
        partitions,
        user_data: message.user_data,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::assignor::testing::{member, topic},
        *,
    };

    /// Bytes as the Java client writes them for topics t, nothing owned, before the first generation, no rack.
    #[test]
    fn a_subscription_has_the_bytes_of_kafkas_protocol() {
        let bytes = encode_subscription(&member("m", &["t"]));
        let expected: &[u8] = &[
            0, 3, // version
            0, 0, 0, 1, 0, 1, b't', // topics
            0xff, 0xff, 0xff, 0xff, // no user data
            0, 0, 0, 0, // nothing owned
            0xff, 0xff, 0xff, 0xff, // no generation
            0xff, 0xff, // no rack
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_owned_survives_the_way_through_the_coordinator() {
        let mut subscription = member("m", &["a", "b"]);
        subscription.group_instance_id = Some("one".into());
        subscription.owned_partitions = [("a", 0), ("a", 3), ("b", 1)]
            .map(|(t, p)| TopicPartition::new(topic(t), PartitionId::new(p)))
            .into();
        subscription.generation = Some(GenerationId::new(7));
        subscription.user_data = Some(Bytes::from_static(b"mine"));
        subscription.rack_id = Some("east".into());
        let bytes = encode_subscription(&subscription);
        assert_eq!(
            decode_subscription("m".into(), Some("one".into()), bytes),
            Ok(subscription)
        );
    }

    #[test]
    fn versions_before_and_after_ours_are_read() {
        let v0: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 0];
        let read = decode_subscription("m".into(), None, Bytes::from_static(v0)).expect("reads");
        assert_eq!(read.topics, [topic("t")]);
        assert_eq!(read.generation, None);

        let mut v9 = encode_subscription(&member("m", &["t"])).to_vec();
        v9[1] = 9;
        v9.extend_from_slice(b"fields of the future");
        assert!(decode_subscription("m".into(), None, v9.into()).is_ok());
    }

    #[test]
    fn an_assignment_goes_around_and_nothing_means_nothing() {
        let partitions = vec![TopicPartition::new(topic("t"), PartitionId::new(2))];
        let assignment = MemberAssignment {
            member_id: "m".into(),
            partitions,
            user_data: None,
        };
        let bytes = encode_assignment(&assignment);
        assert_eq!(bytes[..2], [0, 0], "version 0");
        assert_eq!(decode_assignment("m".into(), bytes), Ok(assignment));
        let nothing = decode_assignment("m".into(), Bytes::new()).expect("reads");
        assert!(nothing.partitions.is_empty());
    }

    #[test]
    fn a_cut_subscription_is_an_error_not_a_panic() {
        let whole = encode_subscription(&member("m", &["t"]));
        for length in 0..whole.len() {
            assert!(
                decode_subscription("m".into(), None, whole.slice(..length)).is_err(),
                "{length} bytes"
            );
        }
    }
}

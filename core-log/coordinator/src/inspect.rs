//! The records of `__consumer_offsets` for people: named values instead of structs.
//!
//! Refuses: nothing; what cannot be read is described as that.

use bytes::Bytes;

use crate::records::{GroupMetadataValue, OffsetCommitValue, RecordKey};
use crate::subscription::subscribed_topics;

/// One record of a group, or why it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// `commit`, `group`, `member`, or `unreadable`.
    pub kind: &'static str,
    /// Values by name, in reading order.
    pub fields: Vec<(&'static str, String)>,
}

/// What a record of `__consumer_offsets` says: the record itself, and for a group one row more per member.
pub fn describe(key: &Bytes, value: Option<&Bytes>) -> Vec<Described> {
    let decoded = match RecordKey::decode(key.clone()) {
        Ok(decoded) => decoded,
        Err(error) => return vec![unreadable(error.to_string())],
    };
    match decoded {
        RecordKey::OffsetCommit(key) => {
            let names = vec![
                ("group", key.group.to_string()),
                ("topic", key.topic.to_string()),
                ("partition", key.partition.to_string()),
            ];
            vec![commit(names, value)]
        }
        RecordKey::GroupMetadata(key) => group(key.group.to_string(), value),
        #[allow(
            unreachable_patterns,
            reason = "kinds of keys that come later are shown as they are"
        )]
        other => vec![Described {
            kind: "record",
            fields: vec![("key", format!("{other:?}"))],
        }],
    }
}

fn unreadable(why: String) -> Described {
    Described {
        kind: "unreadable",
        fields: vec![("why", why)],
    }
}

fn commit(mut fields: Vec<(&'static str, String)>, value: Option<&Bytes>) -> Described {
    let Some(value) = value else {
        fields.push(("deleted", "true".to_owned()));
        return Described {
            kind: "commit",
            fields,
        };
    };
    match OffsetCommitValue::decode(value.clone()) {
        Ok(value) => {
            fields.push(("offset", value.offset.to_string()));
            if let Some(epoch) = value.leader_epoch {
                fields.push(("leader_epoch", epoch.to_string()));
            }
            fields.push(("metadata", value.metadata.to_string()));
            fields.push(("commit_timestamp", value.commit_timestamp.to_string()));
            if let Some(expires) = value.expire_timestamp {
                fields.push(("expire_timestamp", expires.to_string()));
            }
            Described {
                kind: "commit",
                fields,
            }
        }
        Err(error) => unreadable(error.to_string()),
    }
}

fn group(name: String, value: Option<&Bytes>) -> Vec<Described> {
    let mut fields = vec![("group", name.clone())];
    let Some(value) = value else {
        fields.push(("deleted", "true".to_owned()));
        return vec![Described {
            kind: "group",
            fields,
        }];
    };
    let value = match GroupMetadataValue::decode(value.clone()) {
        Ok(value) => value,
        Err(error) => return vec![unreadable(error.to_string())],
    };
    fields.push(("protocol_type", value.protocol_type.to_string()));
    fields.push(("generation", value.generation.to_string()));
    fields.push(("protocol", text(value.protocol)));
    fields.push(("leader", text(value.leader)));
    fields.push(("members", value.members.len().to_string()));
    let mut rows = vec![Described {
        kind: "group",
        fields,
    }];
    for member in value.members {
        let topics = subscribed_topics(&member.subscription).map(|topics| {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            topics.join(",")
        });
        rows.push(Described {
            kind: "member",
            fields: vec![
                ("group", name.clone()),
                ("member_id", member.member_id.to_string()),
                ("group_instance_id", text(member.group_instance_id)),
                ("client_id", member.client_id.to_string()),
                ("client_host", member.client_host.to_string()),
                ("session_timeout_ms", member.session_timeout_ms.to_string()),
                ("rebalance_timeout_ms", member.rebalance_timeout_ms.to_string()),
                ("topics", topics.unwrap_or_else(|_| "unknown".to_owned())),
                ("assignment_bytes", member.assignment.len().to_string()),
            ],
        });
    }
    rows
}

fn text(value: Option<bytestring::ByteString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp};

    use super::*;
    use crate::records::{OffsetCommitKey, OffsetCommitValueVersion};

    fn shown(rows: &[Described]) -> Vec<String> {
        let row = |row: &Described| {
            let fields: Vec<String> = row
                .fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{} {}", row.kind, fields.join(" "))
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn commits_and_their_deletion_are_named() {
        let key = RecordKey::OffsetCommit(OffsetCommitKey {
            group: "g".into(),
            topic: "t".into(),
            partition: PartitionId::new(3),
        });
        let value = OffsetCommitValue {
            offset: Offset::new(42),
            leader_epoch: Some(LeaderEpoch::new(1)),
            metadata: "note".into(),
            commit_timestamp: Timestamp::new(7),
            expire_timestamp: None,
        };
        let (key, value) = (
            key.encode().unwrap(),
            value.encode(OffsetCommitValueVersion::V3).unwrap(),
        );
        assert_eq!(
            shown(&describe(&key, Some(&value))),
            ["commit group=g topic=t partition=3 offset=42 leader_epoch=1 metadata=note commit_timestamp=7"]
        );
        assert_eq!(
            shown(&describe(&key, None)),
            ["commit group=g topic=t partition=3 deleted=true"]
        );
    }

    #[test]
    fn bytes_that_are_no_record_are_unreadable() {
        for key in [&b""[..], b"\x00\x01", b"\x00\x63abc", b"\x00\x01\x7f\xff"] {
            let rows = describe(&Bytes::copy_from_slice(key), Some(&Bytes::from_static(b"\x00")));
            assert_eq!(rows[0].kind, "unreadable", "{key:?}");
        }
    }
}

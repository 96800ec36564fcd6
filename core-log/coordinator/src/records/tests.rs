//! Golden bytes, round trips and damage.

use proptest::prelude::*;

use super::*;

fn text(value: &str) -> ByteString {
    ByteString::from(value)
}

fn commit() -> OffsetCommitValue {
    OffsetCommitValue {
        offset: Offset::new(258),
        leader_epoch: Some(LeaderEpoch::new(3)),
        metadata: text("m"),
        commit_timestamp: Timestamp::new(0x0102),
        expire_timestamp: None,
    }
}

fn group() -> GroupMetadataValue {
    GroupMetadataValue {
        protocol_type: text("consumer"),
        generation: GenerationId::new(7),
        protocol: Some(text("range")),
        leader: Some(text("m1")),
        current_state_timestamp: Some(Timestamp::new(5)),
        members: vec![MemberMetadata {
            member_id: text("m1"),
            group_instance_id: None,
            client_id: text("c"),
            client_host: text("/h"),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 10_000,
            subscription: Bytes::from_static(b"sub"),
            assignment: Bytes::from_static(b""),
        }],
    }
}

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keys_have_kafkas_bytes() {
    let offset = RecordKey::OffsetCommit(OffsetCommitKey {
        group: text("g"),
        topic: text("top"),
        partition: PartitionId::new(9),
    });
    assert_eq!(
        hex(&offset.encode().unwrap()),
        "0001000167000374 6f7000000009".replace(' ', "")
    );
    let metadata = RecordKey::GroupMetadata(GroupMetadataKey { group: text("g") });
    assert_eq!(hex(&metadata.encode().unwrap()), "0002000167");
    for key in [offset, metadata] {
        assert_eq!(RecordKey::decode(key.encode().unwrap()).unwrap(), key);
    }
}

#[test]
fn committed_offsets_have_kafkas_bytes_in_each_version() {
    let with_expiry = OffsetCommitValue {
        leader_epoch: None,
        expire_timestamp: Some(Timestamp::new(0x0304)),
        ..commit()
    };
    let cases = [
        // version, offset, metadata, commit timestamp, expire timestamp
        (
            with_expiry,
            OffsetCommitValueVersion::V1,
            "0001 0000000000000102 00016d 0000000000000102 0000000000000304",
        ),
        // version, offset, leader epoch, metadata, commit timestamp
        (
            commit(),
            OffsetCommitValueVersion::V3,
            "0003 0000000000000102 00000003 00016d 0000000000000102",
        ),
        // the same with a compact string and an empty list of tagged fields
        (
            commit(),
            OffsetCommitValueVersion::V4,
            "0004 0000000000000102 00000003 026d 0000000000000102 00",
        ),
    ];
    for (value, version, expected) in cases {
        let bytes = value.encode(version).unwrap();
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{version:?}");
        assert_eq!(OffsetCommitValue::decode(bytes).unwrap(), value, "{version:?}");
    }
}

#[test]
fn group_metadata_has_kafkas_bytes_in_each_version() {
    let fixed = "0003 0008636f6e73756d6572 00000007 000572616e6765 00026d31 0000000000000005 00000001 \
                 00026d31 ffff 000163 00022f68 000493e0 00002710 00000003737562 00000000";
    let flexible = "0004 09636f6e73756d6572 00000007 0672616e6765 036d31 0000000000000005 02 \
                    036d31 00 0263 032f68 000493e0 00002710 04737562 01 00 00";
    let cases = [
        (GroupMetadataValueVersion::V3, fixed),
        (GroupMetadataValueVersion::V4, flexible),
    ];
    for (version, expected) in cases {
        let bytes = group().encode(version).unwrap();
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{version:?}");
        assert_eq!(GroupMetadataValue::decode(bytes).unwrap(), group(), "{version:?}");
    }
}

#[test]
fn values_of_old_versions_are_read() {
    let commit_v0 = Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\x09");
    let commit = OffsetCommitValue::decode(commit_v0).unwrap();
    assert_eq!(
        (
            commit.offset.get(),
            commit.commit_timestamp.get(),
            commit.leader_epoch
        ),
        (5, 9, None)
    );

    // version 0: neither state timestamp nor rebalance timeout nor instance id
    let group_v0 = Bytes::from_static(
        b"\0\0\0\x01p\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01\0\x01m\0\x01c\0\x01h\0\0\x27\x10\0\0\0\x01s\0\0\0\x01a",
    );
    let group = GroupMetadataValue::decode(group_v0).unwrap();
    assert_eq!(
        (group.protocol, group.leader, group.current_state_timestamp),
        (None, None, None)
    );
    assert_eq!(
        (
            group.members[0].rebalance_timeout_ms,
            group.members[0].session_timeout_ms
        ),
        (-1, 10_000)
    );
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // One tagged field: tag 0, 2 bytes. Kafka 4.1 puts a topic id there.
    let bytes = b"\0\x04\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\x01\0\0\0\0\0\0\0\x09\x01\x00\x02ab";
    let value = OffsetCommitValue::decode(Bytes::from_static(bytes)).unwrap();
    assert_eq!(value.offset.get(), 5);
}

#[test]
fn versions_of_the_future_are_named() {
    let error = OffsetCommitValue::decode(Bytes::from_static(b"\0\x05")).unwrap_err();
    assert_eq!(
        error,
        ReplayError::UnknownValueVersion {
            kind: "OffsetCommitValue",
            version: 5
        }
    );
}

#[test]
fn a_string_that_no_reader_would_take_is_not_written() {
    let key = RecordKey::GroupMetadata(GroupMetadataKey {
        group: text(&"x".repeat(40_000)),
    });
    assert_eq!(
        key.encode().unwrap_err(),
        EncodeError {
            field: "group",
            length_bytes: 40_000
        }
    );
}

fn any_group() -> impl Strategy<Value = GroupMetadataValue> {
    let member = (
        ".{0,9}",
        proptest::option::of(".{0,9}"),
        ".{0,300}",
        any::<[i32; 2]>(),
        any::<Vec<u8>>(),
    );
    let members = proptest::collection::vec(member, 0..4);
    let names = (
        ".{0,9}",
        proptest::option::of(".{0,9}"),
        proptest::option::of(".{0,9}"),
    );
    (names, any::<i32>(), proptest::option::of(0i64..), members).prop_map(
        |(names, generation, since, members)| {
            let members = members
                .into_iter()
                .map(|(id, instance, host, timeouts, bytes)| MemberMetadata {
                    member_id: id.into(),
                    group_instance_id: instance.map(Into::into),
                    client_id: text("c"),
                    client_host: host.into(),
                    rebalance_timeout_ms: timeouts[0],
                    session_timeout_ms: timeouts[1],
                    subscription: Bytes::from(bytes.clone()),
                    assignment: Bytes::from(bytes),
                });
            GroupMetadataValue {
                protocol_type: names.0.into(),
                generation: GenerationId::new(generation),
                protocol: names.1.map(Into::into),
                leader: names.2.map(Into::into),
                current_state_timestamp: since.map(Timestamp::new),
                members: members.collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn group_metadata_survives_both_layouts(group in any_group()) {
        for version in [GroupMetadataValueVersion::V3, GroupMetadataValueVersion::V4] {
            let bytes = group.encode(version).unwrap();
            prop_assert_eq!(GroupMetadataValue::decode(bytes).unwrap(), group.clone());
        }
    }

    #[test]
    fn damaged_records_never_panic(group in any_group(), cut in 0usize..400, flip in any::<(usize, u8)>()) {
        for version in [GroupMetadataValueVersion::V3, GroupMetadataValueVersion::V4] {
            let mut bytes = group.encode(version).unwrap().to_vec();
            let at = flip.0 % bytes.len();
            bytes[at] ^= flip.1;
            bytes.truncate(cut);
            let bytes = Bytes::from(bytes);
            let _ = GroupMetadataValue::decode(bytes.clone());
            let _ = OffsetCommitValue::decode(bytes.clone());
            let _ = RecordKey::decode(bytes);
        }
    }
}

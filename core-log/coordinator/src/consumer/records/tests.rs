//! Golden bytes, taken from Kafka 4.1.0's own serialisation of the same values.

use highwater_types::Uuid;

use super::*;

fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: &str) -> ByteString {
    ByteString::from(value)
}

fn check(change: Change, key: &str, value: &str) {
    let record = encode(&text("g"), &change, Timestamp::new(34)).unwrap();
    let bytes = record.value.clone().unwrap();
    assert_eq!((hex(&record.key).as_str(), hex(&bytes).as_str()), (key, value));
    let mut reader = Reader::new(record.key.clone());
    let version = reader.i16("version").unwrap();
    assert!(is_consumer_key(version));
    assert_eq!(
        decode(version, &mut reader, Some(bytes.clone())).unwrap(),
        (text("g"), change)
    );
    for end in 0..bytes.len() {
        let mut reader = Reader::new(record.key.slice(2..));
        assert!(
            decode(version, &mut reader, Some(bytes.slice(..end))).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn every_record_has_kafkas_bytes_and_a_cut_one_is_refused() {
    let topic = Uuid::from_u64_pair(1, 2);
    let set = |items: &[i32]| {
        items
            .iter()
            .map(|partition| (topic, *partition))
            .collect::<Partitions>()
    };
    let group = |metadata_hash| {
        Change::Group(Some(GroupValue {
            epoch: 7,
            metadata_hash,
        }))
    };
    check(group(0), "0003000167", "00000000000700");
    check(
        group(0x0102_0304_0506_0708),
        "0003000167",
        "0000000000070100080102030405060708",
    );
    let plain = MemberMetadata {
        client_id: text("c"),
        client_host: text("/h"),
        topic_names: [text("a"), text("b")].into(),
        topic_regex: Some(text("x.*")),
        rebalance_timeout_ms: 5,
        server_assignor: Some(text("range")),
        ..Default::default()
    };
    check(
        Change::Member(text("m"), Some(plain)),
        "000500016700016d",
        "000000000263032f68030261026204782e2a000000050672616e676500",
    );
    let classic = MemberMetadata {
        instance_id: Some(text("i")),
        rack_id: Some(text("r")),
        client_id: text("c"),
        client_host: text("/h"),
        topic_names: [text("a")].into(),
        rebalance_timeout_ms: 5,
        classic: Some(ClassicTerms {
            session_timeout_ms: 9,
            protocols: vec![(text("range"), Bytes::from_static(&[1, 2]))],
        }),
        ..Default::default()
    };
    check(
        Change::Member(text("m"), Some(classic)),
        "000500016700016d",
        "0000026902720263032f680202610000000005000100110100000009020672616e67650301020000",
    );
    check(Change::TargetEpoch(Some(3)), "0006000167", "00000000000300");
    check(
        Change::Target(text("m"), Some(set(&[0, 5]))),
        "000700016700016d",
        "000002000000000000000100000000000000020300000000000000050000",
    );
    let current = CurrentAssignment {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnrevokedPartitions,
        assigned: set(&[1]),
        revoking: set(&[2]),
    };
    check(
        Change::Current(text("m"), Some(current)),
        "000800016700016d",
        "00000000000400000003010200000000000000010000000000000002020000000100020000000000000001000000000000000202000000020000",
    );
    check(
        Change::Regex(text("x.*"), Some([text("xa")].into())),
        "00100001670003782e2a",
        "00000203786100000000000000000000000000000022\
         00",
    );
}

#[test]
fn tombstones_have_no_value_and_older_kafkas_subscription_metadata_is_skipped() {
    let record = encode(&text("g"), &Change::Member(text("m"), None), Timestamp::new(0)).unwrap();
    assert_eq!(record.value, None);
    let mut reader = Reader::new(Bytes::from_static(b"\x00\x01g"));
    let skipped = decode(
        PARTITION_METADATA_KEY,
        &mut reader,
        Some(Bytes::from_static(b"whatever")),
    );
    assert_eq!(skipped.unwrap(), (text("g"), Change::SubscriptionMetadata));
}

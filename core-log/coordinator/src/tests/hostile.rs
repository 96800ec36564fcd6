//! Inputs 69 to 74 of the list of hostile inputs, and the other bounds of this crate.

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::Timestamp;
use highwater_wire::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest, OffsetCommitRequest};
use highwater_wire::{ErrorCode, ResponseBody};

use super::script::check;
use crate::{ClientContext, Effects, GroupConfig, GroupRequest, GroupShard, Monotonic, Now, RequestToken};

const NOW: Now = Now {
    monotonic: Monotonic::new(0),
    wall: Timestamp::new(0),
};

fn client(client_id: &str, number: u64) -> ClientContext {
    ClientContext {
        client_id: client_id.into(),
        client_host: "/10.0.0.1".into(),
        api_version: 3,
        member_id_seed: u128::from(number),
    }
}

fn loaded() -> GroupShard {
    let mut shard = GroupShard::new(GroupConfig::default());
    shard.loaded(NOW);
    shard
}

fn join(group: &str, metadata: Bytes) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata,
        }],
        ..Default::default()
    }
}

fn join_error(effects: &Effects) -> Option<ErrorCode> {
    effects.replies.first().map(|(_, body)| match body {
        ResponseBody::JoinGroup(join) => ErrorCode::from_code(join.error_code),
        other => panic!("another kind of reply: {other:?}"),
    })
}

#[test]
fn hostile_69_huge_subscriptions_of_many_members_end_at_the_groups_and_the_shards_bound() {
    let mut shard = loaded();
    let ten_mib = Bytes::from(vec![0; 10 << 20]);
    let mut accepted = 0;
    for number in 0..10_000 {
        let group = format!("g{}", number % 100);
        let request = GroupRequest::Join(join(&group, ten_mib.clone()));
        let effects = shard.handle(RequestToken::new(number), &client("c", number), request, NOW);
        match join_error(&effects) {
            None => accepted += 1,
            Some(code) => assert_eq!(code, ErrorCode::GroupMaxSizeReached),
        }
    }
    assert_eq!(accepted, 25, "256 MiB in all");
}

#[test]
fn hostile_69_subscription_bounds_hold_per_group() {
    check(
        "
        config max_subscription_bytes_per_group=20
        a: join g v=3 client=a protocols=range:12345
        b: join g v=3 client=b protocols=range:12345
        c: join g v=3 client=c protocols=range:1
          c: GroupMaxSizeReached member=
        same-size: join g member=a~1 protocols=range:54321
          a: RebalanceInProgress member=a~1
        larger: join g member=a~1 protocols=range:123456
          larger: GroupMaxSizeReached member=
        other: join h v=3 client=c protocols=range:1
        ",
    );
}

#[test]
fn hostile_70_session_timeouts_out_of_range_are_refused_and_make_no_group() {
    check(
        "
        join g session=0
          join: InvalidSessionTimeout member=
        join g session=-1
          join: InvalidSessionTimeout member=
        join g session=2147483647
          join: InvalidSessionTimeout member=
        negative-rebalance-timeout: join g v=3 client=a rebalance=-2147483648
        list
          list: None g:consumer:PreparingRebalance:classic
        at 3000
            3000 negative-rebalance-timeout: joined gen=1 consumer/range member=a~4 leader=a~4 [a~4:@t]
        at 10000
            3100 record g gen=2 consumer/- leader=- []
        ",
    );
}

#[test]
fn hostile_71_random_member_ids_leave_no_trace() {
    check(
        "
        join g member=random
          join: UnknownMemberId member=random
        sync g member=random gen=1
          sync: UnknownMemberId
        heartbeat g member=random gen=1
          heartbeat: UnknownMemberId
        leave g members=random
          leave: None random:UnknownMemberId
        commit g member=random gen=1 t-0=1
          commit: t-0:GroupIdNotFound
        list
          list: None
        a: join g v=3 client=a
        join g member=random
          join: UnknownMemberId member=random
        at 3000
            3000 a: joined gen=1 consumer/range member=a~2 leader=a~2 [a~2:@t]
        describe g
          describe: g None CompletingRebalance consumer/ a~2:=
        ",
    );
}

#[test]
fn hostile_72_assignments_for_unknown_members_are_ignored() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=ghost:G,a~1:A,:empty
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        describe g
          describe: g None Stable consumer/range a~1:@t=A
        ",
    );
}

#[test]
fn hostile_73_subscriptions_that_cannot_be_read_keep_offsets_safe() {
    check(
        "
        config initial_rebalance_delay_ms=0
        commit g t-0=1
          record g t-0 = 1
          commit: t-0:None
        a: join g v=3 client=a protocols=range:(a+)+$
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:(a+)+$]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        offset-delete g t-0
          offset-delete: None t-0:GroupSubscribedToTopic
        at 604800000
           10000 record g gen=2 consumer/- leader=- []
        ",
    );
}

#[test]
fn hostile_74_huge_metadata_and_negative_offsets_do_no_harm() {
    check(
        "
        commit g t-0=1/x*1048576 t-1=-5 t-2=-9223372036854775808
          record g t-1 = -5
          record g t-2 = -9223372036854775808
          commit: t-0:OffsetMetadataTooLarge t-1:None t-2:None
        fetch g all
          fetch: None g:None t-1=-5/-1/:None t-2=-9223372036854775808/-1/:None
        config max_offsets_per_group=2
        commit g t-1=7 t-5=8
          record g t-1 = 7
          commit: t-1:None t-5:PolicyViolation
        ",
    );
}

#[test]
fn hostile_74_a_hundred_thousand_partitions_in_one_commit_are_one_batch() {
    let mut shard = loaded();
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: (0..100_000).map(partition).collect(),
        }],
        ..Default::default()
    };
    let effects = shard.handle(
        RequestToken::new(1),
        &client("c", 1),
        GroupRequest::OffsetCommit(request),
        NOW,
    );
    for record in &effects.records {
        shard.replay(&record.key, record.value.as_deref()).unwrap();
    }
    assert_eq!(shard.durable().group("g").unwrap().offset_count(), 100_000);
}

#[test]
fn groups_and_members_are_capped() {
    check(
        "
        config max_groups=2 max_group_size=2
        a: join g client=a
          a: MemberIdRequired member=a~1
        b: join g client=b
          b: MemberIdRequired member=b~2
        c: join g client=c
          c: GroupMaxSizeReached member=
        a: join g member=a~1
        x: join h v=3
        full: join i v=3
          full: GroupMaxSizeReached member=
        commit i t-0=1
          commit: t-0:PolicyViolation
        ",
    );
}

#[test]
fn strings_too_long_for_a_record_are_refused_at_the_door() {
    let long = "x".repeat(40_000);
    let mut shard = loaded();
    let mut code = |request: JoinGroupRequest, client_id: &str| {
        let effects = shard.handle(
            RequestToken::new(1),
            &client(client_id, 1),
            GroupRequest::Join(request),
            NOW,
        );
        join_error(&effects)
    };
    assert_eq!(
        code(join(&long, Bytes::new()), "c"),
        Some(ErrorCode::InvalidGroupId)
    );
    assert_eq!(code(join("", Bytes::new()), "c"), Some(ErrorCode::InvalidGroupId));
    let mut request = join("g", Bytes::new());
    request.protocols[0].name = ByteString::from(long.as_str());
    assert_eq!(code(request, "c"), Some(ErrorCode::InvalidRequest));
    let mut request = join("g", Bytes::new());
    request.protocols = (0..1000)
        .map(|n| JoinGroupRequestProtocol {
            name: n.to_string().into(),
            metadata: Bytes::new(),
        })
        .collect();
    assert_eq!(code(request, "c"), Some(ErrorCode::InvalidRequest));
    // A client may call itself what it likes; its member id stays short.
    assert_eq!(code(join("g", Bytes::new()), &long), None);
    let replies = shard.unload();
    let ResponseBody::JoinGroup(response) = &replies[0].1 else {
        panic!("another kind of reply");
    };
    assert_eq!(response.member_id.len(), 255 + 37);
}

fn consumer_join(member: &str, topics: Vec<ByteString>) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: member.into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(topics),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// Does what a host does.
fn carry_out(shard: &mut GroupShard, number: u64, request: GroupRequest) -> ResponseBody {
    let client = ClientContext {
        api_version: 1,
        ..client("c", number)
    };
    let mut effects = shard.handle(RequestToken::new(number), &client, request, NOW);
    for record in &effects.records {
        shard.replay(&record.key, record.value.as_deref()).unwrap();
    }
    let (_, body) = effects.replies.pop().unwrap();
    body
}

fn consumer_error(body: &ResponseBody) -> ErrorCode {
    match body {
        ResponseBody::ConsumerGroupHeartbeat(heartbeat) => ErrorCode::from_code(heartbeat.error_code),
        other => panic!("another kind of reply: {other:?}"),
    }
}

#[test]
fn hostile_69_consumer_group_members_with_ten_mebibytes_of_topic_names_end_at_the_groups_bound() {
    let mut shard = loaded();
    let names: Vec<ByteString> = (0..350)
        .map(|number| format!("{number:0>30000}").into())
        .collect();
    let mut accepted = 0;
    for number in 0..50 {
        let request = consumer_join(&format!("m{number}"), names.clone());
        match consumer_error(&carry_out(
            &mut shard,
            number,
            GroupRequest::ConsumerHeartbeat(request),
        )) {
            ErrorCode::None => accepted += 1,
            code => assert_eq!(code, ErrorCode::GroupMaxSizeReached),
        }
    }
    assert_eq!(accepted, 6, "64 MiB in one group");
}

#[test]
fn hostile_70_extreme_rebalance_timeouts_do_no_harm() {
    check(
        "
        topics t=2
        forever: ch g member=a epoch=0 topics=t rebalance=2147483647
          record g member a reads t
          record g epoch=1
          record g target a = t-0,t-1
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1
          forever: member=a epoch=1 owns t-0,t-1
        at-once: ch g member=b epoch=0 topics=t rebalance=0
          record g member b reads t
          record g epoch=2
          record g target a = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          at-once: member=b epoch=2 owns none
        negative: ch g member=c epoch=0 topics=t rebalance=-5
          negative: InvalidRequest
        a: ch g member=a epoch=1
          record g current a epoch=1 UnrevokedPartitions t-0 revoking t-1
          a: member=a epoch=1 owns t-0
        at 46000
           45000 record g current a deleted
           45000 record g target a deleted
           45000 record g member a deleted
           45000 record g epoch=3
           45000 record g current b deleted
           45000 record g target b deleted
           45000 record g member b deleted
           45000 record g epoch=4
        ",
    );
}

#[test]
fn hostile_71_random_members_and_epochs_of_consumer_groups_leave_no_trace() {
    let mut shard = loaded();
    let before = shard.durable().clone();
    for number in 0..1_000_u64 {
        let epoch = (number as i32).wrapping_mul(2_654_435) | 1;
        let request = ConsumerGroupHeartbeatRequest {
            member_epoch: epoch,
            ..consumer_join(&format!("random-{number}"), vec!["t".into()])
        };
        let code = consumer_error(&carry_out(
            &mut shard,
            number,
            GroupRequest::ConsumerHeartbeat(request),
        ));
        assert_ne!(code, ErrorCode::None, "epoch {epoch}");
    }
    assert_eq!(*shard.durable(), before);
    assert!(shard.live_groups().is_empty());
}

#[test]
fn hostile_72_partitions_that_a_member_never_got_are_not_believed() {
    check(
        "
        topics t=2
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0,t-1
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1
          a: member=a epoch=1 owns t-0,t-1
        liar: ch g member=b epoch=0 topics=t
          record g member b reads t
          record g epoch=2
          record g target a = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          liar: member=b epoch=2 owns none
        liar: ch g member=b epoch=2 owned=t-0,t-1,t-99,nope-3
          liar: member=b epoch=2
        a: ch g member=a epoch=1 owned=t-0
          record g current a epoch=2 Stable t-0
          a: member=a epoch=2 owns t-0
        liar: ch g member=b epoch=2 owned=t-0,t-1
          record g current b epoch=2 Stable t-1
          liar: member=b epoch=2 owns t-1
        ",
    );
}

#[test]
fn hostile_73_catastrophic_patterns_are_refused_at_the_door_and_groups_have_few_of_them() {
    let mut shard = loaded();
    let with_regex = |member: &str, regex: String| ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some(regex.into()),
        ..consumer_join(member, Vec::new())
    };
    for pattern in ["(a{1000}){1000}", "(", "a)|(b", "(?=a)", &"(a+)+".repeat(1_000)] {
        let request = GroupRequest::ConsumerHeartbeat(with_regex("m", pattern.to_owned()));
        let code = consumer_error(&carry_out(&mut shard, 1, request));
        assert_eq!(code, ErrorCode::InvalidRegularExpression, "{pattern}");
    }
    let mut accepted = 0;
    for number in 0..100 {
        let request = with_regex(&format!("m{number}"), format!("(a+)+{number}"));
        match consumer_error(&carry_out(
            &mut shard,
            number,
            GroupRequest::ConsumerHeartbeat(request),
        )) {
            ErrorCode::None => accepted += 1,
            code => assert_eq!(code, ErrorCode::GroupMaxSizeReached),
        }
    }
    assert_eq!(accepted, crate::limits::MAX_REGEXES_PER_GROUP);
}

#[test]
fn a_thousand_members_join_a_consumer_group_and_leave_it() {
    let mut shard = loaded();
    for number in 0..1_000 {
        let request = consumer_join(&format!("m{number}"), vec!["t".into()]);
        let body = carry_out(&mut shard, number, GroupRequest::ConsumerHeartbeat(request));
        assert_eq!(consumer_error(&body), ErrorCode::None);
    }
    assert_eq!(shard.durable().group("g").unwrap().member_count(), 1_000);
    for number in 0..1_000 {
        let request = ConsumerGroupHeartbeatRequest {
            member_epoch: -1,
            ..consumer_join(&format!("m{number}"), Vec::new())
        };
        let body = carry_out(&mut shard, number, GroupRequest::ConsumerHeartbeat(request));
        assert_eq!(consumer_error(&body), ErrorCode::None);
    }
    assert_eq!(shard.durable().group("g").unwrap().member_count(), 0);
}

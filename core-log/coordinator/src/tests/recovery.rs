//! Restart, move and failed appends.

use highwater_types::Timestamp;
use highwater_wire::ResponseBody;
use highwater_wire::messages::{HeartbeatRequest, OffsetFetchRequest};

use super::script::check;
use crate::{
    ClientContext, GroupConfig, GroupRequest, GroupShard, Monotonic, Now, ReplayError, RequestToken,
};

#[test]
fn semantic_67_members_of_a_restarted_coordinator_need_not_join_again() {
    check(
        "
        a: join g v=3 client=a session=10000
        b: join g v=3 client=b session=20000
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=B]
          a: synced consumer/range assignment=A
        b: sync g member=b~2 gen=1
          b: synced consumer/range assignment=B
        commit g member=a~1 gen=1 t-0=5
          record g t-0 = 5
          commit: t-0:None
        at 9000
        restart
        describe g
          describe: g None Stable consumer/range a~1:@t=A b~2:@t=B
        at 18999
        heartbeat g member=b~2 gen=1
          heartbeat: None
        sync g member=b~2 gen=1
          sync: synced consumer/range assignment=B
        commit g member=b~2 gen=1 t-1=6
          record g t-1 = 6
          commit: t-1:None
        at 19000
        heartbeat g member=b~2 gen=1
          heartbeat: RebalanceInProgress
        heartbeat g member=a~1 gen=1
          heartbeat: UnknownMemberId
        fetch g all
          fetch: None g:None t-0=5/-1/:None t-1=6/-1/:None
        ",
    );
}

#[test]
fn semantic_67_static_members_are_still_known_after_a_restart() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        restart
        join g client=a instance=ia
          record g gen=1 consumer/range leader=ia~2 [ia~2(ia)=A]
          join: joined gen=1 consumer/range member=ia~2 leader=ia~2 [ia~2:@t] skip-assignment
        sync g member=ia~2 gen=1
          sync: synced consumer/range assignment=A
        ",
    );
}

#[test]
fn semantic_67_a_rebalance_that_was_under_way_is_forgotten_and_the_old_generation_stands() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        b: join g v=3 client=b
        a: join g member=a~1
          a: joined gen=2 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
          b: joined gen=2 consumer/range member=b~2 leader=a~1
        restart
        describe g
          describe: g None Stable consumer/range a~1:@t=A
        a: sync g member=a~1 gen=2 assign=a~1:A
          a: IllegalGeneration
        a: heartbeat g member=a~1 gen=1
          a: None
        b: sync g member=b~2 gen=2
          b: UnknownMemberId
        ",
    );
}

#[test]
fn semantic_67_whoever_waits_is_sent_away_when_the_partition_moves() {
    check(
        "
        a: join g v=3 client=a
        b: join h v=3 client=b
        at 3000
            3000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
            3000 b: joined gen=1 consumer/range member=b~2 leader=b~2 [b~2:@t]
        c: join g v=3 client=c
        sync h member=b~2 gen=1 assign=b~2:B
          record h gen=1 consumer/range leader=b~2 [b~2=B]
          sync: synced consumer/range assignment=B
        d: join i client=d instance=d
        unload
          c: NotCoordinator member=c~3
          d: NotCoordinator member=d~4
        join g v=3
          join: CoordinatorLoadInProgress member=
        sync g
          sync: CoordinatorLoadInProgress
        heartbeat g
          heartbeat: None
        leave g members=a~1
          leave: CoordinatorLoadInProgress
        commit g t-0=1
          commit: t-0:CoordinatorLoadInProgress
        fetch g t-0
          fetch: None g:CoordinatorLoadInProgress
        fetch g t-0 v=5
          fetch: CoordinatorLoadInProgress
        fetch g t-0 v=1
          fetch: None t-0=-1/-1/:CoordinatorLoadInProgress
        describe g
          describe: g CoordinatorLoadInProgress - /
        list
          list: CoordinatorLoadInProgress
        delete g
          delete: g:CoordinatorLoadInProgress
        offset-delete g t-0
          offset-delete: CoordinatorLoadInProgress
        ",
    );
}

#[test]
fn an_assignment_whose_record_cannot_be_written_is_not_handed_out() {
    check(
        "
        a: join g v=3 client=a
        b: join g v=3 client=b
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        b: sync g member=b~2 gen=1
        fail NotLeaderOrFollower
        a: sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          a: NotCoordinator
          b: NotCoordinator
        describe g
          describe: g None CompletingRebalance consumer/ a~1:= b~2:=
        a: join g member=a~1
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
        a: sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=B]
          a: synced consumer/range assignment=A
        b: sync g member=b~2 gen=1
          b: synced consumer/range assignment=B
        ",
    );
}

#[test]
fn a_commit_that_cannot_be_written_fails_each_partition_and_changes_nothing() {
    check(
        "
        commit g t-0=1
          record g t-0 = 1
          commit: t-0:None
        fail MessageTooLarge
        commit g t-0=2 t-1=3
          commit: t-0:InvalidCommitOffsetSize t-1:InvalidCommitOffsetSize
        fail RequestTimedOut
        delete g
          delete: g:CoordinatorNotAvailable
        fail NotEnoughReplicas
        offset-delete g t-0
          offset-delete: CoordinatorNotAvailable
        fetch g all
          fetch: None g:None t-0=1/-1/:None
        ",
    );
}

#[test]
fn a_group_deleted_by_its_tombstone_is_gone_after_a_restart_too() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        leave g members=a~1
          record g gen=2 consumer/- leader=- []
          leave: None a~1:None
        delete g
          record g deleted
          delete: g:None
        restart
        describe g
          describe: g GroupIdNotFound Dead /
        b: join g v=3 client=b
          b: joined gen=1 consumer/range member=b~2 leader=b~2 [b~2:@t]
        ",
    );
}

#[test]
fn hostile_58_garbage_in_the_partition_is_reported_and_changes_nothing() {
    let mut shard = GroupShard::new(GroupConfig::default());
    let before = shard.durable().clone();
    for key in [
        &b""[..],
        b"\x00",
        b"\x00\x01\x00\x05ab",
        b"\x00\x02\x7f\xff",
        b"\xff\xff",
        b"\x00\x02\x00\x01\xff",
    ] {
        assert!(shard.replay(key, Some(b"\x00\x03")).is_err(), "{key:?}");
    }
    let future = shard.replay(b"\x00\x09\x00\x01g", None);
    assert_eq!(future, Err(ReplayError::UnknownKeyVersion { version: 9 }));
    // A group record that claims two billion members.
    let greedy = b"\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xff";
    assert!(shard.replay(b"\x00\x02\x00\x01g", Some(greedy)).is_err());
    assert_eq!(*shard.durable(), before);
}

#[test]
fn semantic_67_requests_before_the_partition_is_loaded_are_told_to_come_back() {
    let mut shard = GroupShard::new(GroupConfig::default());
    let now = Now {
        monotonic: Monotonic::new(0),
        wall: Timestamp::new(0),
    };
    let client = ClientContext {
        client_id: "c".into(),
        client_host: "/".into(),
        api_version: 5,
        member_id_seed: 0,
    };
    let request = GroupRequest::OffsetFetch(OffsetFetchRequest::default());
    let effects = shard.handle(RequestToken::new(1), &client, request, now);
    let (_, ResponseBody::OffsetFetch(fetch)) = &effects.replies[0] else {
        panic!("another kind of reply");
    };
    assert_eq!(fetch.error_code, 14);

    let request = GroupRequest::Heartbeat(HeartbeatRequest::default());
    let effects = shard.handle(RequestToken::new(2), &client, request, now);
    let (_, ResponseBody::Heartbeat(heartbeat)) = &effects.replies[0] else {
        panic!("another kind of reply");
    };
    assert_eq!(heartbeat.error_code, 0, "a heartbeat does no harm while loading");
}

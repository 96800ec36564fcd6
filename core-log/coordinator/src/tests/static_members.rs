//! KIP-345 and KIP-814.

use super::script::check;

#[test]
fn semantic_66_a_static_member_takes_over_without_a_rebalance_and_the_old_one_is_fenced() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 instance=ia assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        b: join g client=b instance=ib
        a: join g member=ia~1 instance=ia
          a: joined gen=2 consumer/range member=ia~1 leader=ia~1 [ia~1:@t ib~2:@t]
          b: joined gen=2 consumer/range member=ib~2 leader=ia~1
        a: sync g member=ia~1 gen=2 instance=ia assign=ia~1:A,ib~2:B
          record g gen=2 consumer/range leader=ia~1 [ia~1(ia)=A ib~2(ib)=B]
          a: synced consumer/range assignment=A
        b: sync g member=ib~2 gen=2 instance=ib
          b: synced consumer/range assignment=B
        b-restarts: join g client=b instance=ib
          record g gen=2 consumer/range leader=ia~1 [ia~1(ia)=A ib~4(ib)=B]
          b-restarts: joined gen=2 consumer/range member=ib~4 leader=ia~1
        b: sync g member=ib~4 gen=2 instance=ib
          b: synced consumer/range assignment=B
        old-heartbeat: heartbeat g member=ib~2 gen=2 instance=ib
          old-heartbeat: FencedInstanceId
        old-join: join g member=ib~2 instance=ib
          old-join: FencedInstanceId member=ib~2
        old-sync: sync g member=ib~2 gen=2 instance=ib
          old-sync: FencedInstanceId
        old-commit: commit g member=ib~2 gen=2 instance=ib t-0=1
          old-commit: t-0:FencedInstanceId
        old-leave: leave g members=ib~2
          old-leave: None ib~2:UnknownMemberId
        new: heartbeat g member=ib~4 gen=2 instance=ib
          new: None
        unknown-instance: heartbeat g member=ib~4 gen=2 instance=nope
          unknown-instance: UnknownMemberId
        a: heartbeat g member=ia~1 gen=2 instance=ia
          a: None
        ",
    );
}

#[test]
fn semantic_66_a_restarting_leader_is_told_to_skip_the_assignment_from_version_9_on() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        v9: join g client=a instance=ia v=9
          record g gen=1 consumer/range leader=ia~2 [ia~2(ia)=A]
          v9: joined gen=1 consumer/range member=ia~2 leader=ia~2 [ia~2:@t] skip-assignment
        sync g member=ia~2 gen=1
          sync: synced consumer/range assignment=A
        v8: join g client=a instance=ia v=8
          record g gen=1 consumer/range leader=ia~3 [ia~3(ia)=A]
          v8: joined gen=1 consumer/range member=ia~3 leader=ia~2
        describe g
          describe: g None Stable consumer/range ia~3:@t=A
        ",
    );
}

#[test]
fn a_takeover_that_changes_the_protocol_starts_a_rebalance() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia protocols=range:R,sticky:S
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:R]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        again: join g client=a instance=ia protocols=sticky:S,range:R
          again: joined gen=2 consumer/sticky member=ia~2 leader=ia~2 [ia~2:S]
        ",
    );
}

#[test]
fn a_takeover_during_a_rebalance_fences_the_waiting_request_of_the_old_member() {
    check(
        "
        a: join g client=a instance=ia
        again: join g client=a instance=ia
          a: FencedInstanceId member=ia~1
        at 3000
            3000 again: joined gen=1 consumer/range member=ia~2 leader=ia~2 [ia~2:@t]
        follower: join g client=f instance=if
        lead: join g member=ia~2 instance=ia
          lead: joined gen=2 consumer/range member=ia~2 leader=ia~2 [ia~2:@t if~3:@t]
          follower: joined gen=2 consumer/range member=if~3 leader=ia~2
        waits: sync g member=if~3 gen=2
        replaced: join g client=f instance=if
          waits: FencedInstanceId
        lead: join g member=ia~2 instance=ia
          lead: joined gen=3 consumer/range member=ia~2 leader=ia~2 [ia~2:@t if~5:@t]
          replaced: joined gen=3 consumer/range member=if~5 leader=ia~2
        ",
    );
}

#[test]
fn a_takeover_whose_record_cannot_be_written_leaves_the_old_member_in_place() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        fail NotEnoughReplicas
        again: join g client=a instance=ia
          again: CoordinatorNotAvailable member=
        old: heartbeat g member=ia~1 gen=1 instance=ia
          old: None
        new: heartbeat g member=ia~2 gen=1 instance=ia
          new: FencedInstanceId
        at 10000
           10000 record g gen=2 consumer/- leader=- []
        ",
    );
}

#[test]
fn a_static_member_that_misses_a_rebalance_keeps_its_place_until_its_assignment_waits_too_long() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia session=15000 rebalance=10000
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        b: join g v=3 client=b session=60000 rebalance=10000
        at 10000
           10000 b: joined gen=2 consumer/range member=b~2 leader=b~2 [b~2:@t ia~1:@t]
        sync g member=b~2 gen=2 assign=b~2:B,ia~1:A
          record g gen=2 consumer/range leader=b~2 [b~2=B ia~1(ia)=A]
          sync: synced consumer/range assignment=B
        at 19999
        heartbeat g member=b~2 gen=2
          heartbeat: None
        at 20000
        heartbeat g member=b~2 gen=2
          heartbeat: RebalanceInProgress
        ",
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g client=a instance=ia
          a: joined gen=1 consumer/range member=ia~1 leader=ia~1 [ia~1:@t]
        sync g member=ia~1 gen=1 assign=ia~1:A
          record g gen=1 consumer/range leader=ia~1 [ia~1(ia)=A]
          sync: synced consumer/range assignment=A
        leave g members=@nope,@ia
          record g gen=2 consumer/- leader=- []
          leave: None @nope:UnknownMemberId @ia:None
        ",
    );
}

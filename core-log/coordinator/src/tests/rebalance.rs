//! Joining, voting, syncing, heartbeats, leaving.

use super::script::check;

#[test]
fn semantic_57_a_dynamic_member_gets_its_id_first_and_the_id_is_pending_for_the_session_timeout() {
    check(
        "
        join g client=a session=8000
          join: MemberIdRequired member=a~1
        describe g
          describe: g None Empty /
        at 7999
        at 8000
        join g member=a~1
          join: UnknownMemberId member=a~1
        first: join g v=3 client=old session=8000
        static: join g client=s instance=i session=8000
        ",
    );
}

#[test]
fn semantic_58_session_timeouts_have_a_range_and_the_rebalance_timeout_drops_members_not_the_group() {
    check(
        "
        join g session=5999
          join: InvalidSessionTimeout member=
        join g session=1800001
          join: InvalidSessionTimeout member=
        config initial_rebalance_delay_ms=0
        a1: join g v=3 client=a session=30000 rebalance=20000
          a1: joined gen=1 consumer/range member=a~3 leader=a~3 [a~3:@t]
        sync g member=a~3 gen=1 assign=a~3:A
          record g gen=1 consumer/range leader=a~3 [a~3=A]
          sync: synced consumer/range assignment=A
        b1: join g v=3 client=b session=6000 rebalance=20000
        heartbeat g member=a~3 gen=1
          heartbeat: RebalanceInProgress
        at 19999
        at 20000
           20000 b1: joined gen=2 consumer/range member=b~4 leader=b~4 [b~4:@t]
        sync g member=b~4 gen=2 assign=b~4:B
          record g gen=2 consumer/range leader=b~4 [b~4=B]
          sync: synced consumer/range assignment=B
        heartbeat g member=a~3 gen=2
          heartbeat: UnknownMemberId
        at 26000
           26000 record g gen=3 consumer/- leader=- []
        ",
    );
}

#[test]
fn semantic_59_the_first_member_waits_for_others_and_longer_while_they_arrive() {
    check(
        "
        a: join g v=3 client=a rebalance=9000
        at 2000
        b: join g v=3 client=b rebalance=9000
        at 3000
        c: join g v=3 client=c rebalance=9000
        at 6000
        at 7000
        d: join g v=3 client=d rebalance=9000
        at 8999
        at 9000
            9000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t c~3:@t d~4:@t]
            9000 b: joined gen=1 consumer/range member=b~2 leader=a~1
            9000 c: joined gen=1 consumer/range member=c~3 leader=a~1
            9000 d: joined gen=1 consumer/range member=d~4 leader=a~1
        ",
    );
}

#[test]
fn semantic_60_only_the_leader_learns_the_members_and_the_protocol_is_voted_for() {
    check(
        "
        a: join g v=5 client=a protocols=range:R1,sticky:S1
          a: MemberIdRequired member=a~1
        a: join g v=5 client=a member=a~1 protocols=range:R1,sticky:S1
        b: join g v=3 client=b protocols=sticky:S2,range:R2
        c: join g v=3 client=c protocols=sticky:S3,range:R3,own:O3
        stranger: join g v=3 client=x protocols=own:O
          stranger: InconsistentGroupProtocol member=
        stranger: join g v=3 client=x type=connect protocols=range:R
          stranger: InconsistentGroupProtocol member=
        nobody: join other v=3 protocols= client=x
          nobody: InconsistentGroupProtocol member=
        at 6000
            6000 a: joined gen=1 consumer/sticky member=a~1 leader=a~1 [a~1:S1 b~3:S2 c~4:S3]
            6000 b: joined gen=1 consumer/sticky member=b~3 leader=a~1
            6000 c: joined gen=1 consumer/sticky member=c~4 leader=a~1
        wrong-type: sync g member=a~1 gen=1 type=connect name=sticky
          wrong-type: InconsistentGroupProtocol
        unnamed: sync g member=a~1 gen=1 v=5
          unnamed: InconsistentGroupProtocol
        wrong-name: sync g member=a~1 gen=1 type=consumer name=range
          wrong-name: InconsistentGroupProtocol
        b: sync g member=b~3 gen=1 type=consumer name=sticky
        a: sync g member=a~1 gen=1 assign=a~1:one,b~3:two type=consumer name=sticky
          record g gen=1 consumer/sticky leader=a~1 [a~1=one b~3=two c~4=]
          a: synced consumer/sticky assignment=one
          b: synced consumer/sticky assignment=two
        c: sync g member=c~4 gen=1 v=0
          c: synced consumer/sticky assignment=
        ",
    );
}

#[test]
fn semantic_61_an_unchanged_follower_joins_again_without_a_rebalance_a_leader_or_news_start_one() {
    check(
        "
        a: join g v=3 client=a
        b: join g v=3 client=b
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        b-again-early: join g member=b~2
          b-again-early: joined gen=1 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=B]
          a: synced consumer/range assignment=A
        b: sync g member=b~2 gen=1
          b: synced consumer/range assignment=B
        b-again: join g member=b~2
          b-again: joined gen=1 consumer/range member=b~2 leader=a~1
        b-news: join g member=b~2 protocols=range:@t+u
        a-follows: join g member=a~1
          a-follows: joined gen=2 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t+u]
          b-news: joined gen=2 consumer/range member=b~2 leader=a~1
        b: sync g member=b~2 gen=2
        a: sync g member=a~1 gen=2 assign=a~1:A2,b~2:B2
          record g gen=2 consumer/range leader=a~1 [a~1=A2 b~2=B2]
          a: synced consumer/range assignment=A2
          b: synced consumer/range assignment=B2
        a-again: join g member=a~1
        heartbeat g member=b~2 gen=2
          heartbeat: RebalanceInProgress
        b: join g member=b~2 protocols=range:@t+u
          a-again: joined gen=3 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t+u]
          b: joined gen=3 consumer/range member=b~2 leader=a~1
        ",
    );
}

#[test]
fn semantic_62_followers_wait_for_the_leaders_assignment_and_a_new_join_sends_them_back() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        early: sync g member=a~1 gen=0
          early: IllegalGeneration
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        b: join g v=3 client=b
        during: sync g member=a~1 gen=1
          during: RebalanceInProgress
        a: join g member=a~1
          a: joined gen=2 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
          b: joined gen=2 consumer/range member=b~2 leader=a~1
        b: sync g member=b~2 gen=2
        c: join g v=3 client=c
          b: RebalanceInProgress
        a: join g member=a~1
        b: join g member=b~2
          a: joined gen=3 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t c~4:@t]
          b: joined gen=3 consumer/range member=b~2 leader=a~1
          c: joined gen=3 consumer/range member=c~4 leader=a~1
        c: sync g member=c~4 gen=3
        b: sync g member=b~2 gen=3
        b-again: sync g member=b~2 gen=3
          b: RebalanceInProgress
        a: sync g member=a~1 gen=3 assign=c~4:C,a~1:A,a~1:AA
          record g gen=3 consumer/range leader=a~1 [a~1=AA b~2= c~4=C]
          a: synced consumer/range assignment=AA
          b-again: synced consumer/range assignment=
          c: synced consumer/range assignment=C
        c-late: sync g member=c~4 gen=3
          c-late: synced consumer/range assignment=C
        sync unknown member=x gen=1
          sync: UnknownMemberId
        sync g member=stranger gen=3
          sync: UnknownMemberId
        ",
    );
}

#[test]
fn members_that_join_but_never_sync_are_dropped_after_the_rebalance_timeout() {
    check(
        "
        a: join g v=3 client=a rebalance=15000 session=60000
        b: join g v=3 client=b rebalance=15000 session=60000
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=B]
          a: synced consumer/range assignment=A
        at 20999
        at 21000
        a: heartbeat g member=a~1 gen=1
          a: RebalanceInProgress
        ",
    );
}

#[test]
fn semantic_63_heartbeats_tell_of_a_rebalance_only_while_it_is_prepared() {
    check(
        "
        a: join g v=3 client=a
        b: join g v=3 client=b
        heartbeat g member=a~1 gen=0
          heartbeat: RebalanceInProgress
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        completing: heartbeat g member=b~2 gen=1
          completing: None
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=]
          sync: synced consumer/range assignment=A
        stable: heartbeat g member=b~2 gen=1
          stable: None
        wrong-generation: heartbeat g member=b~2 gen=7
          wrong-generation: IllegalGeneration
        unknown-member: heartbeat g member=nobody gen=1
          unknown-member: UnknownMemberId
        unknown-group: heartbeat h member=b~2 gen=1
          unknown-group: UnknownMemberId
        no-group: heartbeat member=b~2
          no-group: InvalidGroupId
        c: join g v=3 client=c
        preparing: heartbeat g member=b~2 gen=1
          preparing: RebalanceInProgress
        ",
    );
}

#[test]
fn semantic_63_any_request_of_a_member_counts_as_a_heartbeat() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a session=6000
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        at 5000
        commit g member=a~1 gen=1 t-0=5
          record g t-0 = 5
          commit: t-0:None
        at 10000
        sync g member=a~1 gen=1
          sync: synced consumer/range assignment=A
        at 15000
        heartbeat g member=a~1 gen=1
          heartbeat: None
        at 20999
        at 21000
           21000 record g gen=2 consumer/- leader=- []
        describe g
          describe: g None Empty consumer/
        ",
    );
}

#[test]
fn a_silent_member_is_dropped_and_the_others_are_told() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a session=30000
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        b: join g v=3 client=b session=6000
        a: join g member=a~1 session=30000
          a: joined gen=2 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
          b: joined gen=2 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=2 assign=a~1:A,b~2:B
          record g gen=2 consumer/range leader=a~1 [a~1=A b~2=B]
          a: synced consumer/range assignment=A
        b: sync g member=b~2 gen=2
          b: synced consumer/range assignment=B
        at 6000
        heartbeat g member=a~1 gen=2
          heartbeat: RebalanceInProgress
        a: join g member=a~1 session=30000
          a: joined gen=3 consumer/range member=a~1 leader=a~1 [a~1:@t]
        ",
    );
}

#[test]
fn a_member_that_leaves_starts_a_rebalance_and_the_last_one_empties_the_group() {
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
        b-waits: sync g member=b~2 gen=2
        old-form: leave g v=2 member=b~2
          b-waits: UnknownMemberId
          old-form: None
        old-form-unknown: leave g v=2 member=b~2
          old-form-unknown: UnknownMemberId
        heartbeat g member=a~1 gen=2
          heartbeat: RebalanceInProgress
        leave g members=nobody,a~1
          record g gen=3 consumer/- leader=- []
          leave: None nobody:UnknownMemberId a~1:None
        describe g
          describe: g None Empty consumer/
        leave nothing members=a~1
          leave: None a~1:UnknownMemberId
        leave members=a~1
          leave: InvalidGroupId
        ",
    );
}

#[test]
fn a_member_that_leaves_during_the_initial_delay_does_not_shorten_it() {
    check(
        "
        a: join g v=3 client=a
        leave g members=a~1
          a: UnknownMemberId member=
          leave: None a~1:None
        at 2999
        b: join g v=3 client=b
        at 3000
        at 6000
            6000 b: joined gen=1 consumer/range member=b~2 leader=b~2 [b~2:@t]
        ",
    );
}

#[test]
fn a_client_that_repeats_its_join_gets_one_answer_per_request() {
    check(
        "
        a: join g v=3 client=a
        a-retry: join g v=3 member=a~1
          a: RebalanceInProgress member=a~1
        at 3000
            3000 a-retry: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        ",
    );
}

#[test]
fn a_new_leader_is_found_when_the_old_one_does_not_come_back() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a session=60000 rebalance=10000
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        b: join g v=3 client=b rebalance=10000
        at 10000
           10000 b: joined gen=2 consumer/range member=b~2 leader=b~2 [b~2:@t]
        ",
    );
}

//! Committed offsets: who may write them, what a reader gets, when they go. And the administrator's requests.

use super::script::check;

#[test]
fn semantic_64_commits_follow_the_phase_of_the_group() {
    check(
        "
        simple: commit g t-0=1
          record g t-0 = 1
          simple: t-0:None
        member-of-nothing: commit h member=m gen=3 t-0=1
          member-of-nothing: t-0:GroupIdNotFound
        member-of-nothing-old: commit h member=m gen=3 t-0=1 v=8
          member-of-nothing-old: t-0:IllegalGeneration
        a: join g v=3 client=a
        b: join g v=3 client=b
        preparing-first: commit g member=a~1 gen=0 t-0=2
          record g t-0 = 2
          preparing-first: t-0:None
        at 6000
            6000 a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
            6000 b: joined gen=1 consumer/range member=b~2 leader=a~1
        completing: commit g member=a~1 gen=1 t-0=3
          completing: t-0:RebalanceInProgress
        sync g member=a~1 gen=1 assign=a~1:A,b~2:B
          record g gen=1 consumer/range leader=a~1 [a~1=A b~2=B]
          sync: synced consumer/range assignment=A
        stable: commit g member=a~1 gen=1 t-0=4
          record g t-0 = 4
          stable: t-0:None
        wrong-generation: commit g member=a~1 gen=2 t-0=5
          wrong-generation: t-0:IllegalGeneration
        unknown-member: commit g member=x gen=1 t-0=5
          unknown-member: t-0:UnknownMemberId
        not-empty: commit g t-0=5
          not-empty: t-0:UnknownMemberId
        c: join g v=3 client=c
        preparing: commit g member=b~2 gen=1 t-0=6
          record g t-0 = 6
          preparing: t-0:None
        fetch g t-0
          fetch: None g:None t-0=6/-1/:None
        ",
    );
}

#[test]
fn semantic_64_too_long_metadata_fails_its_partition_only_and_the_rest_comes_back_verbatim() {
    check(
        "
        commit g t-0=1/x*4096 t-1=2/x*4097 t-2=3/some-note epoch=7
          record g t-0 = 1 epoch=7 metadata=<4096 bytes>
          record g t-2 = 3 epoch=7 metadata=some-note
          commit: t-0:None t-1:OffsetMetadataTooLarge t-2:None
        units-not-bytes: commit g u-0=1/é*4096
          record g u-0 = 1 metadata=<8192 bytes>
          units-not-bytes: u-0:None
        fetch g t-0 t-1 t-2 u-0
          fetch: None g:None t-0=1/7/<4096 bytes>:None t-1=-1/-1/:None t-2=3/7/some-note:None u-0=1/-1/<8192 bytes>:None
        ",
    );
}

#[test]
fn semantic_65_a_fetch_answers_every_partition_and_null_means_all() {
    check(
        "
        commit g t-0=10/note u-3=20 epoch=4
          record g t-0 = 10 epoch=4 metadata=note
          record g u-3 = 20 epoch=4
          commit: t-0:None u-3:None
        named: fetch g t-0 t-1
          named: None g:None t-0=10/4/note:None t-1=-1/-1/:None
        all: fetch g all
          all: None g:None t-0=10/4/note:None u-3=20/4/:None
        none: fetch g
          none: None g:None
        unknown-group: fetch h t-0
          unknown-group: None h:None t-0=-1/-1/:None
        unknown-group: fetch h all
          unknown-group: None h:None
        stable: fetch g t-0 require_stable=true
          stable: None g:None t-0=10/4/note:None
        one-group: fetch g all v=7
          one-group: None t-0=10/4/note:None u-3=20/4/:None
        without-epoch: fetch g t-0 v=1
          without-epoch: None t-0=10/4/note:None
        ",
    );
}

#[test]
fn semantic_68_unknown_groups_are_dead_and_live_ones_cannot_be_deleted() {
    check(
        "
        config initial_rebalance_delay_ms=0
        v5: describe g v=5
          v5: g None Dead /
        v6: describe g
          v6: g GroupIdNotFound Dead /
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        commit g member=a~1 gen=1 t-0=1 t-1=2
          record g t-0 = 1
          record g t-1 = 2
          commit: t-0:None t-1:None
        describe g
          describe: g None Stable consumer/range a~1:@t=A
        delete g nothing
          delete: g:NonEmptyGroup nothing:GroupIdNotFound
        leave g members=a~1
          record g gen=2 consumer/- leader=- []
          leave: None a~1:None
        commit offsets-only x-0=9
          record offsets-only x-0 = 9
          commit: x-0:None
        list
          list: None g:consumer:Empty:classic offsets-only::Empty:classic
        list states=EMPTY
          list: None g:consumer:Empty:classic offsets-only::Empty:classic
        list states=stable,dead types=Classic
          list: None
        list types=consumer
          list: None
        delete g offsets-only
          record g t-0 deleted
          record g t-1 deleted
          record g deleted
          record offsets-only x-0 deleted
          delete: g:None offsets-only:None
        list
          list: None
        fetch g all
          fetch: None g:None
        ",
    );
}

#[test]
fn semantic_68_offsets_expire_seven_days_after_the_group_empties() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        commit g member=a~1 gen=1 t-0=1
          record g t-0 = 1
          commit: t-0:None
        leave g members=a~1
          record g gen=2 consumer/- leader=- []
          leave: None a~1:None
        commit simple u-0=1
          record simple u-0 = 1
          commit: u-0:None
        at 300000
        commit simple u-1=1
          record simple u-1 = 1
          commit: u-1:None
        at 604500000
        fetch g all
          fetch: None g:None t-0=1/-1/:None
        at 604800000
          604800000 record g t-0 deleted
          604800000 record g deleted
          604800000 record simple u-0 deleted
        list
          list: None simple::Empty:classic
        at 605400000
          605400000 record simple u-1 deleted
        list
          list: None
        ",
    );
}

#[test]
fn offsets_of_topics_that_a_stable_group_stopped_reading_expire_and_the_others_stay() {
    check(
        "
        commit g dropped-0=5 kept-0=6
          record g dropped-0 = 5
          record g kept-0 = 6
          commit: dropped-0:None kept-0:None
        restart
        at 604000000
        join g v=3 client=a protocols=range:@kept session=1800000
        at 604003000
          604003000 join: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@kept]
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        at 604800000
          604800000 record g dropped-0 deleted
        fetch g all
          fetch: None g:None kept-0=6/-1/:None
        ",
    );
}

#[test]
fn a_commit_with_its_own_retention_expires_by_it() {
    check(
        "
        commit g t-0=1 v=4 retention_ms=600000
          record g t-0 = 1 expires=600000
          commit: t-0:None
        restart
        at 599999
        at 1200000
          600000 record g t-0 deleted
        ",
    );
}

#[test]
fn offsets_of_deleted_topics_are_forgotten_whoever_reads_them() {
    check(
        "
        commit g t-0=1 t-1=2 u-0=3
          record g t-0 = 1
          record g t-1 = 2
          record g u-0 = 3
          commit: t-0:None t-1:None u-0:None
        forget t x
          record g t-0 deleted
          record g t-1 deleted
        forget t x
        restart
        fetch g all
          fetch: None g:None u-0=3/-1/:None
        ",
    );
}

#[test]
fn semantic_68_offsets_are_deleted_only_for_topics_nobody_reads() {
    check(
        "
        config initial_rebalance_delay_ms=0
        offset-delete g t-0
          offset-delete: GroupIdNotFound
        offset-delete
          offset-delete: InvalidGroupId
        commit g t-0=1 u-0=2
          record g t-0 = 1
          record g u-0 = 2
          commit: t-0:None u-0:None
        a: join g v=3 client=a protocols=range:@t
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        offset-delete g u-0
          record g u-0 deleted
          offset-delete: None u-0:None
        sync g member=a~1 gen=1 assign=a~1:A
          record g gen=1 consumer/range leader=a~1 [a~1=A]
          sync: synced consumer/range assignment=A
        offset-delete g t-0 u-0 u-1
          offset-delete: None t-0:GroupSubscribedToTopic u-0:None u-1:None
        x: join workers v=3 client=x type=connect protocols=p:P
          x: joined gen=1 connect/p member=x~2 leader=x~2 [x~2:P]
        offset-delete workers t-0
          offset-delete: NonEmptyGroup
        leave g members=a~1
          record g gen=2 consumer/- leader=- []
          leave: None a~1:None
        offset-delete g t-0
          record g t-0 deleted
          offset-delete: None t-0:None
        fetch g all
          fetch: None g:None
        ",
    );
}

#[test]
fn semantic_69_commits_are_accepted_between_the_two_rebalances_of_a_cooperative_group() {
    check(
        "
        config initial_rebalance_delay_ms=0
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:p0+p1
          record g gen=1 consumer/range leader=a~1 [a~1=p0+p1]
          sync: synced consumer/range assignment=p0+p1
        b: join g v=3 client=b
        while-preparing: commit g member=a~1 gen=1 t-1=7
          record g t-1 = 7
          while-preparing: t-1:None
        a: join g member=a~1
          a: joined gen=2 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
          b: joined gen=2 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=2 assign=a~1:p0
          record g gen=2 consumer/range leader=a~1 [a~1=p0 b~2=]
          a: synced consumer/range assignment=p0
        b: sync g member=b~2 gen=2
          b: synced consumer/range assignment=
        between: commit g member=a~1 gen=2 t-1=8
          record g t-1 = 8
          between: t-1:None
        second: join g member=a~1
        b: join g member=b~2
          second: joined gen=3 consumer/range member=a~1 leader=a~1 [a~1:@t b~2:@t]
          b: joined gen=3 consumer/range member=b~2 leader=a~1
        a: sync g member=a~1 gen=3 assign=a~1:p0,b~2:p1
          record g gen=3 consumer/range leader=a~1 [a~1=p0 b~2=p1]
          a: synced consumer/range assignment=p0
        ",
    );
}

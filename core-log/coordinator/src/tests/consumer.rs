//! Consumer groups of the newer protocol (KIP-848).

use super::script::check;

#[test]
fn a_member_joins_reads_its_assignment_and_a_second_one_gets_its_share_after_the_first_gave_it_up() {
    check(
        "
        topics t=4
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0,t-1,t-2,t-3
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1,t-2,t-3
          a: member=a epoch=1 owns t-0,t-1,t-2,t-3
        ch g member=a epoch=1 owned=t-0,t-1,t-2,t-3
          ch: member=a epoch=1
        b: ch g member=b epoch=0 topics=t
          record g member b reads t
          record g epoch=2
          record g target a = t-0,t-1
          record g target b = t-2,t-3
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        cdescribe g
          cdescribe: g None Reconciling epoch=2/2 uniform a:epoch=1 type=1 owns 4 of 2 b:epoch=2 type=1 owns 0 of 2
        a: ch g member=a epoch=1
          record g current a epoch=1 UnrevokedPartitions t-0,t-1 revoking t-2,t-3
          a: member=a epoch=1 owns t-0,t-1
        b: ch g member=b epoch=2
          b: member=b epoch=2
        still-owns: ch g member=a epoch=1 owned=t-0,t-1,t-2,t-3
          still-owns: member=a epoch=1
        gave-up: ch g member=a epoch=1 owned=t-0,t-1
          record g current a epoch=2 Stable t-0,t-1
          gave-up: member=a epoch=2
        b: ch g member=b epoch=2
          record g current b epoch=2 Stable t-2,t-3
          b: member=b epoch=2 owns t-2,t-3
        cdescribe g
          cdescribe: g None Stable epoch=2/2 uniform a:epoch=2 type=1 owns 2 of 2 b:epoch=2 type=1 owns 2 of 2
        list types=consumer
          list: None g:consumer:Stable:consumer
        list types=classic
          list: None
        list states=stable
          list: None g:consumer:Stable:consumer
        list states=empty
          list: None
        describe g
          describe: g GroupIdNotFound Dead /
        describe g v=5
          describe: g None Dead /
        b: ch g member=b epoch=2 owned=t-2,t-3
          b: member=b epoch=2
        ",
    );
}

#[test]
fn members_are_fenced_by_epoch_and_may_repeat_a_heartbeat_whose_answer_was_lost() {
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
        b: ch g member=b epoch=0 topics=t
          record g member b reads t
          record g epoch=2
          record g target a = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        greater: ch g member=a epoch=7
          greater: FencedMemberEpoch
        stranger: ch g member=x epoch=1
          stranger: UnknownMemberId
        no-group: ch other member=x epoch=1
          no-group: GroupIdNotFound
        a: ch g member=a epoch=1 owned=t-0,t-1
          record g current a epoch=1 UnrevokedPartitions t-0 revoking t-1
          a: member=a epoch=1 owns t-0
        a: ch g member=a epoch=1 owned=t-0
          record g current a epoch=2 Stable t-0
          a: member=a epoch=2
        answer-was-lost: ch g member=a epoch=1 owned=t-0
          answer-was-lost: member=a epoch=2
        owns-too-much: ch g member=a epoch=1 owned=t-0,t-1
          owns-too-much: FencedMemberEpoch
        says-nothing: ch g member=a epoch=1
          says-nothing: FencedMemberEpoch
        joins-anew: ch g member=a epoch=0 topics=t
          record g current a epoch=0 Stable none
          record g current a epoch=2 Stable t-0
          joins-anew: member=a epoch=2 owns t-0
        ",
    );
}

#[test]
fn requests_that_lack_something_are_refused() {
    check(
        "
        topics t=2
        config assignors=uniform
        ch member=a epoch=0 topics=t
          ch: InvalidRequest
        v0-without-member-id: ch g epoch=0 topics=t client=c v=0
          record g member AAAAAAAAAAAAAAAAAAAAAg reads t
          record g epoch=1
          record g target AAAAAAAAAAAAAAAAAAAAAg = t-0,t-1
          record g target epoch=1
          record g current AAAAAAAAAAAAAAAAAAAAAg epoch=1 Stable t-0,t-1
          v0-without-member-id: member=AAAAAAAAAAAAAAAAAAAAAg epoch=1 owns t-0,t-1
        v1-without-member-id: ch g epoch=0 topics=t
          v1-without-member-id: InvalidRequest
        ch g member=a epoch=0
          ch: InvalidRequest
        ch g member=a epoch=0 topics=t rebalance=-1
          ch: InvalidRequest
        ch g member=a epoch=0 topics=t owned=t-0
          ch: InvalidRequest
        ch g member=a epoch=-2
          ch: InvalidRequest
        ch g member=a epoch=-3
          ch: InvalidRequest
        ch g member=a epoch=0 topics=t assignor=range
          ch: UnsupportedAssignor
        ch g member=a epoch=0 topics=t assignor=nope
          ch: UnsupportedAssignor
        ch g member=a epoch=0 topics=t assignor=
          ch: UnsupportedAssignor
        ch g member=a epoch=0 regex=(
          ch: InvalidRegularExpression
        ch g epoch=5
          ch: InvalidRequest
        leave-of-nobody: ch g member=x epoch=-1
          leave-of-nobody: UnknownMemberId
        no-group: ch nope member=x epoch=-1
          no-group: GroupIdNotFound
        ",
    );
}

#[test]
fn a_member_that_is_silent_or_keeps_partitions_too_long_is_taken_out() {
    check(
        "
        topics t=2
        a: ch g member=a epoch=0 topics=t rebalance=20000
          record g member a reads t
          record g epoch=1
          record g target a = t-0,t-1
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1
          a: member=a epoch=1 owns t-0,t-1
        at 10000
        b: ch g member=b epoch=0 topics=t
          record g member b reads t
          record g epoch=2
          record g target a = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        a: ch g member=a epoch=1 owned=t-0,t-1
          record g current a epoch=1 UnrevokedPartitions t-0 revoking t-1
          a: member=a epoch=1 owns t-0
        at 20000
        b: ch g member=b epoch=2
          b: member=b epoch=2
        a: ch g member=a epoch=1 owned=t-0,t-1
          a: member=a epoch=1
        at 30001
           30000 record g current a deleted
           30000 record g target a deleted
           30000 record g member a deleted
           30000 record g epoch=3
        b: ch g member=b epoch=2
          record g target b = t-0,t-1
          record g target epoch=3
          record g current b epoch=3 Stable t-0,t-1
          b: member=b epoch=3 owns t-0,t-1
        b: ch g member=b epoch=3
          b: member=b epoch=3
        gone: ch g member=a epoch=1
          gone: UnknownMemberId
        at 80000
           75001 record g current b deleted
           75001 record g target b deleted
           75001 record g member b deleted
           75001 record g epoch=4
        ",
    );
}

#[test]
fn leaving_gives_the_partitions_to_others_and_an_empty_group_can_be_deleted() {
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
        delete g
          delete: g:NonEmptyGroup
        a: ch g member=a epoch=-1
          record g current a deleted
          record g target a deleted
          record g member a deleted
          record g epoch=2
          a: member=a epoch=-1
        list
          list: None g:consumer:Empty:consumer
        delete g
          record g target epoch deleted
          record g consumer group deleted
          delete: g:None
        list
          list: None
        ",
    );
}

#[test]
fn static_members_come_back_to_what_they_had() {
    check(
        "
        topics t=4
        a: ch g member=a instance=ia epoch=0 topics=t
          record g member a(ia) reads t
          record g epoch=1
          record g target a = t-0,t-1,t-2,t-3
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1,t-2,t-3
          a: member=a epoch=1 owns t-0,t-1,t-2,t-3
        b: ch g member=b instance=ib epoch=0 topics=t
          record g member b(ib) reads t
          record g epoch=2
          record g target a = t-0,t-1
          record g target b = t-2,t-3
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        a: ch g member=a instance=ia epoch=1 owned=t-0,t-1
          record g current a epoch=2 Stable t-0,t-1
          a: member=a epoch=2 owns t-0,t-1
        b: ch g member=b instance=ib epoch=2
          record g current b epoch=2 Stable t-2,t-3
          b: member=b epoch=2 owns t-2,t-3
        too-early: ch g member=b2 instance=ib epoch=0 topics=t
          too-early: UnreleasedInstanceId
        b: ch g member=b instance=ib epoch=-2
          record g current b epoch=-2 Stable t-2,t-3
          b: member=b epoch=-2
        b2: ch g member=b2 instance=ib epoch=0 topics=t
          record g current b deleted
          record g target b deleted
          record g member b deleted
          record g member b2(ib) reads t
          record g target b2 = t-2,t-3
          record g current b2 epoch=0 Stable t-2,t-3
          record g current b2 epoch=2 Stable t-2,t-3
          b2: member=b2 epoch=2 owns t-2,t-3
        old: ch g member=b instance=ib epoch=3
          old: FencedInstanceId
        old-leaves: ch g member=b instance=ib epoch=-1
          old-leaves: FencedInstanceId
        unknown: ch g member=b instance=nope epoch=3
          unknown: UnknownMemberId
        b2: ch g member=b2 instance=ib epoch=-2
          record g current b2 epoch=-2 Stable t-2,t-3
          b2: member=b2 epoch=-2
        at 60000
           45000 record g current a deleted
           45000 record g target a deleted
           45000 record g member a deleted
           45000 record g epoch=3
           45000 record g current b2 deleted
           45000 record g target b2 deleted
           45000 record g member b2 deleted
           45000 record g epoch=4
        ",
    );
}

#[test]
fn topics_that_grow_appear_or_go_start_a_new_epoch_at_the_next_heartbeat() {
    check(
        "
        topics t=1
        a: ch g member=a epoch=0 topics=t,u
          record g member a reads t,u
          record g epoch=1
          record g target a = t-0
          record g target epoch=1
          record g current a epoch=1 Stable t-0
          a: member=a epoch=1 owns t-0
        a: ch g member=a epoch=1
          a: member=a epoch=1
        topics t=2
        a: ch g member=a epoch=1
          record g epoch=2
          record g target a = t-0,t-1
          record g target epoch=2
          record g current a epoch=2 Stable t-0,t-1
          a: member=a epoch=2 owns t-0,t-1
        topics t=2 other=1
        a: ch g member=a epoch=2
          a: member=a epoch=2
        topics t=2 u=1
        a: ch g member=a epoch=2
          record g epoch=3
          record g target a = t-0,t-1,u-0
          record g target epoch=3
          record g current a epoch=3 Stable t-0,t-1,u-0
          a: member=a epoch=3 owns t-0,t-1,u-0
        topics u=1
        a: ch g member=a epoch=3
          record g epoch=4
          record g target a = u-0
          record g target epoch=4
          record g current a epoch=3 UnrevokedPartitions u-0 revoking t-0,t-1
          a: member=a epoch=3 owns u-0
        a: ch g member=a epoch=3 owned=u-0
          record g current a epoch=4 Stable u-0
          a: member=a epoch=4
        topics t=1 u=1
        a: ch g member=a epoch=4
          record g epoch=5
          record g target a = u-0,t-0
          record g target epoch=5
          record g current a epoch=5 Stable u-0,t-0
          a: member=a epoch=5 owns u-0,t-0
        ",
    );
}

#[test]
fn regular_expressions_follow_the_topics_and_leave_the_systems_own_out() {
    check(
        "
        topics a1=1 a2=1 b=1 __consumer_offsets=1
        x: ch g member=x epoch=0 regex=a.*
          record g member x reads  /a.*/
          record g regex /a.*/ = a1,a2
          record g epoch=1
          record g target x = a1-0,a2-0
          record g target epoch=1
          record g current x epoch=1 Stable a1-0,a2-0
          x: member=x epoch=1 owns a1-0,a2-0
        topics a1=1 a3=1 b=1 __consumer_offsets=1
        x: ch g member=x epoch=1
          record g regex /a.*/ = a1,a3
          record g epoch=2
          record g target x = a1-0,a3-0
          record g target epoch=2
          record g current x epoch=1 UnrevokedPartitions a1-0 revoking a2-0
          x: member=x epoch=1 owns a1-0
        x: ch g member=x epoch=1 owned=a1-0
          record g current x epoch=2 Stable a1-0,a3-0
          x: member=x epoch=2 owns a1-0,a3-0
        y: ch g member=y epoch=0 regex=.* topics=b
          record g member y reads b /.*/
          record g regex /.*/ = a1,a3,b
          record g epoch=3
          record g target y = b-0
          record g target epoch=3
          record g current y epoch=3 Stable b-0
          y: member=y epoch=3 owns b-0
        x: ch g member=x epoch=2 regex= topics=b
          record g member x reads b
          record g regex /a.*/ deleted
          record g epoch=4
          record g target x = b-0
          record g target y = a1-0,a3-0
          record g target epoch=4
          record g current x epoch=2 UnrevokedPartitions none revoking a1-0,a3-0
          x: member=x epoch=2 owns none
        y: ch g member=y epoch=-1
          record g current y deleted
          record g target y deleted
          record g member y deleted
          record g regex /.*/ deleted
          record g epoch=5
          y: member=y epoch=-1
        ",
    );
}

#[test]
fn commits_and_fetches_carry_the_members_epoch() {
    check(
        "
        topics t=1
        standalone: commit g t-0=1
          record g t-0 = 1
          standalone: t-0:None
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0
          record g target epoch=1
          record g current a epoch=1 Stable t-0
          a: member=a epoch=1 owns t-0
        commit g member=a gen=1 t-0=5
          record g t-0 = 5
          commit: t-0:None
        v8: commit g member=a gen=1 t-0=5 v=8
          v8: t-0:UnsupportedVersion
        stale: commit g member=a gen=0 t-0=6
          stale: t-0:StaleMemberEpoch
        stranger: commit g member=x gen=1 t-0=6
          stranger: t-0:UnknownMemberId
        nobody: commit g t-0=6
          nobody: t-0:UnknownMemberId
        fetch g t-0
          fetch: None g:None t-0=5/-1/:None
        member: fetch g t-0 member=a epoch=1
          member: None g:None t-0=5/-1/:None
        stale: fetch g t-0 member=a epoch=0
          stale: None g:StaleMemberEpoch
        stranger: fetch g t-0 member=x epoch=1
          stranger: None g:UnknownMemberId
        offset-delete g t-0
          offset-delete: None t-0:GroupSubscribedToTopic
        a: ch g member=a epoch=-1
          record g current a deleted
          record g target a deleted
          record g member a deleted
          record g epoch=2
          a: member=a epoch=-1
        offset-delete g t-0
          record g t-0 deleted
          offset-delete: None t-0:None
        standalone: commit g t-0=7
          record g t-0 = 7
          standalone: t-0:None
        ",
    );
}

#[test]
fn semantic_67_members_of_a_consumer_group_outlive_a_restart() {
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
        b: ch g member=b epoch=0 topics=t
          record g member b reads t
          record g epoch=2
          record g target a = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        a: ch g member=a epoch=1 owned=t-0,t-1
          record g current a epoch=1 UnrevokedPartitions t-0 revoking t-1
          a: member=a epoch=1 owns t-0
        restart
        a: ch g member=a epoch=1 owned=t-0
          record g current a epoch=2 Stable t-0
          a: member=a epoch=2
        b: ch g member=b epoch=2
          record g current b epoch=2 Stable t-1
          b: member=b epoch=2 owns t-1
        restart
        b: ch g member=b epoch=2
          b: member=b epoch=2
        wait 44000
        a: ch g member=a epoch=2
          a: member=a epoch=2
        wait 2000
           45000 record g current b deleted
           45000 record g target b deleted
           45000 record g member b deleted
           45000 record g epoch=3
        cdescribe g
          cdescribe: g None Assigning epoch=2/3 uniform a:epoch=2 type=1 owns 1 of 1
        ",
    );
}

#[test]
fn a_failed_append_leaves_the_group_as_it_was() {
    check(
        "
        topics t=1
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0
          record g target epoch=1
          record g current a epoch=1 Stable t-0
          a: member=a epoch=1 owns t-0
        fail NotEnoughReplicas
        b: ch g member=b epoch=0 topics=t
          b: CoordinatorNotAvailable
        cdescribe g
          cdescribe: g None Stable epoch=1/1 uniform a:epoch=1 type=1 owns 1 of 1
        fail NotEnoughReplicas
        a: ch g member=a epoch=-1
          a: CoordinatorNotAvailable
        a: ch g member=a epoch=1
          a: member=a epoch=1
        ",
    );
}

#[test]
fn the_assignor_most_members_ask_for_is_used() {
    check(
        "
        topics t=2 u=2
        a: ch g member=a epoch=0 topics=t,u assignor=range
          record g member a reads t,u
          record g epoch=1
          record g target a = t-0,t-1,u-0,u-1
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1,u-0,u-1
          a: member=a epoch=1 owns t-0,t-1,u-0,u-1
        b: ch g member=b epoch=0 topics=t,u
          record g member b reads t,u
          record g epoch=2
          record g target a = t-0,u-0
          record g target b = t-1,u-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        c: ch g member=c epoch=0 topics=t,u assignor=uniform
          record g member c reads t,u
          record g epoch=3
          record g target b = t-1
          record g target c = u-1
          record g target epoch=3
          record g current c epoch=3 UnreleasedPartitions none
          c: member=c epoch=3 owns none
        cdescribe g
          cdescribe: g None Reconciling epoch=3/3 uniform a:epoch=1 type=1 owns 4 of 2 b:epoch=2 type=1 owns 0 of 1 c:epoch=3 type=1 owns 0 of 1
        ",
    );
}

#[test]
fn groups_have_a_greatest_size() {
    check(
        "
        config consumer_max_group_size=1
        topics t=2
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0,t-1
          record g target epoch=1
          record g current a epoch=1 Stable t-0,t-1
          a: member=a epoch=1 owns t-0,t-1
        b: ch g member=b epoch=0 topics=t
          b: GroupMaxSizeReached
        a: ch g member=a epoch=1
          a: member=a epoch=1
        ",
    );
}

#[test]
fn semantic_68_offsets_of_a_consumer_group_expire_when_nobody_reads_the_topic() {
    check(
        "
        topics t=1 u=1
        a: ch g member=a epoch=0 topics=t
          record g member a reads t
          record g epoch=1
          record g target a = t-0
          record g target epoch=1
          record g current a epoch=1 Stable t-0
          a: member=a epoch=1 owns t-0
        commit g member=a gen=1 t-0=5 u-0=6
          record g t-0 = 5
          record g u-0 = 6
          commit: t-0:None u-0:None
        a: ch g member=a epoch=-1
          record g current a deleted
          record g target a deleted
          record g member a deleted
          record g epoch=2
          a: member=a epoch=-1
        b: ch h member=b epoch=0 topics=t
          record h member b reads t
          record h epoch=1
          record h target b = t-0
          record h target epoch=1
          record h current b epoch=1 Stable t-0
          b: member=b epoch=1 owns t-0
        b: ch h member=b epoch=-1
          record h current b deleted
          record h target b deleted
          record h member b deleted
          record h epoch=2
          b: member=b epoch=-1
        at 604000000
          600000 record h target epoch deleted
          600000 record h consumer group deleted
        at 605400000
          604800000 record g t-0 deleted
          604800000 record g u-0 deleted
          604800000 record g target epoch deleted
          604800000 record g consumer group deleted
        list
          list: None
        ",
    );
}

#[test]
fn a_member_that_subscribes_to_nothing_yet_waits_in_the_group() {
    check(
        "
        topics t=2
        a: ch g member=a epoch=0 topics=
          record g member a reads nothing
          record g epoch=1
          record g target a = none
          record g target epoch=1
          record g current a epoch=1 Stable none
          a: member=a epoch=1 owns none
        b: ch g member=b epoch=0 regex=
          record g member b reads nothing
          record g epoch=2
          record g target b = none
          record g target epoch=2
          record g current b epoch=2 Stable none
          b: member=b epoch=2 owns none
        named: ch g member=a epoch=1 topics=t
          record g member a reads t
          record g epoch=3
          record g target a = t-0,t-1
          record g target epoch=3
          record g current a epoch=3 Stable t-0,t-1
          named: member=a epoch=3 owns t-0,t-1
        ",
    );
}

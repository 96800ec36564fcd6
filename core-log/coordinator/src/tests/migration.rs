//! Classic groups that become consumer groups, and back (KIP-848).

use super::script::check;

#[test]
fn a_classic_group_is_upgraded_lives_mixed_and_is_downgraded() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=4
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0+t-1+t-2+t-3
          record g gen=1 consumer/range leader=a~1 [a~1==t-0+t-1+t-2+t-3]
          sync: synced consumer/range assignment==t-0+t-1+t-2+t-3
        b: ch g member=b epoch=0 topics=t
          record g deleted
          record g member a~1 reads t classic range
          record g epoch=1
          record g target a~1 = t-0,t-1,t-2,t-3
          record g target epoch=1
          record g current a~1 epoch=1 Stable t-0,t-1,t-2,t-3
          record g member b reads t
          record g epoch=2
          record g target a~1 = t-0,t-1
          record g target b = t-2,t-3
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        a: heartbeat g member=a~1 gen=1
          a: RebalanceInProgress
        b: ch g member=b epoch=2
          b: member=b epoch=2
        old-generation: heartbeat g member=a~1 gen=0
          old-generation: IllegalGeneration
        sync-too-early: sync g member=a~1 gen=1
          sync-too-early: RebalanceInProgress
        a: join g member=a~1 client=a
          record g current a~1 epoch=2 Stable t-0,t-1
          a: joined gen=2 consumer/range member=a~1 leader=
        a: sync g member=a~1 gen=2 type=consumer name=range
          a: synced consumer/range assignment==t-0+t-1
        a: heartbeat g member=a~1 gen=2
          a: None
        commit g member=a~1 gen=2 t-0=5
          record g t-0 = 5
          commit: t-0:None
        commit g member=a~1 gen=1 t-0=5
          commit: t-0:IllegalGeneration
        b: ch g member=b epoch=2
          record g current b epoch=2 Stable t-2,t-3
          b: member=b epoch=2 owns t-2,t-3
        cdescribe g
          cdescribe: g None Stable epoch=2/2 uniform a~1:epoch=2 type=0 owns 2 of 2 b:epoch=2 type=1 owns 2 of 2
        c: join g client=c
          c: MemberIdRequired member=AAAAAAAAAAAAAAAAAAAABg
        c: join g member=c~4 client=c
          record g member c~4 reads t classic range
          record g epoch=3
          record g target b = t-2
          record g target c~4 = t-3
          record g target epoch=3
          record g current c~4 epoch=3 UnreleasedPartitions none
          c: joined gen=3 consumer/range member=c~4 leader=
        wrong-protocol: sync g member=c~4 gen=3 name=nope
          wrong-protocol: InconsistentGroupProtocol
        c: sync g member=c~4 gen=3
          c: synced -/- assignment==
        b: ch g member=b epoch=-1
          record g current a~1 deleted
          record g current b deleted
          record g current c~4 deleted
          record g target a~1 deleted
          record g target b deleted
          record g target c~4 deleted
          record g target epoch deleted
          record g member a~1 deleted
          record g member b deleted
          record g member c~4 deleted
          record g consumer group deleted
          record g gen=3 consumer/range leader=a~1 [a~1==t-0+t-1 c~4==]
          b: member=b epoch=-1
        its-epoch: heartbeat g member=a~1 gen=2
          its-epoch: RebalanceInProgress
        commit g member=a~1 gen=2 t-0=6
          record g t-0 = 6
          commit: t-0:None
        older: heartbeat g member=a~1 gen=1
          older: IllegalGeneration
        describe g
          describe: g None PreparingRebalance consumer/ a~1:= c~4:=
        a: join g member=a~1 client=a
        c: join g member=c~4 client=c
          a: joined gen=4 consumer/range member=a~1 leader=a~1 [a~1:@t c~4:@t]
          c: joined gen=4 consumer/range member=c~4 leader=a~1
        list
          list: None g:consumer:CompletingRebalance:classic
        ",
    );
}

#[test]
fn members_that_wait_in_a_classic_group_are_sent_to_join_the_consumer_group() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0+t-1
          record g gen=1 consumer/range leader=a~1 [a~1==t-0+t-1]
          sync: synced consumer/range assignment==t-0+t-1
        b: join g v=3 client=b
        x: ch g member=x epoch=0 topics=t
          record g deleted
          record g member a~1 reads t classic range
          record g member b~2 reads t classic range
          record g epoch=1
          record g target a~1 = t-0,t-1
          record g target b~2 = none
          record g target epoch=1
          record g current a~1 epoch=1 Stable t-0,t-1
          record g current b~2 epoch=1 Stable none
          record g member x reads t
          record g epoch=2
          record g target a~1 = t-0
          record g target b~2 = t-1
          record g target x = none
          record g target epoch=2
          record g current x epoch=2 Stable none
          b: RebalanceInProgress member=b~2
          x: member=x epoch=2 owns none
        ",
    );
}

#[test]
fn groups_that_are_not_of_consumers_or_may_not_migrate_are_not_found() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        join connect v=3 client=a type=connect protocols=default:x
          join: joined gen=1 connect/default member=a~1 leader=a~1 [a~1:x]
        ch connect member=b epoch=0 topics=t
          ch: GroupIdNotFound
        join odd v=3 client=a protocols=range:x
          join: joined gen=1 consumer/range member=a~3 leader=a~3 [a~3:x]
        ch odd member=b epoch=0 topics=t
          ch: GroupIdNotFound
        config migration_policy=downgrade initial_rebalance_delay_ms=0
        join g v=3 client=a
          join: joined gen=1 consumer/range member=a~5 leader=a~5 [a~5:@t]
        ch g member=b epoch=0 topics=t
          ch: GroupIdNotFound
        ch other member=b epoch=0 topics=t
          record other member b reads t
          record other epoch=1
          record other target b = t-0,t-1
          record other target epoch=1
          record other current b epoch=1 Stable t-0,t-1
          ch: member=b epoch=1 owns t-0,t-1
        classic-join: join other v=3 client=a
          record other member AAAAAAAAAAAAAAAAAAAACA reads t classic range
          record other epoch=2
          record other target AAAAAAAAAAAAAAAAAAAACA = t-1
          record other target b = t-0
          record other target epoch=2
          record other current AAAAAAAAAAAAAAAAAAAACA epoch=2 UnreleasedPartitions none
          classic-join: joined gen=2 consumer/range member=AAAAAAAAAAAAAAAAAAAACA leader=
        ",
    );
}

#[test]
fn an_empty_group_changes_its_kind_without_ceremony() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=1
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0
          record g gen=1 consumer/range leader=a~1 [a~1==t-0]
          sync: synced consumer/range assignment==t-0
        leave g members=a~1
          record g gen=2 consumer/- leader=- []
          leave: None a~1:None
        b: ch g member=b epoch=0 topics=t
          record g deleted
          record g member b reads t
          record g epoch=1
          record g target b = t-0
          record g target epoch=1
          record g current b epoch=1 Stable t-0
          b: member=b epoch=1 owns t-0
        b: ch g member=b epoch=-1
          record g current b deleted
          record g target b deleted
          record g member b deleted
          record g epoch=2
          b: member=b epoch=-1
        c: join g v=3 client=c
          record g target epoch deleted
          record g consumer group deleted
          c: joined gen=1 consumer/range member=c~4 leader=c~4 [c~4:@t]
        list
          list: None g:consumer:CompletingRebalance:classic
        ",
    );
}

#[test]
fn a_static_member_of_the_newer_protocol_replaced_by_a_classic_one_ends_the_consumer_group() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        x: ch g member=x instance=ix epoch=0 topics=t
          record g member x(ix) reads t
          record g epoch=1
          record g target x = t-0,t-1
          record g target epoch=1
          record g current x epoch=1 Stable t-0,t-1
          x: member=x epoch=1 owns t-0,t-1
        x: ch g member=x instance=ix epoch=-2
          record g current x epoch=-2 Stable t-0,t-1
          x: member=x epoch=-2
        y: join g instance=ix client=y
          record g current x deleted
          record g target x deleted
          record g member x deleted
          record g member AAAAAAAAAAAAAAAAAAAAAw(ix) reads t
          record g target AAAAAAAAAAAAAAAAAAAAAw = t-0,t-1
          record g current AAAAAAAAAAAAAAAAAAAAAw epoch=0 Stable t-0,t-1
          record g member AAAAAAAAAAAAAAAAAAAAAw(ix) reads t classic range
          record g current AAAAAAAAAAAAAAAAAAAAAw epoch=1 Stable t-0,t-1
          record g current AAAAAAAAAAAAAAAAAAAAAw deleted
          record g target AAAAAAAAAAAAAAAAAAAAAw deleted
          record g target epoch deleted
          record g member AAAAAAAAAAAAAAAAAAAAAw deleted
          record g consumer group deleted
          record g gen=1 consumer/range leader=AAAAAAAAAAAAAAAAAAAAAw [AAAAAAAAAAAAAAAAAAAAAw(ix)==t-0+t-1]
          y: joined gen=1 consumer/range member=AAAAAAAAAAAAAAAAAAAAAw leader=
        describe g
          describe: g None PreparingRebalance consumer/ AAAAAAAAAAAAAAAAAAAAAw:=
        y: heartbeat g member=AAAAAAAAAAAAAAAAAAAAAg instance=ix gen=1
          y: FencedInstanceId
        ",
    );
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_taken_out() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        a: join g v=3 client=a rebalance=8000 session=30000
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0+t-1
          record g gen=1 consumer/range leader=a~1 [a~1==t-0+t-1]
          sync: synced consumer/range assignment==t-0+t-1
        b: ch g member=b epoch=0 topics=t
          record g deleted
          record g member a~1 reads t classic range
          record g epoch=1
          record g target a~1 = t-0,t-1
          record g target epoch=1
          record g current a~1 epoch=1 Stable t-0,t-1
          record g member b reads t
          record g epoch=2
          record g target a~1 = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        a: heartbeat g member=a~1 gen=1
          a: RebalanceInProgress
        at 7000
        b: ch g member=b epoch=2
          b: member=b epoch=2
        a: heartbeat g member=a~1 gen=1
          a: RebalanceInProgress
        at 8001
            8000 record g current a~1 deleted
            8000 record g target a~1 deleted
            8000 record g member a~1 deleted
            8000 record g epoch=3
        b: ch g member=b epoch=2
          record g target b = t-0,t-1
          record g target epoch=3
          record g current b epoch=3 Stable t-0,t-1
          b: member=b epoch=3 owns t-0,t-1
        ",
    );
}

#[test]
fn classic_members_leave_a_consumer_group_by_leave_group() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0+t-1
          record g gen=1 consumer/range leader=a~1 [a~1==t-0+t-1]
          sync: synced consumer/range assignment==t-0+t-1
        b: ch g member=b epoch=0 topics=t
          record g deleted
          record g member a~1 reads t classic range
          record g epoch=1
          record g target a~1 = t-0,t-1
          record g target epoch=1
          record g current a~1 epoch=1 Stable t-0,t-1
          record g member b reads t
          record g epoch=2
          record g target a~1 = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        leave g members=a~1,nobody,a~1
          record g current a~1 deleted
          record g target a~1 deleted
          record g member a~1 deleted
          record g epoch=3
          leave: None a~1:None nobody:UnknownMemberId a~1:UnknownMemberId
        b: ch g member=b epoch=2
          record g target b = t-0,t-1
          record g target epoch=3
          record g current b epoch=3 Stable t-0,t-1
          b: member=b epoch=3 owns t-0,t-1
        ",
    );
}

#[test]
fn leave_group_removes_members_of_the_newer_protocol_and_the_last_one_makes_the_group_classic() {
    check(
        "
        config initial_rebalance_delay_ms=0
        topics t=2
        a: join g v=3 client=a
          a: joined gen=1 consumer/range member=a~1 leader=a~1 [a~1:@t]
        sync g member=a~1 gen=1 assign=a~1:=t-0+t-1
          record g gen=1 consumer/range leader=a~1 [a~1==t-0+t-1]
          sync: synced consumer/range assignment==t-0+t-1
        b: ch g member=b epoch=0 topics=t instance=ib
          record g deleted
          record g member a~1 reads t classic range
          record g epoch=1
          record g target a~1 = t-0,t-1
          record g target epoch=1
          record g current a~1 epoch=1 Stable t-0,t-1
          record g member b(ib) reads t
          record g epoch=2
          record g target a~1 = t-0
          record g target b = t-1
          record g target epoch=2
          record g current b epoch=2 UnreleasedPartitions none
          b: member=b epoch=2 owns none
        c: ch g member=c epoch=0 topics=t
          record g member c reads t
          record g epoch=3
          record g target c = none
          record g target epoch=3
          record g current c epoch=3 Stable none
          c: member=c epoch=3 owns none
        leave g members=c
          record g current c deleted
          record g target c deleted
          record g member c deleted
          record g epoch=4
          leave: None c:None
        leave g members=@nobody,@ib,b
          record g current b deleted
          record g target b deleted
          record g member b deleted
          record g epoch=5
          record g current a~1 deleted
          record g target a~1 deleted
          record g target epoch deleted
          record g member a~1 deleted
          record g consumer group deleted
          record g gen=5 consumer/range leader=a~1 [a~1==t-0+t-1]
          leave: None @nobody:UnknownMemberId @ib:None b:UnknownMemberId
        describe g
          describe: g None PreparingRebalance consumer/ a~1:=
        ",
    );
}

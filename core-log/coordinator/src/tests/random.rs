//! Random events: the invariants hold whatever clients do, and the same events give the same effects.

use proptest::prelude::*;

use super::script::run;

/// A member id that one of the first joins may have been given; `i` is a static member.
fn member() -> impl Strategy<Value = String> {
    (prop_oneof![3 => Just("a"), 1 => Just("i")], 1..9u32)
        .prop_map(|(client, join)| format!("{client}~{join}"))
}

fn event() -> impl Strategy<Value = String> {
    let metadata = prop_oneof![Just("@t"), Just("@t+u"), Just("?")];
    let rejoining = (member(), metadata).prop_map(|(m, bytes)| {
        let instance = if m.starts_with('i') { " instance=i" } else { "" };
        format!("join g member={m}{instance} protocols=range:{bytes},sticky:{bytes}")
    });
    let with_generation = |verb: &'static str, rest: &'static str| {
        (member(), 0..6u32)
            .prop_map(move |(m, generation)| format!("{verb} g member={m} gen={generation} {rest}"))
    };
    prop_oneof![
        3 => Just("join g v=3 client=a".to_owned()),
        1 => Just("join g client=a protocols=range:@t,sticky:@u".to_owned()),
        2 => Just("join g instance=i".to_owned()),
        1 => Just("join g instance=i v=8 protocols=sticky:@t".to_owned()),
        6 => rejoining,
        8 => with_generation("sync", "assign=a~1:A,a~2:B,a~3:C,i~1:I,i~2:I"),
        2 => with_generation("heartbeat", ""),
        2 => with_generation("commit", "t-0=5"),
        1 => Just("commit g u-0=7".to_owned()),
        2 => member().prop_map(|m| format!("leave g members={m},@i")),
        1 => Just("delete g".to_owned()),
        1 => Just("offset-delete g t-0 u-0".to_owned()),
        1 => Just("describe g".to_owned()),
        5 => prop_oneof![Just(1u64), Just(3_000), Just(9_999), Just(60_000), Just(700_000_000)]
            .prop_map(|ms| format!("wait {ms}")),
        1 => Just("restart".to_owned()),
        1 => Just("fail NotEnoughReplicas".to_owned()),
    ]
}

/// Members of both protocols in one group, topics that come and go.
fn mixed_event() -> impl Strategy<Value = String> {
    let name = || prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("c"), 1 => Just("a~1"), 1 => Just("s1"), 1 => Just("s2")];
    let instance = |name: &str| match name.starts_with('s') {
        true => " instance=s",
        false => "",
    };
    let subscription = || {
        prop_oneof![
            3 => Just("topics=t"),
            1 => Just("topics=t,u"),
            1 => Just("regex=.*"),
            1 => Just("regex=u+ topics=t"),
            1 => Just("topics=t regex="),
        ]
    };
    let owned = prop_oneof![
        3 => Just(""),
        2 => Just("owned=none"),
        1 => Just("owned=t-0"),
        1 => Just("owned=t-0,t-1,u-0"),
        1 => Just("owned=t-7,x-0"),
    ];
    let joins = (
        name(),
        subscription(),
        prop_oneof![Just(""), Just("assignor=range"), Just("assignor=uniform")],
    )
        .prop_map(move |(m, topics, assignor)| {
            format!("ch g member={m}{} epoch=0 {topics} {assignor}", instance(m))
        });
    let stays = (name(), 1..9u32, owned)
        .prop_map(move |(m, epoch, owned)| format!("ch g member={m}{} epoch={epoch} {owned}", instance(m)));
    let leaves = (name(), prop_oneof![3 => Just(-1), 1 => Just(-2)])
        .prop_map(move |(m, epoch)| format!("ch g member={m}{} epoch={epoch}", instance(m)));
    let classic = |verb: &'static str, rest: &'static str| {
        (1..6u32, 0..8u32)
            .prop_map(move |(join, generation)| format!("{verb} g member=a~{join} gen={generation} {rest}"))
    };
    prop_oneof![
        6 => joins,
        12 => stays,
        3 => leaves,
        2 => Just("join g v=3 client=a".to_owned()),
        1 => Just("join g instance=s client=a".to_owned()),
        3 => (1..6u32).prop_map(|join| format!("join g member=a~{join} protocols=range:@t+u")),
        4 => classic("sync", "assign=a~1:=t-0,a~2:=t-1,a~3:=u-0"),
        2 => classic("heartbeat", ""),
        2 => classic("commit", "t-0=5"),
        1 => (1..6u32).prop_map(|join| format!("leave g members=a~{join},@s")),
        1 => Just("cdescribe g".to_owned()),
        1 => Just("describe g".to_owned()),
        1 => Just("delete g".to_owned()),
        3 => prop_oneof![Just("topics t=2"), Just("topics t=3 u=1"), Just("topics u=2"), Just("topics t=1 u=1 uu=1")]
            .prop_map(str::to_owned),
        3 => prop_oneof![Just(1u64), Just(3_000), Just(20_000), Just(60_000), Just(700_000_000)]
            .prop_map(|ms| format!("wait {ms}")),
        1 => Just("restart".to_owned()),
        1 => Just("fail NotEnoughReplicas".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn consumer_groups_keep_their_invariants_whatever_both_kinds_of_members_do(
        events in proptest::collection::vec(mixed_event(), 1..50),
    ) {
        let first = run(std::iter::once("topics t=2 u=1").chain(events.iter().map(String::as_str)));
        let second = run(std::iter::once("topics t=2 u=1").chain(events.iter().map(String::as_str)));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn replay_gives_the_same_state_and_everybody_is_answered_once(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let first = run(events.iter().map(String::as_str));
        let second = run(events.iter().map(String::as_str));
        prop_assert_eq!(first, second);
    }
}

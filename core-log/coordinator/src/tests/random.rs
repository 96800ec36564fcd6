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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn replay_gives_the_same_state_and_everybody_is_answered_once(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let first = run(events.iter().map(String::as_str));
        let second = run(events.iter().map(String::as_str));
        prop_assert_eq!(first, second);
    }
}

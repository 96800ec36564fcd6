//! Properties of both assignors, and the cases that Kafka's documents name.

use proptest::prelude::*;

use super::*;

fn topic(number: u64) -> Uuid {
    Uuid::from_u64_pair(0, number)
}

fn subscriber(name: &str, topics: &[u64], former: &Partitions) -> Subscriber {
    Subscriber {
        member_id: ByteString::from(name),
        instance_id: None,
        topics: Arc::new(topics.iter().map(|number| topic(*number)).collect()),
        former: Arc::new(former.clone()),
    }
}

fn shown(target: &Partitions) -> String {
    let items = target
        .iter()
        .map(|(topic, partition)| format!("{}-{partition}", topic.as_u64_pair().1));
    items.collect::<Vec<_>>().join(" ")
}

fn show(targets: &[Partitions]) -> Vec<String> {
    targets.iter().map(shown).collect()
}

#[test]
fn range_gives_equal_ranges_of_equal_topics_to_one_member() {
    let none = Partitions::default();
    let members = [subscriber("a", &[1, 2], &none), subscriber("b", &[1, 2], &none)];
    let targets = AssignorKind::Range.assign(&members, &[(topic(1), 3), (topic(2), 3)].into());
    assert_eq!(show(&targets), ["1-0 1-1 2-0 2-1", "1-2 2-2"]);
}

#[test]
fn range_keeps_the_place_of_a_static_member_that_came_back_under_another_id() {
    let none = Partitions::default();
    let named = |id: &str, instance: &str| Subscriber {
        instance_id: Some(ByteString::from(instance)),
        ..subscriber(id, &[1], &none)
    };
    let counts = [(topic(1), 3)].into();
    let before = AssignorKind::Range.assign(&[named("m1", "i1"), named("m2", "i2")], &counts);
    let after = AssignorKind::Range.assign(&[named("m2", "i2"), named("m9", "i1")], &counts);
    assert_eq!(show(&before), ["1-0 1-1", "1-2"]);
    assert_eq!(show(&after), ["1-2", "1-0 1-1"]);
}

#[test]
fn range_with_different_subscriptions_shares_each_topic_among_its_readers() {
    let none = Partitions::default();
    let members = [
        subscriber("a", &[1], &none),
        subscriber("b", &[1, 2], &none),
        subscriber("c", &[2], &none),
    ];
    let targets = AssignorKind::Range.assign(&members, &[(topic(1), 3), (topic(2), 2)].into());
    assert_eq!(show(&targets), ["1-0 1-1", "1-2 2-0", "2-1"]);
}

#[test]
fn uniform_moves_only_what_a_newcomer_must_get() {
    let counts = [(topic(1), 6)].into();
    let none = Partitions::default();
    let two = AssignorKind::Uniform.assign(
        &[subscriber("a", &[1], &none), subscriber("b", &[1], &none)],
        &counts,
    );
    assert_eq!(show(&two), ["1-0 1-1 1-2", "1-3 1-4 1-5"]);
    let three = AssignorKind::Uniform.assign(
        &[
            subscriber("a", &[1], &two[0]),
            subscriber("b", &[1], &two[1]),
            subscriber("c", &[1], &none),
        ],
        &counts,
    );
    assert_eq!(show(&three), ["1-0 1-1", "1-3 1-4", "1-2 1-5"]);
}

#[test]
fn uniform_with_different_subscriptions_moves_partitions_to_the_less_loaded() {
    let none = Partitions::default();
    let all: Partitions = (0..6).map(|partition| (topic(1), partition)).collect();
    let targets = AssignorKind::Uniform.assign(
        &[
            subscriber("a", &[1, 2], &all),
            subscriber("b", &[1], &none),
            subscriber("c", &[2], &none),
        ],
        &[(topic(1), 6), (topic(2), 2)].into(),
    );
    let loads: Vec<_> = targets.iter().map(Partitions::len).collect();
    assert_eq!(loads, [3, 3, 2], "{:?}", show(&targets));
}

fn group() -> impl Strategy<Value = (Vec<Vec<u64>>, Vec<i32>, bool)> {
    let topics = prop::collection::vec(0..12_i32, 1..5);
    topics.prop_flat_map(|counts| {
        let numbers: Vec<u64> = (0..counts.len() as u64).collect();
        let subscription = prop::sample::subsequence(numbers, 0..=counts.len());
        (
            prop::collection::vec(subscription, 1..8),
            Just(counts),
            any::<bool>(),
        )
    })
}

proptest! {
    #[test]
    fn every_read_partition_has_one_owner_who_reads_it_and_a_second_run_changes_nothing(
        (subscriptions, counts, alike) in group()
    ) {
        let topics: PartitionCounts = counts.iter().enumerate().map(|(n, count)| (topic(n as u64), *count)).collect();
        let subscriptions: Vec<_> = match alike {
            true => vec![subscriptions[0].clone(); subscriptions.len()],
            false => subscriptions,
        };
        for kind in [AssignorKind::Uniform, AssignorKind::Range] {
            let members = |former: &[Partitions]| -> Vec<Subscriber> {
                subscriptions.iter().enumerate().map(|(n, read)| subscriber(&format!("m{n}"), read, &former[n])).collect()
            };
            let nothing = vec![Partitions::default(); subscriptions.len()];
            let targets = kind.assign(&members(&nothing), &topics);
            let mut owners: BTreeMap<(Uuid, i32), usize> = BTreeMap::new();
            for (target, read) in targets.iter().zip(&subscriptions) {
                for (id, partition) in target.iter() {
                    prop_assert!(read.iter().any(|number| topic(*number) == id));
                    *owners.entry((id, partition)).or_default() += 1;
                }
            }
            prop_assert!(owners.values().all(|count| *count == 1));
            let expected: i32 = counts.iter().enumerate()
                .filter(|(n, _)| subscriptions.iter().any(|read| read.contains(&(*n as u64))))
                .map(|(_, count)| *count).sum();
            prop_assert_eq!(owners.len() as i32, expected);
            if alike && kind == AssignorKind::Uniform {
                let loads: Vec<_> = targets.iter().map(Partitions::len).collect();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
            }
            prop_assert_eq!(&kind.assign(&members(&targets), &topics), &targets);
        }
    }
}

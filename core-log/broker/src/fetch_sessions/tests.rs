//! The cache: who gets a session, who loses one, which requests go on with one.

use super::*;

const LATER_MS: u64 = FETCH_SESSION_MIN_EVICTION_MS + 1;

fn partitions(count: i32) -> SessionPartitions {
    let mut partitions = SessionPartitions::default();
    for partition in 0..count {
        let wanted = Wanted {
            fetch_offset: 0,
            max_bytes: 1,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        let topic = TopicKey::Name("t".into());
        partitions.want(&PartitionKey { topic, partition }, wanted);
    }
    partitions
}

fn request(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest {
        id,
        epoch,
        uses_topic_ids: false,
    }
}

#[test]
fn semantic_48_an_epoch_is_good_once_and_a_session_in_work_cannot_be_taken_again() {
    let sessions = FetchSessions::new(10);
    let owner = sessions.owner();
    let id = owner.create(false, partitions(2), 0);
    assert!(id > 0);
    let resumed = owner.resume(request(id, 1), 0).unwrap();
    let code = |epoch| owner.resume(request(id, epoch), 0).map(|_| ()).unwrap_err();
    assert_eq!(code(1), ErrorCode::InvalidFetchSessionEpoch);
    assert_eq!(code(2), ErrorCode::InvalidFetchSessionEpoch, "it is in work");
    resumed.keep();
    assert_eq!(code(1), ErrorCode::InvalidFetchSessionEpoch);
    let with_ids = SessionRequest {
        uses_topic_ids: true,
        ..request(id, 2)
    };
    let refused = owner.resume(with_ids, 0).map(|_| ()).unwrap_err();
    assert_eq!(refused, ErrorCode::FetchSessionTopicIdError);
    // A fetch that ends without an answer takes its session with it.
    drop(owner.resume(request(id, 2), 0).unwrap());
    assert_eq!(code(3), ErrorCode::FetchSessionIdNotFound);
    assert_eq!(sessions.counts().partitions, 0);
}

#[test]
fn epochs_go_from_the_largest_to_one() {
    assert_eq!([next_epoch(0), next_epoch(7), next_epoch(i32::MAX)], [1, 8, 1]);
}

#[test]
fn a_full_cache_gives_way_to_the_stale_then_to_the_larger() {
    let sessions = FetchSessions::new(2);
    let owner = sessions.owner();
    let small = owner.create(false, partitions(1), 0);
    let large = owner.create(false, partitions(5), 0);
    assert_eq!(owner.create(false, partitions(9), 0), NO_SESSION, "all are young");
    // Both were used lately: the smaller one goes for a larger, not for an equal one.
    owner.resume(request(small, 1), LATER_MS).unwrap().keep();
    owner.resume(request(large, 1), LATER_MS).unwrap().keep();
    assert_eq!(owner.create(false, partitions(1), LATER_MS), NO_SESSION);
    let newer = owner.create(false, partitions(2), LATER_MS);
    assert!(newer > 0 && owner.resume(request(small, 2), LATER_MS).is_err());
    // Stale: whatever its size.
    assert!(owner.create(false, partitions(1), 2 * LATER_MS + 1) > 0);
    assert_eq!(sessions.counts().sessions, 2);
}

#[test]
fn hostile_62_sessions_of_one_connection_are_few_and_end_with_it() {
    let sessions = FetchSessions::new(1_000);
    let (hostile, honest) = (sessions.owner(), sessions.owner());
    let kept = honest.create(false, partitions(3), 0);
    for at in 0..100_000 {
        assert!(hostile.create(false, partitions(1), at) > 0);
    }
    assert_eq!(sessions.counts().sessions, MAX_FETCH_SESSIONS_PER_CONNECTION + 1);
    // Guesses find nothing.
    for id in [-1, 1, 2, i32::MAX, i32::MIN]
        .into_iter()
        .filter(|id| *id != kept)
    {
        assert!(hostile.resume(request(id, 1), 0).is_err(), "{id}");
    }
    drop(hostile);
    assert_eq!(
        sessions.counts(),
        SessionCounts {
            sessions: 1,
            partitions: 3
        }
    );
    assert_eq!(
        FetchSessions::new(0).owner().create(false, partitions(1), 0),
        NO_SESSION
    );
}

#[test]
fn partitions_of_all_sessions_together_are_bounded() {
    let sessions = FetchSessions::new(1_000);
    let owner = sessions.owner();
    let most = i32::try_from(MAX_FETCH_SESSION_PARTITIONS).unwrap();
    assert_eq!(owner.create(false, partitions(most + 1), 0), NO_SESSION);
    let first = owner.create(false, partitions(most - 1), 0);
    let second = sessions.owner().create(false, partitions(2), 0);
    assert!(first > 0 && second == NO_SESSION);
    let mut resumed = owner.resume(request(first, 1), 0).unwrap();
    resumed.partitions = partitions(most + 1);
    assert_eq!(resumed.resized(), Err(ErrorCode::FetchSessionIdNotFound));
    drop(resumed);
    assert_eq!(sessions.counts().sessions, 0);
}

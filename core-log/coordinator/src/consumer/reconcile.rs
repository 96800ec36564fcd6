//! How a member moves from what it owns to its target: revocation before assignment (KIP-848).
//!
//! | state | moves on when |
//! |---|---|
//! | STABLE | the target has a newer epoch |
//! | UNREVOKED_PARTITIONS | the member reports that it owns none of what it must give up |
//! | UNRELEASED_PARTITIONS | on every heartbeat: takes what others have released meanwhile |
//!
//! # Invariants
//! - CG-1: only partitions that nobody else holds are added.

use super::group::MemberState;
use super::partitions::Partitions;
use super::records::CurrentAssignment;

/// What a member is to be moved to.
#[derive(Debug)]
pub(crate) struct Goal<'a> {
    pub(crate) epoch: i32,
    pub(crate) target: &'a Partitions,
    /// What the member says it owns; `None` if it did not say.
    pub(crate) owned: Option<&'a Partitions>,
}

/// The member's next assignment, or the same one while it cannot move. `held_by_others` is asked only if needed.
pub(crate) fn reconcile(
    current: &CurrentAssignment,
    goal: &Goal<'_>,
    held_by_others: impl FnOnce() -> Partitions,
) -> CurrentAssignment {
    match current.state {
        MemberState::Stable if current.epoch == goal.epoch => current.clone(),
        MemberState::Stable => next(current, current.epoch, goal, held_by_others),
        MemberState::UnrevokedPartitions if still_owns(goal.owned, &current.revoking) => current.clone(),
        // What was revoked belonged to the epoch the member comes from; it is in the next one now.
        MemberState::UnrevokedPartitions => {
            let epoch = current.epoch.saturating_add(1).min(goal.epoch);
            next(current, epoch, goal, held_by_others)
        }
        MemberState::UnreleasedPartitions => next(current, current.epoch, goal, held_by_others),
        // Written by a newer coordinator: the caller fences the member unless it owns nothing.
        MemberState::Unknown => next(current, goal.epoch, goal, held_by_others),
    }
}

/// Whether the member has, or may have, some of these partitions.
fn still_owns(owned: Option<&Partitions>, revoking: &Partitions) -> bool {
    owned.is_none_or(|owned| !owned.is_disjoint_from(revoking))
}

fn next(
    current: &CurrentAssignment,
    epoch: i32,
    goal: &Goal<'_>,
    held_by_others: impl FnOnce() -> Partitions,
) -> CurrentAssignment {
    let (mut assigned, revoking): (Partitions, Partitions) = {
        let (kept, lost): (Vec<_>, Vec<_>) = current
            .assigned
            .iter()
            .partition(|(topic, partition)| goal.target.contains(*topic, *partition));
        (kept.into_iter().collect(), lost.into_iter().collect())
    };
    if !revoking.is_empty() && still_owns(goal.owned, &revoking) {
        return CurrentAssignment {
            epoch,
            previous_epoch: current.epoch,
            state: MemberState::UnrevokedPartitions,
            assigned,
            revoking,
        };
    }
    let mut is_waiting = false;
    if goal.target.len() > assigned.len() {
        let held = held_by_others();
        for (topic, partition) in goal.target.iter() {
            if assigned.contains(topic, partition) {
                continue;
            }
            if held.contains(topic, partition) {
                is_waiting = true;
            } else {
                assigned.insert(topic, partition);
            }
        }
    }
    let state = match is_waiting {
        true => MemberState::UnreleasedPartitions,
        false => MemberState::Stable,
    };
    let next = CurrentAssignment {
        epoch: goal.epoch,
        previous_epoch: current.epoch,
        state,
        assigned,
        revoking: Partitions::default(),
    };
    // A member that waits and gets nothing has not changed: no record, no new epoch to be told.
    let is_same = next.epoch == current.epoch
        && next.state == current.state
        && next.assigned == current.assigned
        && current.revoking.is_empty();
    match is_same {
        true => current.clone(),
        false => next,
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::Uuid;

    use super::*;

    const T: Uuid = Uuid::from_u64_pair(0, 1);

    fn set(partitions: &[i32]) -> Partitions {
        partitions.iter().map(|partition| (T, *partition)).collect()
    }

    fn stable(epoch: i32, assigned: &[i32]) -> CurrentAssignment {
        CurrentAssignment {
            epoch,
            previous_epoch: epoch,
            assigned: set(assigned),
            ..Default::default()
        }
    }

    #[test]
    fn revocation_comes_first_then_what_is_free_then_what_others_release() {
        let target = set(&[1, 2, 3]);
        let goal = |owned| Goal {
            epoch: 5,
            target: &target,
            owned,
        };
        let before = stable(4, &[0, 1]);
        let told = reconcile(&before, &goal(None), || unreachable!("nothing is given before"));
        assert_eq!((told.state, told.epoch), (MemberState::UnrevokedPartitions, 4));
        assert_eq!((&told.assigned, &told.revoking), (&set(&[1]), &set(&[0])));

        let owned = set(&[0, 1]);
        assert_eq!(
            reconcile(&told, &goal(Some(&owned)), || unreachable!("still owned")),
            told
        );
        assert_eq!(reconcile(&told, &goal(None), || unreachable!("not said")), told);

        let owned = set(&[1]);
        let waiting = reconcile(&told, &goal(Some(&owned)), || set(&[3]));
        assert_eq!(
            (waiting.state, waiting.epoch),
            (MemberState::UnreleasedPartitions, 5)
        );
        assert_eq!(waiting.assigned, set(&[1, 2]));
        assert_eq!(reconcile(&waiting, &goal(None), || set(&[3])), waiting);

        let done = reconcile(&waiting, &goal(None), Partitions::default);
        assert_eq!(
            (done.state, done.assigned),
            (MemberState::Stable, set(&[1, 2, 3]))
        );
    }

    #[test]
    fn a_member_that_already_gave_up_what_it_must_lose_goes_on_at_once() {
        let target = set(&[1]);
        let owned = set(&[1]);
        let goal = Goal {
            epoch: 5,
            target: &target,
            owned: Some(&owned),
        };
        let next = reconcile(&stable(4, &[0, 1]), &goal, Partitions::default);
        assert_eq!(
            (next.state, next.epoch, next.previous_epoch),
            (MemberState::Stable, 5, 4)
        );
    }
}

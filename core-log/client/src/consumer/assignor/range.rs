//! Kafka's `range`: topic by topic, neighbouring partitions to one member, so that topics of equal partitioning end
//! up side by side at the same members.

use std::collections::BTreeMap;

use super::{
    Assignor, MemberAssignment, MemberSubscription, PartitionCounts, RebalanceProtocol, into_assignments,
    partitions_of, sorted,
};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    fn assign(&self, cluster: &PartitionCounts, members: &[MemberSubscription]) -> Vec<MemberAssignment> {
        let mut given = BTreeMap::new();
        for (topic, count) in cluster {
            let mut takers = sorted(members);
            takers.retain(|member| member.wants(topic));
            if takers.is_empty() {
                continue;
            }
            let (share, extra) = (*count as usize / takers.len(), *count as usize % takers.len());
            let mut partitions = partitions_of(topic, *count);
            for (index, member) in takers.into_iter().enumerate() {
                let length = share + usize::from(index < extra);
                let taken: &mut Vec<_> = given.entry(member.member_id.clone()).or_default();
                taken.extend(partitions.by_ref().take(length));
            }
        }
        into_assignments(members, given)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn the_first_members_take_one_more_of_each_topic() {
        let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
        let given = RangeAssignor.assign(&counts(&[("t", 3), ("u", 3)]), &members);
        assert_eq!(print(&given), "a: t-0 t-1 u-0 u-1\nb: t-2 u-2");
    }

    #[test]
    fn members_get_only_what_they_subscribed_to_and_static_ones_come_first() {
        let mut fixed = member("z", &["t"]);
        fixed.group_instance_id = Some("one".into());
        let members = [member("a", &["t"]), fixed, member("c", &["gone"])];
        let given = RangeAssignor.assign(&counts(&[("t", 3)]), &members);
        assert_eq!(print(&given), "a: t-2\nc: \nz: t-0 t-1");
    }
}

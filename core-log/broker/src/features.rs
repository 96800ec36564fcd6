//! The features a node tells clients about in ApiVersions (KIP-584): protocol flows that clients only use where a broker
//! says that it knows them.
//!
//! A row here is a promise that the whole flow is served. `transaction.version` is left out until transactions are;
//! clients then stay on the flow they have always used.

use highwater_cluster::decide::METADATA_VERSION;
use highwater_wire::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};

/// From this version of ApiVersions on, clients understand features that may be at level 0, which means "off".
const FIRST_WITH_LEVEL_ZERO: i16 = 4;

/// One feature and the levels of it this node knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeatureRow {
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// In force where the metadata says nothing; 0 is off.
    pub(crate) default_level: i16,
}

/// Every feature, sorted by name.
pub(crate) const FEATURES: &[FeatureRow] = &[
    // Consumer groups whose partitions the coordinator assigns (KIP-848).
    FeatureRow {
        name: "group.version",
        min: 0,
        max: 1,
        default_level: 1,
    },
    // Counts the formats of our own metadata log.
    FeatureRow {
        name: "metadata.version",
        min: 1,
        max: METADATA_VERSION,
        default_level: METADATA_VERSION,
    },
];

/// What an answer of `version` lists as supported: below version 4 nothing that begins at level 0, because older
/// clients refuse such an answer as a whole.
pub(crate) fn supported(features: &[FeatureRow], version: i16) -> Vec<SupportedFeatureKey> {
    let shown = features
        .iter()
        .filter(|row| row.min > 0 || version >= FIRST_WITH_LEVEL_ZERO);
    shown
        .map(|row| SupportedFeatureKey {
            name: row.name.into(),
            min_version: row.min,
            max_version: row.max,
        })
        .collect()
}

/// The levels in force, those at 0 left out as Kafka does.
pub(crate) fn finalized(
    features: &[FeatureRow],
    level: impl Fn(&str) -> Option<i16>,
) -> Vec<FinalizedFeatureKey> {
    let in_force = features.iter().filter_map(|row| {
        let level = level(row.name).unwrap_or(row.default_level).min(row.max);
        (level > 0).then(|| FinalizedFeatureKey {
            name: row.name.into(),
            min_version_level: level,
            max_version_level: level,
        })
    });
    in_force.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[FeatureRow] = &[
        FeatureRow {
            name: "new.flow",
            min: 0,
            max: 2,
            default_level: 1,
        },
        FeatureRow {
            name: "old.flow",
            min: 1,
            max: 1,
            default_level: 0,
        },
    ];

    #[test]
    fn features_that_begin_at_zero_are_shown_from_version_4_on() {
        let names = |version| {
            let rows = supported(SAMPLE, version);
            rows.into_iter()
                .map(|row| row.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["old.flow"]);
        assert_eq!(names(4), ["new.flow", "old.flow"]);
    }

    #[test]
    fn the_metadata_decides_the_level_and_level_zero_is_not_listed() {
        let levels = |stored: Option<i16>| {
            let rows = finalized(SAMPLE, |name| stored.filter(|_| name == "new.flow"));
            rows.into_iter()
                .map(|row| (row.name.to_string(), row.max_version_level))
                .collect::<Vec<_>>()
        };
        assert_eq!(levels(None), [("new.flow".to_owned(), 1)]);
        assert_eq!(levels(Some(2)), [("new.flow".to_owned(), 2)]);
        assert_eq!(levels(Some(0)), []);
    }

    #[test]
    fn rows_are_sorted_and_their_levels_make_sense() {
        assert!(FEATURES.is_sorted_by_key(|row| row.name));
        for row in FEATURES {
            assert!(row.min <= row.max && row.default_level <= row.max, "{row:?}");
        }
    }
}

//! Finalising the levels of features (KIP-584, KIP-778).

use std::collections::BTreeSet;

use crate::{
    image::MetadataImage,
    record::{FeatureRecord, MetadataRecord},
};

/// A feature this build knows, with the levels it can work at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureDef {
    /// Kafka's name of the feature.
    pub name: &'static str,
    /// The lowest level supported; 0 where the cluster can do without.
    pub min: i16,
    /// The highest level supported.
    pub max: i16,
    /// The level in force while the metadata says nothing.
    pub default_level: i16,
}

/// What a change of a level may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeType {
    /// Raise it.
    Upgrade,
    /// Lower it if nothing is lost.
    SafeDowngrade,
    /// Lower it whatever is lost.
    UnsafeDowngrade,
}

/// A level somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature's name as given.
    pub name: String,
    /// The level; 0 takes the feature out of use.
    pub level: i16,
    /// What may be done.
    pub upgrade_type: UpgradeType,
}

/// Why levels were not changed. Kafka answers INVALID_UPDATE_VERSION (95) unless a variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The feature is named twice: INVALID_REQUEST (42).
    #[error("the request names feature '{name}' more than once")]
    DuplicateInRequest {
        /// The feature.
        name: String,
    },
    /// No such feature.
    #[error("no node supports a feature '{name}'")]
    Unknown {
        /// The feature.
        name: String,
    },
    /// The level is not among those supported.
    #[error("feature '{name}' cannot be at level {level}; nodes support {min} to {max}")]
    Unsupported {
        /// The feature.
        name: &'static str,
        /// The level asked for.
        level: i16,
        /// The lowest supported.
        min: i16,
        /// The highest supported.
        max: i16,
    },
    /// The level is lower than now, and the request does not say that it may be.
    #[error(
        "feature '{name}' is at level {current}; going down to {level} needs the upgrade type of a downgrade"
    )]
    NeedsDowngrade {
        /// The feature.
        name: &'static str,
        /// The level now.
        current: i16,
        /// The level asked for.
        level: i16,
    },
    /// The level is higher than now, and the request asks for a downgrade.
    #[error("feature '{name}' is at level {current}; level {level} is no downgrade")]
    NotADowngrade {
        /// The feature.
        name: &'static str,
        /// The level now.
        current: i16,
        /// The level asked for.
        level: i16,
    },
}

/// Decides about levels: all of them or none.
///
/// # Errors
/// [`FeatureError`] for the first update that cannot be.
pub fn update_features(
    image: &MetadataImage,
    supported: &[FeatureDef],
    updates: &[FeatureUpdate],
) -> Result<Vec<MetadataRecord>, FeatureError> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for update in updates {
        if !seen.insert(&update.name) {
            let name = update.name.clone();
            return Err(FeatureError::DuplicateInRequest { name });
        }
        records.extend(update_feature(image, supported, update)?);
    }
    Ok(records)
}

fn update_feature(
    image: &MetadataImage,
    supported: &[FeatureDef],
    update: &FeatureUpdate,
) -> Result<Option<MetadataRecord>, FeatureError> {
    let unknown = || FeatureError::Unknown {
        name: update.name.clone(),
    };
    let feature = supported.iter().find(|feature| feature.name == update.name);
    let FeatureDef {
        name,
        min,
        max,
        default_level,
    } = *feature.ok_or_else(unknown)?;
    let level = update.level;
    if !(min..=max).contains(&level) {
        return Err(FeatureError::Unsupported {
            name,
            level,
            min,
            max,
        });
    }
    let current = image.features().get(name).copied().unwrap_or(default_level);
    if level == current {
        return Ok(None);
    }
    match update.upgrade_type {
        UpgradeType::Upgrade if level < current => Err(FeatureError::NeedsDowngrade { name, current, level }),
        UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if level > current => {
            Err(FeatureError::NotADowngrade { name, current, level })
        }
        UpgradeType::Upgrade | UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade => {
            let name = name.to_owned();
            Ok(Some(MetadataRecord::Feature(FeatureRecord { name, level })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPPORTED: &[FeatureDef] = &[
        FeatureDef {
            name: "a",
            min: 0,
            max: 3,
            default_level: 0,
        },
        FeatureDef {
            name: "b",
            min: 1,
            max: 1,
            default_level: 1,
        },
    ];

    fn update(name: &str, level: i16, upgrade_type: UpgradeType) -> FeatureUpdate {
        FeatureUpdate {
            name: name.into(),
            level,
            upgrade_type,
        }
    }

    #[test]
    fn levels_move_within_what_is_supported_and_in_the_direction_that_is_said() {
        use UpgradeType::{SafeDowngrade, UnsafeDowngrade, Upgrade};
        let raised =
            update_features(&MetadataImage::default(), SUPPORTED, &[update("a", 2, Upgrade)]).unwrap();
        let image = MetadataImage::default().apply(&raised).unwrap();
        let decide = |update| update_features(&image, SUPPORTED, &[update]).map(|records| records.len());
        assert_eq!(decide(update("a", 3, Upgrade)), Ok(1));
        assert_eq!(decide(update("a", 2, Upgrade)), Ok(0));
        assert_eq!(decide(update("a", 1, SafeDowngrade)), Ok(1));
        for refused in [
            update("a", 1, Upgrade),
            update("a", 3, UnsafeDowngrade),
            update("a", 4, Upgrade),
            update("a", -1, UnsafeDowngrade),
            update("b", 0, UnsafeDowngrade),
            update("c", 1, Upgrade),
        ] {
            assert!(decide(refused.clone()).is_err(), "{refused:?}");
        }
        let lowered = update_features(&image, SUPPORTED, &[update("a", 0, UnsafeDowngrade)]).unwrap();
        assert_eq!(
            image.apply(&lowered).unwrap().features().get("a"),
            Some(&0),
            "off, not forgotten"
        );
    }

    #[test]
    fn one_bad_update_spoils_all() {
        let good = update("a", 1, UpgradeType::Upgrade);
        let bad = update("b", 9, UpgradeType::Upgrade);
        let image = MetadataImage::default();
        assert!(update_features(&image, SUPPORTED, &[good.clone(), bad]).is_err());
        assert!(update_features(&image, SUPPORTED, &[good.clone(), good]).is_err());
    }
}

//! Naming the cluster and registering brokers (KIP-631).

use highwater_types::BrokerId;
use uuid::Uuid;

use crate::{
    image::{BrokerImage, MetadataImage},
    record::{ClusterRecord, EndpointRecord, FeatureRecord, MetadataRecord},
};

/// The level of the metadata format that this build writes.
pub const METADATA_VERSION: i16 = 1;

/// A broker's process that has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerRegistration {
    /// The broker.
    pub broker_id: BrokerId,
    /// Drawn anew by each start of the process.
    pub incarnation_id: Uuid,
    /// Where clients reach it; one address per listener.
    pub endpoints: Vec<EndpointRecord>,
    /// The rack it stands in, if told.
    pub rack: Option<String>,
}

/// Why a registration was refused: INVALID_REGISTRATION (119).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// Broker ids count from 0.
    #[error("a broker cannot have the id {broker_id}; use 0 or more")]
    NegativeId {
        /// The id.
        broker_id: BrokerId,
    },
    /// Two addresses for one listener.
    #[error("broker {broker_id} registers listener '{listener}' more than once")]
    DuplicateListener {
        /// The broker.
        broker_id: BrokerId,
        /// The listener.
        listener: String,
    },
}

/// Records that make an empty image a cluster; none when it is one.
pub fn bootstrap(image: &MetadataImage, fresh_cluster_id: &str) -> Vec<MetadataRecord> {
    if image.cluster_id().is_some() {
        return Vec::new();
    }
    vec![
        MetadataRecord::Cluster(ClusterRecord {
            cluster_id: fresh_cluster_id.to_owned(),
        }),
        MetadataRecord::Feature(FeatureRecord {
            name: "metadata.version".to_owned(),
            level: METADATA_VERSION,
        }),
    ]
}

/// Decides about a registration: the broker's epoch and what to commit, which is nothing when this very incarnation is
/// registered with the same addresses already.
///
/// Epochs are taken from the image's version, so they grow with time over all brokers.
///
/// # Errors
/// [`RegistrationError`].
pub fn register_broker(
    image: &MetadataImage,
    registration: &BrokerRegistration,
) -> Result<(i64, Vec<MetadataRecord>), RegistrationError> {
    let broker_id = registration.broker_id;
    if broker_id.get() < 0 {
        return Err(RegistrationError::NegativeId { broker_id });
    }
    let mut listeners: Vec<_> = registration
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.listener)
        .collect();
    listeners.sort();
    if let Some(pair) = listeners.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(RegistrationError::DuplicateListener {
            broker_id,
            listener: pair[0].clone(),
        });
    }
    let mut broker = BrokerImage {
        incarnation_id: registration.incarnation_id,
        broker_epoch: 0,
        endpoints: registration.endpoints.clone(),
        rack: registration.rack.clone(),
    };
    let known = image.brokers().get(&broker_id);
    if let Some(known) = known {
        broker.broker_epoch = known.broker_epoch;
        if *known == broker {
            return Ok((known.broker_epoch, Vec::new()));
        }
    }
    // One more than anything known: versions only grow, and so do the epochs of one broker.
    let version = i64::try_from(image.version()).unwrap_or(i64::MAX);
    broker.broker_epoch = version
        .max(known.map_or(0, |known| known.broker_epoch))
        .saturating_add(1);
    Ok((
        broker.broker_epoch,
        vec![MetadataRecord::Broker(broker.record(broker_id))],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(incarnation: u128, port: u16) -> BrokerRegistration {
        let endpoint = |listener: &str| EndpointRecord {
            listener: listener.into(),
            host: "h".into(),
            port,
        };
        BrokerRegistration {
            broker_id: BrokerId::new(1),
            incarnation_id: Uuid::from_u128(incarnation),
            endpoints: vec![endpoint("PLAINTEXT")],
            rack: None,
        }
    }

    #[test]
    fn a_cluster_is_named_once() {
        let records = bootstrap(&MetadataImage::default(), "first");
        let image = MetadataImage::default().apply(&records).unwrap();
        assert_eq!(image.cluster_id(), Some("first"));
        assert_eq!(image.features().get("metadata.version"), Some(&METADATA_VERSION));
        assert_eq!(bootstrap(&image, "second"), vec![]);
    }

    #[test]
    fn a_restart_gets_a_higher_epoch_and_a_repeat_the_same() {
        let empty = MetadataImage::default();
        let (first, records) = register_broker(&empty, &registration(1, 9092)).unwrap();
        let image = empty.apply(&records).unwrap();
        assert_eq!(
            register_broker(&image, &registration(1, 9092)),
            Ok((first, vec![]))
        );

        let (second, records) = register_broker(&image, &registration(2, 9092)).unwrap();
        assert!(second > first);
        let image = image.apply(&records).unwrap();
        assert_eq!(
            image.brokers()[&BrokerId::new(1)].incarnation_id,
            Uuid::from_u128(2)
        );

        let (moved, records) = register_broker(&image, &registration(2, 9093)).unwrap();
        assert!(moved > second);
        assert!(image.apply(&records).is_ok());
    }

    #[test]
    fn one_listener_with_two_addresses_is_refused() {
        let mut twice = registration(1, 9092);
        twice.endpoints.push(twice.endpoints[0].clone());
        let refused = register_broker(&MetadataImage::default(), &twice).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "broker 1 registers listener 'PLAINTEXT' more than once"
        );
    }
}

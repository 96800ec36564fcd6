//! Records of the metadata log.

use highwater_cluster::{MetadataImage, MetadataRecord};

/// A JSON array of records, as the log's files hold them.
pub(super) fn records(input: &[u8]) {
    let Ok(records) = serde_json::from_slice::<Vec<MetadataRecord>>(input) else {
        return;
    };
    let Ok(image) = MetadataImage::default().apply(&records) else {
        return;
    };
    let restored =
        MetadataImage::restore(image.version(), &image.records()).expect("an image's own records replay");
    assert_eq!(
        restored.records(),
        image.records(),
        "a snapshot says what the log said"
    );
}

//! Reading metadata files for people: each frame as the JSON it is.

use std::path::Path;
use std::sync::Arc;

use highwater_storage::Disk;
use serde_json::Value;

use super::MetadataError;
use super::files::MetadataDir;

/// Files of a node's metadata directory, in reading order.
pub const METADATA_FILES: [&str; 4] = ["identity", "vote", "snapshot", "log"];

/// The frames of one metadata file with the byte at which each payload begins, and how many bytes at the end are the
/// rest of an interrupted append. Nothing is written.
///
/// # Errors
/// [`MetadataError`] when the file cannot be read or is damaged before its end; a missing file has no frames.
pub fn inspect_metadata(
    disk: Arc<dyn Disk>,
    metadata_dir: &Path,
    name: &str,
) -> Result<(Vec<(u64, Value)>, u64), MetadataError> {
    let dir = MetadataDir::existing(disk, metadata_dir.to_owned());
    let Some(bytes) = dir.read(name)? else {
        return Ok((Vec::new(), 0));
    };
    let frames = dir.frames(name, &bytes)?;
    let rest = bytes.len() - frames.last().map_or(0, |payload| payload.end);
    let values: Result<Vec<(u64, Value)>, MetadataError> = frames
        .into_iter()
        .map(|payload| Ok((payload.start as u64, dir.decode(name, &bytes, payload)?)))
        .collect();
    Ok((values?, rest as u64))
}

//! Reading metadata files for people: each frame as the JSON it is, but for what is kept of passwords.

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
        .map(|payload| {
            let position = payload.start as u64;
            let mut value = dir.decode(name, &bytes, payload)?;
            hide_secrets(&mut value);
            Ok((position, value))
        })
        .collect();
    Ok((values?, rest as u64))
}

/// The kinds of records that hold secrets, and the members that are.
const SECRETS: [(&str, &[&str]); 1] = [("scram_credential.1", &["salt", "stored_key", "server_key"])];

/// Replaces what must not be shown, wherever records are in the frame.
fn hide_secrets(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        Value::Object(members) => {
            for (name, member) in members {
                let kind = SECRETS.iter().find(|(kind, _)| kind == name);
                match kind.and_then(|(_, secrets)| Some((secrets, member.get_mut("credential")?))) {
                    Some((secrets, credential)) => {
                        for secret in *secrets {
                            if let Some(secret) = credential.get_mut(*secret) {
                                *secret = Value::from("[hidden]");
                            }
                        }
                    }
                    None => hide_secrets(member),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

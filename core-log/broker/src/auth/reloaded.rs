//! What is made of files that may change while the node runs: certificates, users, keys.
//!
//! A task of the node looks at the files once in a while ([`LOOK_EVERY`]); what they hold is checked as at the start. A
//! change that cannot be used is logged and leaves what was there in force.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::SecurityError;

/// How long a change takes to be noticed at most, besides the time to read it.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The largest file of this kind.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

type Load<T> = Box<dyn Fn() -> Result<T, SecurityError> + Send + Sync>;

/// A value and the files it was made of.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    load: Load<T>,
    /// What the files looked like when they were last read.
    seen: Mutex<Vec<Option<Look>>>,
    value: RwLock<Arc<T>>,
}

/// Enough to notice that a file is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    len_bytes: u64,
}

impl<T> fmt::Debug for Reloaded<T> {
    /// Names of files, never what they hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    /// Reads for the first time.
    ///
    /// # Errors
    /// What `load` refuses.
    pub(crate) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, SecurityError> + Send + Sync + 'static,
    ) -> Result<Self, SecurityError> {
        // Looked at first: what changes in between is read again.
        let seen = looks(&files);
        let value = load()?;
        Ok(Reloaded {
            files,
            load: Box::new(load),
            seen: Mutex::new(seen),
            value: RwLock::new(Arc::new(value)),
        })
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads again if a file has changed. Blocks on the disk.
    pub(crate) fn look(&self) {
        let looks = looks(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == looks {
            return;
        }
        *seen = looks;
        match (self.load)() {
            Ok(value) => {
                *self.value.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
                tracing::info!(files = ?self.files, "read again, since a file has changed");
            }
            Err(error) => {
                tracing::error!(%error, "a changed file cannot be used; what was read before stays in force")
            }
        }
    }
}

fn looks(files: &[PathBuf]) -> Vec<Option<Look>> {
    let look = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        Some(Look {
            modified: meta.modified().ok(),
            len_bytes: meta.len(),
        })
    };
    files.iter().map(look).collect()
}

/// The bytes of a file that `setting` names.
///
/// # Errors
/// [`SecurityError::Unreadable`], also for what is too large to be meant.
pub(crate) fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, SecurityError> {
    let unreadable = |source| SecurityError::Unreadable {
        setting,
        path: path.to_path_buf(),
        source,
    };
    let len_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if len_bytes > MAX_FILE_BYTES {
        let too_large = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        return Err(unreadable(too_large));
    }
    std::fs::read(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_and_one_that_cannot_be_used_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let source = path.clone();
        let reloaded = Reloaded::new(vec![path.clone()], move || {
            let text = String::from_utf8(read("a", &source)?).unwrap();
            text.parse::<u32>().map_err(|_| SecurityError::Setting {
                setting: "a",
                problem: "no number".to_owned(),
            })
        })
        .unwrap();
        assert_eq!(*reloaded.current(), 1);
        std::fs::write(&path, "22").unwrap();
        reloaded.look();
        assert_eq!(*reloaded.current(), 22);
        std::fs::write(&path, "no number").unwrap();
        reloaded.look();
        assert_eq!(*reloaded.current(), 22);
        std::fs::remove_file(&path).unwrap();
        reloaded.look();
        assert_eq!(*reloaded.current(), 22);
    }
}

//! One sync for everything on a file system, in place of one per file, where its success can be believed.
//!
//! `syncfs` of Linux writes all dirty pages and the journal. Believing it takes a kernel that passes failures on: pages
//! that could not be written are told since Linux 5.8, to every descriptor that was open when they failed; a journal
//! that could not be, since 5.17. So a descriptor is held from before the first write on, kernels before that are not
//! asked, and neither are file systems that pass the call on to something else (FUSE, overlays, NFS).
//!
//! Refuses: judging by a failure, since the pages that were lost may be another program's. Who gets one syncs file by
//! file: the kernel remembers failures per file apart from those per file system, so none is lost by asking twice.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// A file system, watched since this was made.
pub trait FileSystem: Send + Sync + Debug {
    /// Whether a directory lies on it, and no link or mount leads elsewhere.
    fn holds(&self, dir: &Path) -> bool;
    /// Makes everything that was written to it durable, names included. An error says that something that was written
    /// since this was made is not, not whose it is.
    fn sync(&self) -> io::Result<()>;
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::FileSystem;

    /// ext2 to ext4, XFS, btrfs, F2FS: `statfs`'s numbers of file systems whose sync we know to wait and to tell.
    const BELIEVED: [u32; 4] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010];

    const FIRST_BELIEVED_KERNEL: (u32, u32) = (5, 17);

    #[derive(Debug)]
    struct Mounted {
        root: File,
        device: u64,
    }

    impl FileSystem for Mounted {
        fn holds(&self, dir: &Path) -> bool {
            std::fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.dev() == self.device)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(rustix::fs::syncfs(&self.root)?)
        }
    }

    pub(in crate::disk) fn of(dir: &Path) -> Option<Box<dyn FileSystem>> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        if kernel(&release)? < FIRST_BELIEVED_KERNEL {
            return None;
        }
        let root = File::open(dir).ok()?;
        // The numbers have 32 bits, whatever the width of the field.
        let kind = rustix::fs::fstatfs(&root).ok()?.f_type as u32;
        let device = root.metadata().ok()?.dev();
        BELIEVED
            .contains(&kind)
            .then(|| Box::new(Mounted { root, device }) as Box<dyn FileSystem>)
    }

    fn kernel(release: &str) -> Option<(u32, u32)> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn kernels_are_told_by_their_first_two_numbers() {
            assert_eq!(kernel("6.18.44-generic\n"), Some((6, 18)));
            assert_eq!(kernel("5.4\n"), Some((5, 4)));
            assert!(kernel("4.4.0").unwrap() < FIRST_BELIEVED_KERNEL);
            for odd in ["", "linux", "6", "6.x"] {
                assert_eq!(kernel(odd), None, "{odd:?}");
            }
        }

        #[test]
        fn a_file_system_that_is_believed_syncs_and_holds_its_directories_but_no_links() {
            let dir = tempfile::tempdir().unwrap();
            let inner = dir.path().join("t-0");
            std::fs::create_dir(&inner).unwrap();
            let link = dir.path().join("t-1");
            std::os::unix::fs::symlink(&inner, &link).unwrap();
            // Nothing to see where the temporary directory lies on another kind.
            let Some(file_system) = of(dir.path()) else { return };
            assert!(file_system.holds(&inner) && !file_system.holds(&link));
            assert!(!file_system.holds(&dir.path().join("none")) && !file_system.holds(Path::new("/proc")));
            file_system.sync().unwrap();
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::of;

#[cfg(not(target_os = "linux"))]
pub(super) fn of(_dir: &Path) -> Option<Box<dyn FileSystem>> {
    None
}

//! The operating system's part: owners of files, and syncing to the disk.
//!
//! On Apple's systems, a sync also makes the disk flush its cache; a disk that cannot is accepted.
//! Systems without owners, such as Windows, treat all files as this user's.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};

/// Whether a file belongs to this user.
pub(crate) fn is_own(metadata: &Metadata) -> bool {
    is_owned_by(owner(metadata), effective_user())
}

fn is_owned_by(owner: Option<u32>, user: Option<u32>) -> bool {
    owner.is_none() || owner == user
}

/// The owner of a file, if the system has owners.
#[cfg(unix)]
fn owner(metadata: &Metadata) -> Option<u32> {
    Some(std::os::unix::fs::MetadataExt::uid(metadata))
}

#[cfg(not(unix))]
fn owner(_metadata: &Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn effective_user() -> Option<u32> {
    // SAFETY: geteuid has no preconditions.
    Some(unsafe { libc::geteuid() })
}

#[cfg(not(unix))]
fn effective_user() -> Option<u32> {
    None
}

/// Syncs a file to the disk.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    without_flush(file.sync_all(), cfg!(target_vendor = "apple"))
}

/// Syncs the names in an open directory to the disk.
pub(crate) fn sync_directory(directory: &File) -> io::Result<()> {
    match sync(directory) {
        // Some file systems cannot sync a directory.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// The result of a sync. On Apple's systems, `sync_all` makes the disk flush its cache, and network disks
/// reject that. Then the data reach the disk later.
fn without_flush(result: io::Result<()>, is_apple: bool) -> io::Result<()> {
    /// `ENOTSUP` of Apple's systems.
    const NOT_SUPPORTED: i32 = 45;
    match result {
        Err(error) if is_apple && error.raw_os_error() == Some(NOT_SUPPORTED) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_files_are_own() {
        assert!(is_owned_by(Some(7), Some(7)));
        assert!(!is_owned_by(Some(7), Some(8)));
        assert!(!is_owned_by(Some(7), None), "an unknown user owns nothing");
        assert!(is_owned_by(None, None), "a system without owners");
    }

    #[test]
    fn new_file_is_own() {
        let file = tempfile::tempfile().unwrap();
        assert!(is_own(&file.metadata().unwrap()));
    }

    #[test]
    fn disk_that_cannot_flush_its_cache_is_accepted_on_apples_systems() {
        let rejected = || Err(io::Error::from_raw_os_error(45));
        let full = || Err(io::Error::from_raw_os_error(28));
        assert!(without_flush(rejected(), true).is_ok());
        assert!(without_flush(rejected(), false).is_err());
        assert!(without_flush(full(), true).is_err());
        assert!(without_flush(Ok(()), false).is_ok());
    }
}

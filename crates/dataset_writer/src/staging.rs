//! Replaces files and directories only when their new content is complete.
//!
//! A result is written into a hidden staging directory next to its target, and then renamed. A
//! failing or interrupted write leaves the target unchanged. If the process is killed, its staging
//! directory remains. The next write in that place undoes the unfinished swap and removes the
//! directory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::platform::is_own;
use crate::swap::{restore, swap};

/// Prefix of the names of staging directories.
const PREFIX: &str = ".writing-";
const NEW: &str = "new";
const OLD: &str = "old";

/// The staging directory of a target, next to it. Removed when dropped.
pub struct FileStaging {
    dir: PathBuf,
    parent: PathBuf,
    name: OsString,
    /// The directory itself, locked until its process ends. None on file systems without locks, where no
    /// process removes the staging directory of another.
    _lock: Option<File>,
}

impl FileStaging {
    /// Creates a staging directory next to `target`, whose last component must be a name.
    ///
    /// # Errors
    ///
    /// [`Error::NotReplaceable`] if it is not a name, [`Error::Io`] if the directory cannot be created.
    pub fn next_to(target: &Path) -> Result<FileStaging> {
        let (parent, name) = split(target)?;
        remove_stale(&parent)?;
        loop {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
            let dir = dir.map_err(Error::io("write into", &parent))?;
            let handle = File::open(dir.path()).map_err(Error::io("open", dir.path()))?;
            let lock = match handle.try_lock() {
                Ok(()) => Some(handle),
                // Another process saw the directory before it was locked, and removes it.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(_)) => None,
            };
            if !dir.path().is_dir() {
                continue;
            }
            let new = dir.path().join(NEW);
            fs::create_dir(&new).map_err(Error::io("create", &new))?;
            return Ok(FileStaging { dir: dir.keep(), parent, name, _lock: lock });
        }
    }

    /// The path for the new content of the target.
    pub fn path(&self) -> PathBuf {
        self.dir.join(NEW).join(&self.name)
    }

    /// Moves the new file to the target, and replaces the old one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish_file(self) -> Result<()> {
        let target = self.parent.join(&self.name);
        fs::rename(self.path(), &target).map_err(Error::io("write", &target))
    }

    /// Moves the new directory to the target, and replaces the old one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish_directory(self) -> Result<()> {
        let entries = std::iter::once(&self.name);
        swap(&self.dir.join(NEW), &self.dir.join(OLD), &self.parent, entries)
    }
}

impl Drop for FileStaging {
    fn drop(&mut self) {
        // If an old directory could not be moved back, it stays in `old` until the next write.
        let old = self.dir.join(OLD);
        if fs::remove_dir(&old).is_ok() || !old.exists() {
            // If this fails, the next write removes the directory.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Undoes the moves of a killed process that was replacing `target`, if there is one.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::NotReplaceable`] if `target` does not end with a name.
pub fn recover(target: &Path) -> Result<()> {
    if target.symlink_metadata().is_ok() {
        return Ok(());
    }
    split(target).and_then(|(parent, _)| remove_stale(&parent))
}

/// Removes the staging directories in `parent` whose processes have ended, after undoing their
/// unfinished swaps.
fn remove_stale(parent: &Path) -> Result<()> {
    // If a parent cannot be listed, the following write reports it.
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let stale = entry.path();
        let Ok(metadata) = stale.symlink_metadata() else { continue };
        if !is_staging || !metadata.is_dir() || !is_own(&metadata) {
            continue;
        }
        let Ok(handle) = File::open(&stale) else { continue };
        if handle.try_lock().is_err() {
            continue;
        }
        restore(&stale.join(NEW), &stale.join(OLD), parent)?;
        let _ = fs::remove_dir_all(&stale);
    }
    Ok(())
}

/// Splits `target` into its parent directory and its name.
fn split(target: &Path) -> Result<(PathBuf, OsString)> {
    let refused = |problem: &str| Error::NotReplaceable {
        path: target.to_owned(),
        problem: problem.to_owned(),
    };
    let name = target.file_name().map(OsStr::to_owned);
    let ends_with_dot = [&b"."[..], b".."].iter().any(|dots| {
        target.as_os_str().as_encoded_bytes().rsplit(|byte| *byte == b'/').next() == Some(*dots)
    });
    match name {
        Some(name) if !ends_with_dot => {
            let absolute = std::path::absolute(target).map_err(Error::io("read", target))?;
            let parent = absolute.parent().unwrap_or(Path::new("/"));
            Ok((parent.to_owned(), name))
        }
        _ if target.as_os_str().is_empty() => Err(refused("is empty")),
        _ => Err(refused("does not end with a name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_staging_directories_of_ended_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x");
        fs::create_dir_all(dir.path().join(".writing-killed/new")).unwrap();
        fs::write(dir.path().join(".writing-killed/new/x"), "half").unwrap();
        let living = FileStaging::next_to(&target).unwrap();
        fs::write(living.path(), "1").unwrap();
        let second = FileStaging::next_to(&target).unwrap();
        assert_eq!(names(dir.path()).len(), 2, "{:?}", names(dir.path()));
        drop(second);
        living.finish_file().unwrap();
        assert_eq!(names(dir.path()), ["x"]);
        assert_eq!(fs::read_to_string(target).unwrap(), "1");
    }

    /// A process that is killed between the moves of a swap leaves the old directory or the new one.
    #[test]
    fn unfinished_swap_is_undone() {
        for name in ["data", "old", "new", "replaced"] {
            for moves in 0..=3 {
                let dir = tempfile::tempdir().unwrap();
                let (target, stale) = (dir.path().join(name), dir.path().join(".writing-killed"));
                let (new, old) = (stale.join(NEW), stale.join(OLD));
                for (folder, content) in [(&target, "old"), (&new.join(name), "new")] {
                    fs::create_dir_all(folder).unwrap();
                    fs::write(folder.join("file"), content).unwrap();
                }
                fs::create_dir(&old).unwrap();
                let replaced = stale.join("replaced");
                let all =
                    [(&target, &old.join(name)), (&new.join(name), &target), (&old, &replaced)];
                for (from, to) in all.into_iter().take(moves) {
                    fs::rename(from, to).unwrap();
                }
                match moves {
                    1 => recover(&target).unwrap(),
                    _ => drop(FileStaging::next_to(&target).unwrap()),
                }
                let expected = if moves == 3 { "new" } else { "old" };
                assert_eq!(fs::read_to_string(target.join("file")).unwrap(), expected);
                assert_eq!(names(dir.path()), [name], "{moves} moves");
            }
        }
    }

    #[test]
    fn failing_swap_leaves_the_old_directory() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("data");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("file"), "old").unwrap();
        // Nothing was written into the staging directory, so the second move fails.
        let error = FileStaging::next_to(&target).unwrap().finish_directory().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "old");
        assert_eq!(names(dir.path()), ["data"]);
    }

    #[test]
    fn target_must_end_with_a_name() {
        for target in ["", ".", "..", "/", "a/..", "a/.", "./", "../", "a/../.."] {
            let error = split(Path::new(target)).unwrap_err();
            assert!(matches!(error, Error::NotReplaceable { .. }), "{target}: {error}");
        }
        for target in ["a", "a/", "../a", "./a", "a/../b"] {
            split(Path::new(target)).unwrap();
        }
    }
}

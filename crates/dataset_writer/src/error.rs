//! The errors of this crate. Each message has the file, the reason, and what to do next.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The operating system refused an operation on a file or directory.
#[derive(Debug, thiserror::Error)]
#[error("Could not {action} {path}: {source}\n{}", io_hint(source, path))]
pub struct IoError {
    /// The operation as a verb: "write", "create", …
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: std::io::Error,
}

/// Why a dataset or a result was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),

    /// The target is something other than an earlier result.
    #[error("`{path}` {problem}, so nothing was written.\nMove it away, or choose another path")]
    NotReplaceable {
        /// The path.
        path: PathBuf,
        /// The problem, as a verb phrase.
        problem: String,
    },

    /// A file or directory that no earlier dataset wrote has the name of a part of the dataset.
    #[error(
        "{path} {problem}. A new dataset would replace it, so nothing was written.\nMove it away, or choose another directory"
    )]
    WouldOverwrite {
        /// The file or directory.
        path: PathBuf,
        /// The problem, as a verb phrase.
        problem: String,
    },

    /// The directory of a dataset cannot be used.
    #[error("output_dir is {value}, but must be {allowed}")]
    InvalidDirectory {
        /// The directory.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },

    /// Another process is writing a dataset into the same directory.
    #[error(
        "Another process is generating a dataset in {dir}.\nWait for it, or choose another directory"
    )]
    Busy {
        /// The directory.
        dir: PathBuf,
    },

    /// The disk has too little free space for a dataset.
    #[error(
        "The dataset may need {needed_mb} MB, but {dir} has only {free_mb} MB of free space.\nFree some space there, choose another directory, or generate fewer rows"
    )]
    NotEnoughSpace {
        /// The directory.
        dir: PathBuf,
        /// The largest size of the dataset, in MB (1,000,000 bytes).
        needed_mb: u64,
        /// The free space for this user, in MB.
        free_mb: u64,
    },
}

impl IoError {
    /// Adds `action` and `path` to an error of the operating system.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IoError {
        let path = path.to_owned();
        move |source| IoError { action, path, source }
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let at = IoError::at(action, path);
        move |source| Error::Io(at(source))
    }
}

/// The next step for the user after the operating system's error `source` at `path`.
pub fn io_hint(source: &std::io::Error, path: &Path) -> String {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "The disk is full: free some space there, or choose another directory, and try again"
                .to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "That file system is read-only: choose another directory".to_owned()
        }
        ErrorKind::PermissionDenied => format!(
            "Permission denied. Check the owner with `ls -ld {}`, or choose another directory",
            nearest_existing(path).display()
        ),
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "A file has the name of a directory: move it away, or choose another directory"
                .to_owned()
        }
        ErrorKind::InvalidFilename => {
            "Rename the directories whose names are not valid UTF-8, or move the files".to_owned()
        }
        _ => format!("Check the path: ls -ld {}", nearest_existing(path).display()),
    }
}

/// `path`, or the closest directory above it that exists.
pub(crate) fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.symlink_metadata().is_ok()).unwrap_or(path)
}

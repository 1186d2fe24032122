//! The errors of this crate.

use std::path::Path;

use dataset_writer::IoError;
pub use polars_profile::error::QueryError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run's report cannot be read, or a table not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A polars operation failed.
    #[error(transparent)]
    Polars(#[from] QueryError),

    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),

    /// The result cannot be read.
    #[error(transparent)]
    Read(#[from] polars_notebook::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let at = IoError::at(action, path);
        move |source| Error::Io(at(source))
    }
}

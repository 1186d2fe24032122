//! The errors of this crate.

use std::path::Path;

use dataset_writer::IoError;
use polars::prelude::PolarsError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run's report cannot be read, or a table not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A polars operation failed.
    #[error("polars could not {action}: {source}")]
    Polars {
        /// The operation, as a verb phrase.
        action: String,
        /// polars' reason.
        source: PolarsError,
    },

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

    pub(crate) fn polars(action: impl Into<String>) -> impl FnOnce(PolarsError) -> Error {
        let action = action.into();
        move |source| Error::Polars { action, source }
    }
}

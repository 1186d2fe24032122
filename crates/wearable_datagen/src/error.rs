//! The errors of the generator. Each message has the option or file, the reason, and the next step.

use dataset_writer::IoError;
use polars::prelude::PolarsError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dataset was not generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value outside its range.
    #[error("{option} is {value}, but must be {allowed}")]
    InvalidOption {
        /// The option's name in [`GenerateOptions`](crate::GenerateOptions).
        option: &'static str,
        /// The value that the caller passed.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },

    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),

    /// The dataset's directory cannot be written.
    #[error(transparent)]
    Write(dataset_writer::Error),

    /// polars could not build or encode a table.
    #[error("polars could not {action}: {source}")]
    Polars {
        /// The step, as a verb phrase.
        action: String,
        /// polars' reason.
        source: PolarsError,
    },
}

impl From<dataset_writer::Error> for Error {
    fn from(error: dataset_writer::Error) -> Error {
        match error {
            dataset_writer::Error::InvalidDirectory { value, allowed } => {
                Error::InvalidOption { option: "output_dir", value, allowed }
            }
            other => Error::Write(other),
        }
    }
}

impl Error {
    pub(crate) fn polars(action: impl Into<String>) -> impl FnOnce(PolarsError) -> Error {
        let action = action.into();
        move |source| Error::Polars { action, source }
    }
}

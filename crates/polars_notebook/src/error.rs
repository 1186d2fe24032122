//! The errors of this crate. Each message has the reason and the next step.

use std::path::Path;

use dataset_writer::IoError;
use polars::prelude::PolarsError;
pub use polars_profile::error::QueryError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a value was not shown, checked, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A statement that a notebook makes does not hold.
    #[error("This does not hold: {statement}")]
    EnsureFailed {
        /// The statement.
        statement: String,
    },

    /// The source of an exercise is not valid.
    #[error("The source of exercise {exercise} is not valid: {reason}.\nEdit its Markdown file")]
    ExerciseSource {
        /// Number of the exercise.
        exercise: usize,
        /// The reason.
        reason: String,
    },

    /// An answer that a grading cell checks is not correct.
    #[error("{feedback}")]
    NotSolved {
        /// The feedback of the check.
        feedback: String,
    },

    /// The values of a column cannot be the names of folders.
    #[error(
        "Rows cannot be partitioned by `{column}`: {reason}.\nChoose another column, or change the values first, for example with a cast"
    )]
    NotPartitionable {
        /// The column.
        column: String,
        /// The reason.
        reason: String,
    },

    /// A polars operation failed.
    #[error(transparent)]
    Polars(#[from] QueryError),

    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),

    /// A result cannot be moved into place.
    #[error(transparent)]
    Write(#[from] dataset_writer::Error),

    /// A file cannot be read, or a query cannot be planned.
    #[error(transparent)]
    Profile(#[from] polars_profile::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let at = IoError::at(action, path);
        move |source| Error::Io(at(source))
    }

    pub(crate) fn not_replaceable(path: &Path, problem: &str) -> Error {
        let (path, problem) = (path.to_owned(), problem.to_owned());
        dataset_writer::Error::NotReplaceable { path, problem }.into()
    }
}

impl From<PolarsError> for Error {
    fn from(source: PolarsError) -> Self {
        Error::Polars(source.into())
    }
}

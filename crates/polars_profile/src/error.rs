//! The errors of this crate. Each message has the reason and the next step.

use std::path::{Path, PathBuf};

use dataset_writer::{IoError, io_hint};
use polars::prelude::PolarsError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A polars operation failed.
///
/// The errors of this crate and of the crates that use it contain this one.
#[derive(Debug, thiserror::Error)]
#[error("polars could not {action}: {source}{}", disk_hint(source))]
pub struct QueryError {
    /// The operation, as a verb phrase.
    pub action: String,
    /// polars' reason.
    pub source: PolarsError,
}

impl QueryError {
    /// Turns polars' error into one that names `action`, a verb phrase.
    pub fn at(action: impl Into<String>) -> impl FnOnce(PolarsError) -> QueryError {
        let action = action.into();
        move |source| QueryError { action, source }
    }
}

/// A query in a notebook's cell that failed.
impl From<PolarsError> for QueryError {
    fn from(source: PolarsError) -> Self {
        QueryError { action: "run the query".to_owned(), source }
    }
}

/// Why a query was not planned, timed or profiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A polars operation failed.
    #[error(transparent)]
    Polars(#[from] QueryError),

    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),

    /// The directory for files that the worker process shares cannot be written.
    #[error(transparent)]
    Write(#[from] dataset_writer::Error),

    /// A file cannot be read as Parquet.
    #[error("{file} is damaged: {reason}\nWrite the file again")]
    DamagedFile {
        /// The file.
        file: PathBuf,
        /// The Parquet reader's reason.
        reason: String,
    },

    /// The query contains a value that exists only in this process.
    #[error(
        "This query cannot run in a worker process: {reason}\npolars cannot serialise a Rust closure. Replace it with an expression, or use explain(&query), which runs nothing"
    )]
    NotSerializable {
        /// polars' reason.
        reason: String,
    },

    /// The worker program is not compiled.
    #[error(
        "The program {name} was not found in {}.\nCompile it: cargo build --workspace. Or set {variable} to its path",
        list(searched)
    )]
    NoWorker {
        /// The program's name.
        name: &'static str,
        /// The searched places.
        searched: Vec<PathBuf>,
        /// The environment variable that names it.
        variable: &'static str,
    },

    /// A query in a worker process ran longer than its time limit.
    #[error(
        "The query was stopped after {seconds} s, the time limit of worker processes.\nUse fewer rows, or set {variable} to more seconds before the kernel or program starts"
    )]
    TimeLimit {
        /// The limit.
        seconds: u64,
        /// The environment variable that sets the limit.
        variable: &'static str,
    },

    /// The environment variable with the time limit has no valid value.
    #[error("{variable} is {value}, but must be a whole number of seconds, at least 1")]
    InvalidTimeLimit {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },

    /// The worker process could not allocate memory, although it had no memory limit.
    #[error(
        "The machine ran out of memory during the query ({reason}).\nUse fewer rows, or the streaming engine"
    )]
    OutOfMemory {
        /// The message of the allocator or of the operating system.
        reason: String,
    },

    /// The worker process ended without a result.
    #[error(
        "The worker process of the query ended without a result ({status}). {reason}\nCheck whether the machine is out of memory: free -m. If not, compile the worker again: cargo build --workspace"
    )]
    WorkerEnded {
        /// Its exit status.
        status: String,
        /// The last line that it printed on stderr.
        reason: String,
    },

    /// This operating system cannot limit the memory of a process.
    #[error(
        "This operating system cannot limit the memory of a query.\nRun the query without a limit: profile(&query, engine)"
    )]
    NoMemoryLimit,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let at = IoError::at(action, path);
        move |source| Error::Io(at(source))
    }
}

impl From<PolarsError> for Error {
    fn from(source: PolarsError) -> Self {
        Error::Polars(source.into())
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The next step for the user if polars reports a full or read-only disk.
pub fn disk_hint(source: &PolarsError) -> String {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match source {
        PolarsError::IO { error, .. }
            if matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) =>
        {
            format!("\n{}", io_hint(error, Path::new(".")))
        }
        _ => String::new(),
    }
}

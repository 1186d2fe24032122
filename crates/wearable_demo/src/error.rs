//! The errors of this crate. Each message has the file or value, the reason, and the command or edit
//! that fixes it. A notebook shows it unchanged, because `?` in a cell prints an error's `Display`.

use std::path::{Path, PathBuf};

use dataset_writer::IoError;
use polars::prelude::PolarsError;
pub use polars_profile::error::QueryError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The command that generates the small dataset.
pub const MAKE_DATA: &str = "./justw data small";

/// An error of this crate, or of a crate that it uses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files of the dataset are missing.
    #[error(
        "The demo data in {dir} are incomplete.\n  missing files: {}\n  sensor parts found: {sensor_parts}\nGenerate them, from the repository's root: {MAKE_DATA}",
        list(missing)
    )]
    MissingData {
        /// The data directory.
        dir: PathBuf,
        /// Files, or file patterns, without a match.
        missing: Vec<PathBuf>,
        /// The number of Parquet parts of sensor_hrv.
        sensor_parts: usize,
    },

    /// The dataset differs from its metadata.
    #[error(
        "The demo data in {dir} differ from generation_metadata.yaml:\n  {}\nGenerate them again, from the repository's root: {MAKE_DATA}",
        differences.join("\n  ")
    )]
    InconsistentData {
        /// The data directory.
        dir: PathBuf,
        /// A line for each difference.
        differences: Vec<String>,
    },

    /// A file of the dataset cannot be read as Parquet.
    #[error(
        "{file} is damaged: {reason}\nGenerate the data again, from the repository's root: {MAKE_DATA}"
    )]
    DamagedFile {
        /// The file.
        file: PathBuf,
        /// The Parquet reader's reason.
        reason: String,
    },

    /// The columns of a file are not those of its table.
    #[error(
        "{file} is not a {table} table:\n  {}\nGenerate the data again, from the repository's root: {MAKE_DATA}",
        differences.join("\n  ")
    )]
    SchemaMismatch {
        /// The file.
        file: PathBuf,
        /// The expected table.
        table: &'static str,
        /// A line for each column that is missing, of another type, or not in the table.
        differences: Vec<String>,
    },

    /// No project around the working directory, and the library's own project has moved.
    #[error(
        "{cwd} is not inside the wearable_demo project, and the project is no longer where this library was compiled.\nIf you moved the project, run ./justw setup in its new directory, then start the notebook or program from there. Or set {variable} to the directory of the files"
    )]
    NoProject {
        /// The working directory.
        cwd: PathBuf,
        /// The environment variable that overrides the search.
        variable: &'static str,
    },

    /// There is no exercise with this number.
    #[error(
        "There is no exercise {number}. Use a number from 1 to {last}, for example exercise(1)?"
    )]
    NoExercise {
        /// The number.
        number: usize,
        /// The last exercise's number.
        last: usize,
    },

    /// A polars operation failed.
    #[error("{0}{hint}", hint = damaged_hint(&.0.source))]
    Polars(#[from] QueryError),

    /// The operating system refused an operation.
    #[error(transparent)]
    Io(#[from] IoError),

    /// A dataset was not generated.
    #[error(transparent)]
    Generate(#[from] wearable_datagen::Error),

    /// A killed generator's files cannot be restored.
    #[error(transparent)]
    Write(#[from] dataset_writer::Error),

    /// A query was not planned, timed or profiled.
    #[error(transparent)]
    Profile(#[from] polars_profile::Error),

    /// A value was not shown, checked, read or written.
    #[error(transparent)]
    Notebook(#[from] polars_notebook::Error),

    /// A cluster's report was not read.
    #[error(transparent)]
    Cluster(#[from] spark_stages::Error),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let at = IoError::at(action, path);
        move |source| Error::Io(at(source))
    }
}

/// Lets `?` in a cell return polars' errors, because cells use polars directly.
impl From<PolarsError> for Error {
    fn from(source: PolarsError) -> Self {
        Error::Polars(source.into())
    }
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "(none)".to_owned();
    }
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The command after polars found a damaged file. A damaged page is found only by a query, and polars
/// does not name the file.
fn damaged_hint(source: &PolarsError) -> String {
    match source.to_string().contains("parquet: ") {
        true => format!(
            "\nA data file is damaged. Generate the data again, from the repository's root: {MAKE_DATA}"
        ),
        false => String::new(),
    }
}

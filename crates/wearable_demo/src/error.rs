//! What can go wrong, and what mends it.
//!
//! Every message says what is wrong, where, and the command or edit that mends it. A notebook shows
//! it as it stands here, because `?` in a cell prints an error's `Display`.

use std::path::{Path, PathBuf};

use polars::prelude::PolarsError;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The command that makes the small dataset, as messages name it.
pub const MAKE_DATA: &str = "./justw data small";

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files of the dataset are not there.
    #[error(
        "The demo data in {dir} are incomplete.\n  missing files: {}\n  sensor parts found: {sensor_parts}\nMake them, from the repository's root: {MAKE_DATA}",
        list(missing)
    )]
    MissingData {
        /// The data directory.
        dir: PathBuf,
        /// Files, or file patterns, that matched nothing.
        missing: Vec<PathBuf>,
        /// Parquet parts of sensor_hrv that are there.
        sensor_parts: usize,
    },

    /// The dataset is not the one that its metadata describe.
    #[error(
        "The demo data in {dir} are not what generation_metadata.yaml says:\n  {}\nMake them again, from the repository's root: {MAKE_DATA}",
        differences.join("\n  ")
    )]
    InconsistentData {
        /// The data directory.
        dir: PathBuf,
        /// A line per difference.
        differences: Vec<String>,
    },

    /// What is in the way of a new dataset is not an old one.
    #[error(
        "{path} {problem}, and would be lost if a dataset took its place.\nMove it away, or choose another directory with --output-dir"
    )]
    InTheWay {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, as a verb phrase.
        problem: String,
    },

    /// A result would replace something else than an earlier result.
    #[error(
        "`{path}` {problem}, so nothing is written there.\nMove it away, or choose another path"
    )]
    NotReplaceable {
        /// The path.
        path: PathBuf,
        /// What is wrong with it, as a verb phrase.
        problem: String,
    },

    /// A column whose values cannot be the names of folders.
    #[error(
        "Rows cannot be partitioned by `{column}`: {reason}.\nChoose another column, or change the values first, for example with a cast"
    )]
    NotPartitionable {
        /// The column.
        column: String,
        /// Why it cannot be.
        reason: String,
    },

    /// Another process is writing a dataset into the same directory.
    #[error(
        "Another process is generating a dataset in {dir}.\nWait for it, or choose another directory with --output-dir"
    )]
    Busy {
        /// The directory.
        dir: PathBuf,
    },

    /// The disk has no room for a dataset.
    #[error(
        "The dataset may take {needed_mb} MB, and {dir} has room for {free_mb} MB.\nFree some space there, choose another directory with --output-dir, or ask for fewer rows"
    )]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// What the dataset takes at most, in MB (1,000,000 bytes).
        needed_mb: u64,
        /// What is free there for this user, in MB.
        free_mb: u64,
    },

    /// A file of the dataset cannot be read as Parquet.
    #[error(
        "{file} is damaged: {reason}\nWrite it again; generated data, from the repository's root: {MAKE_DATA}"
    )]
    DamagedFile {
        /// The file.
        file: PathBuf,
        /// What the Parquet reader said.
        reason: String,
    },

    /// A file's columns are not its table's.
    #[error(
        "{file} is not a {table} table:\n  {}\nMake the data again, from the repository's root: {MAKE_DATA}",
        differences.join("\n  ")
    )]
    SchemaMismatch {
        /// The file.
        file: PathBuf,
        /// The table it should hold.
        table: &'static str,
        /// A line per column that is missing, of another type, or not in the table.
        differences: Vec<String>,
    },

    /// An option of the generator has a value it cannot have.
    #[error("{option} is {value}, but must be {allowed}")]
    InvalidOption {
        /// The option, as `GenerateOptions` calls it.
        option: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },

    /// Neither the working directory nor one above it is in the project.
    #[error(
        "{cwd} is not inside the wearable_demo project.\nStart there, or say where the files are: set {variable} to a directory"
    )]
    NoProject {
        /// The working directory.
        cwd: PathBuf,
        /// The environment variable that overrides the search.
        variable: &'static str,
    },

    /// A function handed to `show_source` is not one whose source this crate carries.
    #[error(
        "No source to show for `{name}`: show_source takes a public function of wearable_demo's chart, measure, observe, output, plan, query or scan module, for example show_source(query::nightly)"
    )]
    NoSource {
        /// Full path of the item.
        name: String,
    },

    /// A statement that a notebook makes did not hold when it was checked.
    #[error("This does not hold: {statement}")]
    ClaimFailed {
        /// The statement.
        statement: String,
    },

    /// The operating system refused something.
    #[error("Could not {action} {path}: {source}\n{}", io_hint(source, path))]
    Io {
        /// What was tried, as a verb: "write", "create", …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },

    /// A query has something in it that only exists in this process.
    #[error(
        "This query cannot run in a process of its own: {reason}\nA Rust closure cannot be sent there; explain(&query) shows its plan without running it"
    )]
    NotPortable {
        /// What polars said.
        reason: String,
    },

    /// The program that runs queries apart is not compiled.
    #[error(
        "The program {name} is not there; it was looked for in {}.\nCompile it, from the repository's root: ./justw setup (or set {variable} to its path)",
        list(looked)
    )]
    NoProgram {
        /// The program's name.
        name: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
        /// The environment variable that names it.
        variable: &'static str,
    },

    /// A query in a process of its own ran for too long.
    #[error(
        "The query was ended after {seconds} s, the time limit of queries in a process of their own.\nUse fewer rows, or set {variable} to more seconds before the kernel or program starts"
    )]
    TimeLimit {
        /// The limit.
        seconds: u64,
        /// The environment variable that sets the limit.
        variable: &'static str,
    },

    /// The process of a query ended without a word.
    #[error(
        "The query's own process ended before it had a result ({status}). {reason}\nSee whether the machine is out of memory (free -m); ./justw setup compiles the program anew"
    )]
    EndedApart {
        /// How it ended.
        status: String,
        /// The last it said on stderr.
        reason: String,
    },

    /// A limit of memory was asked for where the system has none for a process.
    #[error(
        "A query's memory can only be limited on Linux.\nRun the query without a limit: observe(&query, engine)"
    )]
    NoMemoryLimit,

    /// polars could not run a step.
    #[error("polars could not {action}: {source}{}", polars_hint(source))]
    Polars {
        /// What was tried, as a verb phrase.
        action: String,
        /// Its reason.
        source: PolarsError,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    pub(crate) fn polars(action: impl Into<String>) -> impl FnOnce(PolarsError) -> Error {
        let action = action.into();
        move |source| Error::Polars { action, source }
    }
}

/// Cells use polars directly; this lets `?` carry its errors too.
impl From<PolarsError> for Error {
    fn from(source: PolarsError) -> Self {
        Error::Polars { action: "run the query".to_owned(), source }
    }
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "(none)".to_owned();
    }
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn io_hint(source: &std::io::Error, path: &Path) -> String {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "The disk is full: free some space there, or choose another directory, and try again"
                .to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            "That file system is read-only: choose another directory".to_owned()
        }
        ErrorKind::PermissionDenied => format!(
            "You may not: see who owns it (ls -ld {}), or choose another directory",
            nearest_that_exists(path).display()
        ),
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "Something other than a directory has that name: move it away, or choose another directory"
                .to_owned()
        }
        ErrorKind::InvalidFilename => {
            "Rename the directories whose names are not valid UTF-8, or move the files".to_owned()
        }
        _ => "Check that the path exists and is what its name says".to_owned(),
    }
}

/// `path`, or the closest directory above it that is there.
pub(crate) fn nearest_that_exists(path: &Path) -> &Path {
    path.ancestors().find(|p| p.symlink_metadata().is_ok()).unwrap_or(path)
}

/// A file can be damaged behind an intact footer; only a query notices, and polars names no file.
fn polars_hint(source: &PolarsError) -> String {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if let PolarsError::IO { error, .. } = source
        && matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
    {
        return format!("\n{}", io_hint(error, Path::new(".")));
    }
    match source.to_string().contains("parquet: ") {
        true => format!(
            "\nA data file is damaged. Make them again, from the repository's root: {MAKE_DATA}"
        ),
        false => String::new(),
    }
}

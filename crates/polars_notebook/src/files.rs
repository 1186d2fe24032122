//! Writes results into files, and reads them.
//!
//! All functions except [`with_parquet_sink`] give a file or directory its name only when it is complete.
//! If a write fails or is interrupted or killed, the previous file stays.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataset_writer::{FileStaging, recover};
use polars::prelude::*;
use polars_profile::parquet::{decode_parquet, footer_rows, without_panic};
use polars_profile::worker::check_parquet;

use crate::error::{Error, QueryError, Result};

/// Runs `query` with the streaming engine straight into a snappy Parquet file at `path`. Batches go
/// from the engine to the file, and the result is never a frame in memory. A step such as a final
/// sort still collects its own input.
///
/// Returns the frame without rows that polars returns for a sink.
///
/// # Errors
///
/// [`Error::Write`] if `path` exists and is not a file, [`Error::Polars`] if the query or the
/// writing fails, [`Error::Io`] if the file cannot be moved into place.
pub fn sink_parquet(query: &LazyFrame, path: &Path) -> Result<DataFrame> {
    sink_parquet_with(query, path, None)
}

/// Like [`sink_parquet`], with `rows` rows per row group. A scan can skip whole row groups by their
/// statistics.
///
/// # Errors
///
/// As [`sink_parquet`].
pub fn sink_parquet_with(query: &LazyFrame, path: &Path, rows: Option<usize>) -> Result<DataFrame> {
    let staging = FileStaging::next_to(&file_target(path)?)?;
    let sink = with_parquet_sink(query, &staging.path(), rows)?;
    let returned = without_panic(|| sink.collect_with_engine(Engine::Streaming))
        .map_err(QueryError::at(format!("sink the query into {}", path.display())))?;
    staging.finish_file()?;
    Ok(returned.unwrap_single())
}

/// Adds a sink to `query`: a snappy Parquet file at `path` with `rows` rows per row group. Does not
/// run the query. A run writes straight into the file, which exists before it is complete.
///
/// # Errors
///
/// [`Error::Polars`] if polars cannot plan the query.
pub fn with_parquet_sink(query: &LazyFrame, path: &Path, rows: Option<usize>) -> Result<LazyFrame> {
    let target = PlRefPath::try_from_path(path).map(SinkTarget::Path);
    let sink = target.and_then(|target| {
        query.clone().sink(
            SinkDestination::File { target },
            FileWriteFormat::Parquet(Arc::new(snappy(rows))),
            UnifiedSinkArgs::default(),
        )
    });
    Ok(sink.map_err(QueryError::at(format!("sink the query into {}", path.display())))?)
}

/// Runs `query` with the streaming engine into a directory of snappy Parquet files, partitioned in
/// Hive's layout: a folder `column=value` for each value of `column`, whose files omit that column.
///
/// If `directory` is already a partitioned dataset, the new one replaces it. A query without rows
/// results in a dataset without rows, which has the query's columns.
///
/// # Errors
///
/// [`Error::Write`] if `directory` contains anything but a partitioned dataset,
/// [`Error::NotPartitionable`] if a scan would not return the values of `column` that were written,
/// [`Error::Polars`] if the query or the writing fails, [`Error::Io`] if the directory cannot be moved
/// into place.
pub fn sink_partitioned(query: &LazyFrame, directory: &Path, column: &str) -> Result<()> {
    let action = format!("sink the query into {}", directory.display());
    let schema = query.clone().collect_schema().map_err(QueryError::at(&action))?;
    check_key(&schema, column)?;
    recover(directory)?;
    check_replaceable(directory)?;
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let staging = FileStaging::next_to(directory)?;
    let new = staging.path();
    fs::create_dir(&new).map_err(Error::io("create", &new))?;
    let base_path = PlRefPath::try_from_path(&new).map_err(QueryError::at(&action))?;
    let destination = SinkDestination::Partitioned {
        base_path,
        file_path_provider: None,
        partition_strategy: PartitionStrategy::Keyed {
            keys: vec![col(column)],
            include_keys: false,
            keys_pre_grouped: false,
        },
        max_rows_per_file: IdxSize::MAX,
        approximate_bytes_per_file: u64::MAX,
    };
    let sink = UnifiedSinkArgs { mkdir: true, ..Default::default() };
    let sink =
        query.clone().sink(destination, FileWriteFormat::Parquet(Arc::new(snappy(None))), sink);
    sink.and_then(|sink| without_panic(|| sink.collect_with_engine(Engine::Streaming)))
        .map_err(QueryError::at(action))?;
    if fs::read_dir(&new).map_err(Error::io("read", &new))?.next().is_none() {
        // The columns of an empty dataset are in a file without rows. The partition column comes last, as
        // in a scan of folders.
        let mut empty = DataFrame::empty_with_schema(&schema);
        let key = empty.drop_in_place(column)?;
        empty.with_column(key)?;
        write_parquet(&empty, &new.join(NO_ROWS))?;
    }
    check_readable(&new, &schema, column)?;
    check_null_folder(query, &new, &schema, column)?;
    Ok(staging.finish_directory()?)
}

/// The file of a partitioned dataset without rows.
const NO_ROWS: &str = "00000000.parquet";

/// Checks that rows can be partitioned by `column`: its name and values become directory names.
fn check_key(schema: &Schema, column: &str) -> Result<()> {
    let refused = |reason: &str| {
        Err(Error::NotPartitionable { column: column.to_owned(), reason: reason.to_owned() })
    };
    let Some(dtype) = schema.get(column) else {
        return refused("the query has no such column");
    };
    if column.is_empty() || column.contains(['/', '=', '*', '\0']) {
        return refused("its name cannot be the name of a directory");
    }
    if schema.len() == 1 {
        return refused("the query has no other column, so the files would have none");
    }
    let is_temporal = matches!(dtype, DataType::Date | DataType::Datetime(..) | DataType::Time);
    match dtype.is_primitive_numeric() || dtype.is_bool() || dtype.is_string() || is_temporal {
        true => Ok(()),
        false => refused(&format!("a value of type {dtype} cannot be the name of a directory")),
    }
}

/// Checks that a scan of `new` returns the partition column with its type.
///
/// The files omit that column, so polars infers its type from the directory names: the string "007" would
/// be returned as the number 7.
fn check_readable(new: &Path, schema: &Schema, column: &str) -> Result<()> {
    let refused =
        |reason: String| Err(Error::NotPartitionable { column: column.to_owned(), reason });
    let scanned = scan_parquet_files(new)?.collect_schema();
    let scanned = match scanned {
        Ok(scanned) => scanned,
        Err(error) => return refused(format!("a scan of the directories fails: {error}")),
    };
    let Some(written) = schema.get(column) else { return Ok(()) };
    match scanned.get(column) {
        Some(read) if read == written => {}
        Some(read) => {
            return refused(format!(
                "a scan of the directories would return {read} and not {written}"
            ));
        }
        None => return refused("a scan of the directories would not return the column".to_owned()),
    }
    if written.is_string() && new.join(format!("{column}=")).exists() {
        return refused(
            "it contains an empty string, which a scan would return as null".to_owned(),
        );
    }
    Ok(())
}

/// The directory in which Hive, and polars, keep the rows without a value in the partition column.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// Checks that the directory of missing values in `new` has only rows without a value.
///
/// polars writes a string that equals the directory's name to the same directory, and one overwrites
/// the other.
fn check_null_folder(query: &LazyFrame, new: &Path, schema: &Schema, column: &str) -> Result<()> {
    let is_string = schema.get(column).is_some_and(DataType::is_string);
    if !is_string || !new.join(format!("{column}={NULL_FOLDER}")).exists() {
        return Ok(());
    }
    let same_name = query.clone().filter(col(column).eq(lit(NULL_FOLDER))).limit(1);
    let same_name = without_panic(|| same_name.collect_with_engine(Engine::Streaming))
        .map_err(QueryError::at("search for strings with the name of a directory"))?;
    if same_name.unwrap_single().height() == 0 {
        return Ok(());
    }
    let reason = format!("the string {NULL_FOLDER} cannot be distinguished from a missing value");
    Err(Error::NotPartitionable { column: column.to_owned(), reason })
}

/// Checks that a partitioned dataset may replace `directory`: it does not exist, is empty, or is a
/// partitioned dataset, and the working directory is not in it.
fn check_replaceable(directory: &Path) -> Result<()> {
    let refused = |problem: &str| Err(Error::not_replaceable(directory, problem));
    let kind = match directory.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("read", directory))?.file_type(),
    };
    if kind.is_symlink() {
        return refused("is a symbolic link");
    }
    if !kind.is_dir() {
        return refused("is not a directory");
    }
    let real = directory.canonicalize().map_err(Error::io("read", directory))?;
    if std::env::current_dir().is_ok_and(|cwd| cwd.starts_with(&real)) {
        return refused("contains the working directory");
    }
    if fs::read_dir(directory).map_err(Error::io("read", directory))?.next().is_none() {
        return Ok(());
    }
    match find_foreign_path(directory, true)? {
        Some(name) => refused(&format!(
            "contains {}, which is not part of a partitioned dataset",
            name.display()
        )),
        None => Ok(()),
    }
}

/// A path below `directory` that is not part of a partitioned dataset.
fn find_foreign_path(directory: &Path, is_root: bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let entry = entry.map_err(Error::io("read", directory))?;
        let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        let is_parquet = kind.is_file() && name.extension().is_some_and(|e| e == "parquet");
        let is_folder = kind.is_dir() && name.as_os_str().as_encoded_bytes().contains(&b'=');
        if is_folder {
            if let Some(below) = find_foreign_path(&path, false)? {
                return Ok(Some(name.join(below)));
            }
        } else if !is_parquet
            || (is_root
                && !(name == Path::new(NO_ROWS) && footer_rows(&path).is_ok_and(|rows| rows == 0)))
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Scans a file, or a directory of Parquet files as this module writes them. Folder names such as
/// `date=2024-01-01` become a column.
///
/// # Errors
///
/// [`Error::Profile`] if a file has no valid footer, [`Error::Io`] if a file cannot be read,
/// [`Error::Polars`] if it cannot be scanned.
pub fn scan_parquet_files(path: &Path) -> Result<LazyFrame> {
    recover(path)?;
    check_footers(path)?;
    let hive_options = HiveOptions { enabled: Some(path.is_dir()), ..Default::default() };
    let args = ScanArgsParquet { hive_options, glob: false, ..Default::default() };
    let query = LazyFrame::scan_parquet(utf8_path(path)?, args);
    Ok(query.map_err(QueryError::at(format!("scan {}", path.display())))?)
}

/// Reads the footers of a Parquet file, or of all files below a directory.
fn check_footers(path: &Path) -> Result<()> {
    if !path.metadata().map_err(Error::io("read", path))?.is_dir() {
        return Ok(footer_rows(path).map(drop)?);
    }
    for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
        let below = entry.map_err(Error::io("read", path))?.path();
        if below.is_dir() || below.extension().is_some_and(|e| e == "parquet") {
            check_footers(&below)?;
        }
    }
    Ok(())
}

/// Converts `path` to polars' type.
fn utf8_path(path: &Path) -> Result<PlRefPath> {
    PlRefPath::try_from_path(path).map_err(|_| {
        let reason = "polars reads only paths that are valid UTF-8";
        Error::io("scan", path)(std::io::Error::new(ErrorKind::InvalidFilename, reason))
    })
}

/// The file that a write to `path` replaces or creates: `path` itself, or the target of a symbolic
/// link.
fn file_target(path: &Path) -> Result<PathBuf> {
    let refused = |problem: &str| Err(Error::not_replaceable(path, problem));
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return refused("is the name of a directory");
    }
    let metadata = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(path.to_owned()),
        metadata => metadata.map_err(Error::io("write", path))?,
    };
    let (file, metadata) = match metadata.is_symlink() {
        false => (path.to_owned(), metadata),
        true => {
            let Ok(file) = path.canonicalize() else {
                return refused("is a symbolic link whose target does not exist");
            };
            let metadata = file.metadata().map_err(Error::io("write", &file))?;
            (file, metadata)
        }
    };
    if metadata.is_dir() {
        return refused("is a directory");
    }
    match metadata.is_file() {
        true => Ok(file),
        false => refused("is not a regular file"),
    }
}

fn snappy(row_group_size: Option<usize>) -> ParquetWriteOptions {
    ParquetWriteOptions {
        compression: ParquetCompression::Snappy,
        row_group_size,
        ..Default::default()
    }
}

/// Writes `frame` to `path` as snappy Parquet.
///
/// # Errors
///
/// [`Error::Write`] if `path` exists and is not a file, [`Error::Io`] if the file cannot be
/// written or moved into place, [`Error::Polars`] if the frame cannot be encoded.
pub fn write_parquet(frame: &DataFrame, path: &Path) -> Result<()> {
    write_atomically(path, |file| {
        ParquetWriter::new(file)
            .with_compression(ParquetCompression::Snappy)
            .finish(&mut frame.clone())
    })
}

/// Writes `frame` to `path` as CSV with a header.
///
/// # Errors
///
/// As [`write_parquet`].
pub fn write_csv(frame: &DataFrame, path: &Path) -> Result<()> {
    write_atomically(path, |file| CsvWriter::new(file).finish(&mut frame.clone()))
}

/// Calls `write` with a new file next to `path`, and moves the file to `path`.
fn write_atomically<T>(
    path: &Path,
    write: impl FnOnce(&mut ErrorRecordingFile) -> PolarsResult<T>,
) -> Result<()> {
    let staging = FileStaging::next_to(&file_target(path)?)?;
    let new = staging.path();
    let file = File::create(&new).map_err(Error::io("create", &new))?;
    write_file(path, file, write)?;
    Ok(staging.finish_file()?)
}

/// Calls `write` with `file`, which becomes the file at `path`.
///
/// polars reports a full disk as a malformed file, so this returns the operating system's error.
fn write_file<T>(
    path: &Path,
    file: File,
    write: impl FnOnce(&mut ErrorRecordingFile) -> PolarsResult<T>,
) -> Result<()> {
    let mut recorder = ErrorRecordingFile { file, error: None };
    let result = write(&mut recorder);
    match (result, recorder.error) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(error)) => Err(Error::io("write", path)(error)),
        (Err(error), None) => {
            Err(QueryError::at(format!("write {}", path.display()))(error).into())
        }
    }
}

/// A file that stores the error of a failed write.
struct ErrorRecordingFile {
    file: File,
    error: Option<std::io::Error>,
}

impl ErrorRecordingFile {
    fn store_error<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result {
            self.error = Some(match error.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(error.kind(), error.to_string()),
            });
        }
        result
    }
}

impl Write for ErrorRecordingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.file.write(bytes);
        self.store_error(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.file.flush();
        self.store_error(result)
    }
}

/// Reads a whole Parquet file.
///
/// For some damaged files, polars panics, aborts, or allocates more memory than there is. So the worker
/// process reads the file first, if the worker is compiled.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened, [`Error::Profile`] if it is not valid Parquet, or if the
/// worker process fails or exceeds its time limit.
pub fn read_parquet(path: &Path) -> Result<DataFrame> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    if file.metadata().map_err(Error::io("read", path))?.is_dir() {
        return Err(Error::io("read", path)(ErrorKind::IsADirectory.into()));
    }
    match check_parquet(path) {
        Ok(()) | Err(polars_profile::Error::NoWorker { .. }) => Ok(decode_parquet(path)?),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use dataset_writer::IoError;

    use super::*;

    /// `/dev/full` fails every write with "no space left on device".
    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_reported_as_such() {
        let frame = df!["x" => (0..100_000i64).collect::<Vec<_>>()].unwrap();
        let path = Path::new("/dev/full");
        let full = || File::create(path).unwrap();
        let parquet =
            write_file(path, full(), |f| ParquetWriter::new(f).finish(&mut frame.clone()));
        let csv = write_file(path, full(), |f| CsvWriter::new(f).finish(&mut frame.clone()));
        for error in [parquet.unwrap_err(), csv.unwrap_err()] {
            let message = error.to_string();
            assert!(matches!(error, Error::Io(IoError { action: "write", .. })), "{message}");
            assert!(
                message.contains("/dev/full") && message.contains("The disk is full"),
                "{message}"
            );
        }
    }
}

//! Results, of several queries at once, and into files. Each file is written under another name and moved into place when it is
//! complete, so nobody ever reads half of one, and a failure leaves what was there before.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;

use crate::error::{Error, Result};

/// Runs several queries together with `engine`; what they share is done once.
///
/// Returns their results, in the order of `queries`.
///
/// # Errors
///
/// [`Error::Polars`] where one fails.
pub fn collect_all(queries: &[&LazyFrame], engine: Engine) -> Result<Vec<DataFrame>> {
    let plans = queries.iter().map(|query| query.logical_plan.clone()).collect();
    LazyFrame::collect_all_with_engine(plans, engine, OptFlags::default())
        .map_err(Error::polars("run the queries together"))
}

/// Runs `query` with the streaming engine straight into a snappy Parquet file at `path`: batches
/// go from the engine to the file, and no frame of the result is handed back. A step such as a
/// final sort still collects its own input.
///
/// Returns what the engine hands back for a sink: a frame without rows.
///
/// # Errors
///
/// [`Error::Polars`] where the query or the writing fails, [`Error::Io`] where the file cannot be
/// moved into place.
pub fn sink_parquet(query: &LazyFrame, path: &Path) -> Result<DataFrame> {
    sink_row_groups(query, path, None)
}

/// As [`sink_parquet`], with `rows` rows to a row group; a scan can skip a row group by its
/// statistics, but not a part of one.
///
/// # Errors
///
/// As [`sink_parquet`].
pub fn sink_row_groups(query: &LazyFrame, path: &Path, rows: Option<usize>) -> Result<DataFrame> {
    let part = Part::beside(path);
    let action = format!("sink the query into {}", path.display());
    let returned = ending_in(query, &part.path, rows)?
        .collect_with_engine(Engine::Streaming)
        .map_err(Error::polars(action))?;
    part.finish(path)?;
    Ok(returned.unwrap_single())
}

/// `query` with a snappy Parquet file at `path` as its end, and `rows` rows to a row group; runs
/// nothing. What runs it writes straight into the file, which is there before it is complete.
///
/// # Errors
///
/// [`Error::Polars`] where polars cannot plan it.
pub fn ending_in(query: &LazyFrame, path: &Path, rows: Option<usize>) -> Result<LazyFrame> {
    let target = PlRefPath::try_from_path(path).map(SinkTarget::Path);
    target
        .and_then(|target| {
            query.clone().sink(
                SinkDestination::File { target },
                FileWriteFormat::Parquet(Arc::new(snappy(rows))),
                UnifiedSinkArgs::default(),
            )
        })
        .map_err(Error::polars(format!("sink the query into {}", path.display())))
}

/// Runs `query` with the streaming engine into a directory of snappy Parquet files, partitioned as
/// Hive does: a folder `column=value` for each value of `column`, which the files in it leave out.
/// An older directory is replaced.
///
/// # Errors
///
/// [`Error::Polars`] where the query or the writing fails, [`Error::Io`] where the directory cannot
/// be moved into place.
pub fn sink_partitioned(query: &LazyFrame, directory: &Path, column: &str) -> Result<()> {
    let part = Part::beside(directory);
    let action = format!("sink the query into {}", directory.display());
    let base_path = PlRefPath::try_from_path(&part.path).map_err(Error::polars(&action))?;
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
    query
        .clone()
        .sink(destination, FileWriteFormat::Parquet(Arc::new(snappy(None))), sink)
        .and_then(|sink| sink.collect_with_engine(Engine::Streaming))
        .map_err(Error::polars(action))?;
    if directory.is_dir() {
        fs::remove_dir_all(directory).map_err(Error::io("replace", directory))?;
    }
    part.finish(directory)
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
/// [`Error::Io`] where the file cannot be written or moved into place, [`Error::Polars`] where the
/// frame cannot be encoded.
pub fn write_parquet(frame: &DataFrame, path: &Path) -> Result<()> {
    let part = Part::beside(path);
    write_file(&part.path, |file| {
        ParquetWriter::new(file)
            .with_compression(ParquetCompression::Snappy)
            .finish(&mut frame.clone())
    })?;
    part.finish(path)
}

/// Writes `frame` to `path` as CSV with a header.
///
/// # Errors
///
/// As [`write_parquet`].
pub fn write_csv(frame: &DataFrame, path: &Path) -> Result<()> {
    let part = Part::beside(path);
    write_file(&part.path, |file| CsvWriter::new(file).finish(&mut frame.clone()))?;
    part.finish(path)
}

/// Creates the file at `path` and has `write` fill it.
///
/// polars reports a full disk as a malformed file; the operating system's own word is kept here.
fn write_file<T>(path: &Path, write: impl FnOnce(&mut Recorder) -> PolarsResult<T>) -> Result<()> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut recorder = Recorder { file, error: None };
    let result = write(&mut recorder);
    match (result, recorder.error) {
        (Ok(_), _) => Ok(()),
        (Err(_), Some(error)) => Err(Error::io("write", path)(error)),
        (Err(error), None) => Err(Error::polars(format!("write {}", path.display()))(error)),
    }
}

/// A file that remembers the error that made a write fail.
struct Recorder {
    file: File,
    error: Option<std::io::Error>,
}

impl Recorder {
    fn remember<T>(&mut self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result {
            self.error = Some(match error.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(error.kind(), error.to_string()),
            });
        }
        result
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let result = self.file.write(bytes);
        self.remember(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.file.flush();
        self.remember(result)
    }
}

/// Reads a Parquet file whole.
///
/// # Errors
///
/// [`Error::Io`] where it cannot be opened, [`Error::DamagedFile`] where it is not readable
/// Parquet.
pub fn read_parquet(path: &Path) -> Result<DataFrame> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    ParquetReader::new(file)
        .finish()
        .map_err(|e| Error::DamagedFile { file: path.to_owned(), reason: e.to_string() })
}

/// A file, or a directory, that is not complete yet; dropped before it is, it goes away.
struct Part {
    path: PathBuf,
}

impl Part {
    fn beside(path: &Path) -> Part {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        Part { path: path.with_file_name(name) }
    }

    fn finish(self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).map_err(Error::io("write", path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already once it was moved into place.
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` answers every write as a full disk does.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_called_by_its_name() {
        let frame = df!["x" => (0..100_000i64).collect::<Vec<_>>()].unwrap();
        let full = Path::new("/dev/full");
        let parquet = write_file(full, |f| ParquetWriter::new(f).finish(&mut frame.clone()));
        let csv = write_file(full, |f| CsvWriter::new(f).finish(&mut frame.clone()));
        for error in [parquet.unwrap_err(), csv.unwrap_err()] {
            let message = error.to_string();
            assert!(matches!(error, Error::Io { action: "write", .. }), "{message}");
            assert!(
                message.contains("/dev/full") && message.contains("The disk is full"),
                "{message}"
            );
        }
    }
}

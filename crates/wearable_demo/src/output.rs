//! Results into files. Each file is written under another name and moved into place when it is
//! complete, so nobody ever reads half of one, and a failure leaves what was there before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polars::prelude::*;

use crate::error::{Error, Result};

/// Runs `query` with the streaming engine straight into a snappy Parquet file at `path`: batches
/// go from the engine to the file, and no frame of the whole result is made.
///
/// Returns what the engine hands back for a sink: a frame without rows.
///
/// # Errors
///
/// [`Error::Polars`] where the query or the writing fails, [`Error::Io`] where the file cannot be
/// moved into place.
pub fn sink_parquet(query: &LazyFrame, path: &Path) -> Result<DataFrame> {
    let part = Part::beside(path);
    let action = format!("sink the query into {}", path.display());
    let target = PlRefPath::try_from_path(&part.path).map_err(Error::polars(&action))?;
    let options =
        ParquetWriteOptions { compression: ParquetCompression::Snappy, ..Default::default() };
    let returned = query
        .clone()
        .sink(
            SinkDestination::File { target: SinkTarget::Path(target) },
            FileWriteFormat::Parquet(Arc::new(options)),
            UnifiedSinkArgs::default(),
        )
        .and_then(|sink| sink.collect_with_engine(Engine::Streaming))
        .map_err(Error::polars(action))?;
    part.finish(path)?;
    Ok(returned.unwrap_single())
}

/// Writes `frame` to `path` as snappy Parquet.
///
/// # Errors
///
/// As [`sink_parquet`].
pub fn write_parquet(frame: &DataFrame, path: &Path) -> Result<()> {
    let part = Part::beside(path);
    ParquetWriter::new(part.create()?)
        .with_compression(ParquetCompression::Snappy)
        .finish(&mut frame.clone())
        .map_err(Error::polars(format!("write {}", path.display())))?;
    part.finish(path)
}

/// Writes `frame` to `path` as CSV with a header.
///
/// # Errors
///
/// As [`sink_parquet`].
pub fn write_csv(frame: &DataFrame, path: &Path) -> Result<()> {
    let part = Part::beside(path);
    CsvWriter::new(part.create()?)
        .finish(&mut frame.clone())
        .map_err(Error::polars(format!("write {}", path.display())))?;
    part.finish(path)
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

/// A file that is not complete yet; dropped before it is, it goes away.
struct Part {
    path: PathBuf,
}

impl Part {
    fn beside(path: &Path) -> Part {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        Part { path: path.with_file_name(name) }
    }

    fn create(&self) -> Result<File> {
        File::create(&self.path).map_err(Error::io("create", &self.path))
    }

    fn finish(self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).map_err(Error::io("write", path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already once it was moved into place.
        let _ = fs::remove_file(&self.path);
    }
}

//! Writes the files of a run: its result, plan, stages and time.

use std::io::Write;
use std::path::Path;

use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::{Executor, Stage};

/// The report of one run.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The server's Spark version, if the server reports one.
    pub version: Option<String>,
    /// The dataset's folder or URL on the workers.
    pub data: String,
    /// Time from the query's start to its result, in seconds.
    pub seconds: f64,
    /// The plan as the engine prints it.
    pub plan: String,
    /// The query's stages; empty if the engine has no REST interface.
    pub stages: Vec<Stage>,
    /// The cluster's executors; empty if the engine has no REST interface.
    pub executors: Vec<Executor>,
}

impl RunReport {
    /// Writes three files into `folder`:
    ///
    /// - `run.csv`: one row with `version`, `data`, `seconds`, `workers`, `lost_workers`
    /// - `stages.csv`: a row per stage; the columns are the fields of [`Stage`]
    /// - `plan.txt`: the plan
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let is_worker = |executor: &&Executor| executor.id != "driver";
        let (active, lost): (Vec<_>, Vec<_>) =
            self.executors.iter().filter(is_worker).partition(|executor| executor.is_active);
        let run = format!(
            "version,data,seconds,workers,lost_workers\n{},\"{}\",{:.3},{},{}\n",
            self.version.as_deref().unwrap_or_default(),
            self.data.replace('"', "\"\""),
            self.seconds,
            active.len(),
            lost.len()
        );
        let stages: String = self.stages.iter().map(Stage::csv).collect();
        for (name, text) in [
            ("run.csv", run),
            ("stages.csv", format!("{}\n{stages}", Stage::CSV_HEADER)),
            ("plan.txt", format!("{}\n", self.plan.trim())),
        ] {
            write_atomically(&folder.join(name), |file| {
                file.write_all(text.as_bytes()).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }
}

/// Writes a query's result as a Parquet file.
///
/// # Errors
///
/// [`Error::Write`] if the result has no batch, or the file cannot be written. A previous file at `path`
/// then remains unchanged.
pub fn write_parquet(batches: &[RecordBatch], path: &Path) -> Result<()> {
    let Some(first) = batches.first() else {
        let reason = "the engine sent no batch, so the result has no schema".to_owned();
        return Err(Error::Write { path: path.to_owned(), reason });
    };
    write_atomically(path, |file| {
        let mut writer =
            ArrowWriter::try_new(file, first.schema(), None).map_err(|error| error.to_string())?;
        for batch in batches {
            writer.write(batch).map_err(|error| error.to_string())?;
        }
        writer.close().map_err(|error| error.to_string())?;
        Ok(())
    })
}

/// Writes a temporary file and renames it to `path`, so that `path` is never incomplete.
fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::result::Result<(), String>,
) -> Result<()> {
    let failed = Error::write(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(&failed)?;
    let mut part = NamedTempFile::new_in(folder).map_err(&failed)?;
    write(part.as_file_mut()).map_err(|reason| Error::Write { path: path.to_owned(), reason })?;
    part.flush().map_err(&failed)?;
    part.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

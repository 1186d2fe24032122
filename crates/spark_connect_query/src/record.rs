//! What a query leaves behind: its result, and how it came about.

use std::io::Write;
use std::path::Path;

use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::{Executor, Stage};

/// How one query went, for who shows it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The release of Spark that the server is, if it tells.
    pub version: Option<String>,
    /// The folder or URL of the dataset, as the workers see it.
    pub data: String,
    /// From the query's start to its result, in seconds.
    pub seconds: f64,
    /// The plan as the engine writes it.
    pub plan: String,
    /// The query's stages; none where the engine has no such interface.
    pub stages: Vec<Stage>,
    /// The cluster's executors; none where the engine has no such interface.
    pub executors: Vec<Executor>,
}

impl Record {
    /// Write `run.csv` (a row: `version`, `data`, `seconds`, `workers`, `lost_workers`), `stages.csv` (a
    /// row per stage, with the names of [`Stage`]'s fields) and `plan.txt` into `folder`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        let is_worker = |executor: &&Executor| executor.id != "driver";
        let (here, lost): (Vec<_>, Vec<_>) =
            self.executors.iter().filter(is_worker).partition(|executor| executor.is_active);
        let run = format!(
            "version,data,seconds,workers,lost_workers\n{},\"{}\",{:.3},{},{}\n",
            self.version.as_deref().unwrap_or_default(),
            self.data.replace('"', "\"\""),
            self.seconds,
            here.len(),
            lost.len()
        );
        let stages: String = self.stages.iter().map(Stage::csv).collect();
        for (name, text) in [
            ("run.csv", run),
            ("stages.csv", format!("{}\n{stages}", Stage::CSV_HEADER)),
            ("plan.txt", format!("{}\n", self.plan.trim())),
        ] {
            whole(&folder.join(name), |file| {
                file.write_all(text.as_bytes()).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }
}

/// Write a result as a Parquet file.
///
/// # Errors
///
/// [`Error::Write`]; then there is the file that was there before.
pub fn write_parquet(batches: &[RecordBatch], path: &Path) -> Result<()> {
    let Some(first) = batches.first() else {
        let reason = "the result has no schema, for the engine sent no batch".to_owned();
        return Err(Error::Write { path: path.to_owned(), reason });
    };
    whole(path, |file| {
        let mut writer =
            ArrowWriter::try_new(file, first.schema(), None).map_err(|error| error.to_string())?;
        for batch in batches {
            writer.write(batch).map_err(|error| error.to_string())?;
        }
        writer.close().map_err(|error| error.to_string())?;
        Ok(())
    })
}

/// Write a file so that nobody ever finds half of it.
fn whole(
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

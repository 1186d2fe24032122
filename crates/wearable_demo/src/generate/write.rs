//! Tables into Parquet files, and those into their places.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};
use polars::prelude::*;

use super::options::{GenerateOptions, Size};
use crate::error::{Error, Result};
use crate::paths::short;
use crate::tables::{DAYS, TABLES};

const ROW_GROUP_ROWS: usize = 100_000;
const METADATA: &str = "generation_metadata.yaml";

/// A file of a generated dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What [`generate_dataset`](crate::generate_dataset) made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Rows of sensor_hrv.
    pub sensor_rows: u64,
    /// Rows of user_profile.
    pub users: usize,
    /// Days in sleep_diary.
    pub days: u32,
    /// Every Parquet file.
    pub files: Vec<WrittenFile>,
    /// The metadata file.
    pub metadata: PathBuf,
}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        write!(
            f,
            "{} sensor rows, {} users, {} days in {} Parquet files, {:.1} MB",
            self.sensor_rows,
            self.users,
            self.days,
            self.files.len(),
            megabytes(bytes)
        )
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A directory beside the dataset in which a new one grows. Dropped before
/// [`finish`](Staging::finish), it takes what it holds with it.
pub(super) struct Staging {
    output_dir: PathBuf,
    dir: PathBuf,
    locations: Vec<String>,
}

impl Staging {
    pub(super) fn create(output_dir: &Path) -> Result<Staging> {
        let dir = output_dir.join(format!(".generating-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        Ok(Staging { output_dir: output_dir.to_owned(), dir, locations: Vec::new() })
    }

    /// Writes `frame` to `location`, a path under the dataset's directory.
    pub(super) fn write(&mut self, location: &str, frame: &mut DataFrame) -> Result<()> {
        let path = self.dir.join(location);
        let parent = path.parent().expect("a location is below the staging directory");
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        ParquetWriter::new(file)
            .with_compression(ParquetCompression::Snappy)
            .with_row_group_size(Some(ROW_GROUP_ROWS))
            .finish(frame)
            .map_err(|error| match error {
                PolarsError::IO { error, .. } => Error::Io {
                    action: "write",
                    path: path.clone(),
                    source: std::io::Error::new(error.kind(), error.to_string()),
                },
                error => Error::polars(format!("write {}", path.display()))(error),
            })?;
        self.locations.push(location.to_owned());
        Ok(())
    }

    /// Writes the metadata and moves everything into place.
    pub(super) fn finish(
        self,
        options: &GenerateOptions,
        started: DateTime<Local>,
        sensor_rows: u64,
        users: usize,
    ) -> Result<Generated> {
        let mut files = Vec::new();
        for location in &self.locations {
            let staged = self.dir.join(location);
            let bytes = fs::metadata(&staged).map_err(Error::io("read", &staged))?.len();
            files.push(WrittenFile { path: self.output_dir.join(location), bytes });
        }
        let generated = Generated {
            sensor_rows,
            users,
            days: DAYS,
            files,
            metadata: self.output_dir.join(METADATA),
        };
        let staged = self.dir.join(METADATA);
        let text = metadata_yaml(options, started, &generated);
        fs::write(&staged, text).map_err(Error::io("write", &staged))?;

        // A table in a directory of its own is replaced as a whole: a shorter dataset must not
        // keep parts of a longer one.
        for table in TABLES {
            let entry = table.location.split('/').next().expect("split yields at least one part");
            self.replace(entry)?;
        }
        self.replace(METADATA)?;
        Ok(generated)
    }

    fn replace(&self, entry: &str) -> Result<()> {
        let (from, to) = (self.dir.join(entry), self.output_dir.join(entry));
        if to.is_dir() {
            let old = self.dir.join(format!("{entry}.old"));
            fs::rename(&to, &old).map_err(Error::io("replace", &to))?;
        }
        fs::rename(&from, &to).map_err(Error::io("replace", &to))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What is left here is of no use to anybody, and a failure to remove it changes nothing.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn metadata_yaml(
    options: &GenerateOptions,
    started: DateTime<Local>,
    generated: &Generated,
) -> String {
    let preset = match options.size {
        Size::Small => "small",
        Size::Large => "large",
        Size::Rows(_) => "rows",
    };
    let mut text = format!(
        "generated_at: {}\nsize: {preset}\nseed: {}\nchunk_rows: {}\ntarget_sensor_rows: {}\nactual_sensor_rows: {}\nusers: {}\ndays: {}\noutputs:\n",
        started.to_rfc3339(),
        options.seed,
        options.chunk_rows,
        options.size.rows(),
        generated.sensor_rows,
        generated.users,
        generated.days,
    );
    for file in &generated.files {
        let path = file.path.strip_prefix(&options.output_dir).unwrap_or(&file.path);
        let megabytes = megabytes(file.bytes);
        text += &format!("  - path: {}\n    size_mb: {megabytes:.3}\n", path.display());
    }
    text
}

/// Shows a written file as `data/user_profile.parquet (0.1 MB)`.
impl fmt::Display for WrittenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1} MB)", short(&self.path), megabytes(self.bytes))
    }
}

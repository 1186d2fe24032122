//! Opens the tables as lazy frames, after checking that their files exist, are readable, and have the
//! right columns.
//!
//! The check reads only footers, a few kilobytes per file. Without it, a missing or wrong file would
//! cause an error about a plan in the middle of a query.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use dataset_writer::{file_checksum, footer_checksum, recover_dataset};
use polars::prelude::*;
use polars_profile::parquet::without_panic;
use polars_profile::text::thousands;
use wearable_datagen::Metadata;
use wearable_datagen::tables::{
    METADATA_FILE, SENSOR_HRV, SLEEP_DIARY, TABLES, Table, USER_PROFILE,
};

use crate::error::{Error, QueryError, Result};

/// The contents of a dataset, as [`check_dataset`] counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetSummary {
    /// Number of Parquet parts of sensor_hrv.
    pub sensor_parts: usize,
    /// Number of rows of user_profile, sleep_diary and sensor_hrv, from the files' footers.
    pub rows: [u64; 3],
}

impl fmt::Display for DatasetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [users, nights, segments] = self.rows.map(thousands);
        writeln!(f, "user_profile: {users} rows\nsleep_diary: {nights} rows")?;
        let files = if self.sensor_parts == 1 { "file" } else { "files" };
        write!(f, "sensor_hrv: {segments} rows in {} {files}", self.sensor_parts)
    }
}

/// Whether `data` contains a part of sensor_hrv. If not, the walkthrough generates a dataset.
pub fn has_sensor_data(data: &Path) -> bool {
    files(data, &SENSOR_HRV).is_ok_and(|files| !files.is_empty())
}

/// Checks that `data` contains a complete dataset.
///
/// # Errors
///
/// [`Error::MissingData`] if files are missing; [`Error::DamagedFile`] if a file is not valid Parquet;
/// [`Error::SchemaMismatch`] if a file does not have its table's columns; [`Error::InconsistentData`]
/// if files, users or rows differ from the metadata (a dataset without metadata is not compared);
/// [`Error::Io`] if a file or directory cannot be read.
pub fn check_dataset(data: &Path) -> Result<DatasetSummary> {
    recover_dataset(data)?;
    let metadata = Metadata::read(data)?;
    let mut missing = Vec::new();
    let mut rows = [0; 3];
    let mut files_found = Vec::new();
    for (table, rows) in TABLES.iter().zip(&mut rows) {
        let files = files(data, table)?;
        if files.is_empty() {
            missing.push(data.join(table.location));
        }
        for file in &files {
            *rows += check_file_of(data, metadata.as_ref(), file, table)?;
        }
        files_found.push(files);
    }
    let sensor_parts = files_found.last().map_or(0, Vec::len);
    if !missing.is_empty() {
        return Err(Error::MissingData { dir: data.to_owned(), missing, sensor_parts });
    }
    let dataset = DatasetSummary { sensor_parts, rows };
    let relative: Vec<&Path> =
        files_found.iter().flatten().filter_map(|file| file.strip_prefix(data).ok()).collect();
    let differences =
        metadata.map_or(Vec::new(), |of| metadata_differences(&of, &dataset, &relative));
    match differences.is_empty() {
        true => Ok(dataset),
        false => Err(Error::InconsistentData { dir: data.to_owned(), differences }),
    }
}

/// Like [`check_dataset`], and reads all files to compare their checksums with
/// `generation_metadata.yaml`. This also detects a changed byte outside of the footers.
///
/// # Errors
///
/// As [`check_dataset`], and [`Error::DamagedFile`] if a checksum is different or missing.
pub fn verify_dataset(data: &Path) -> Result<DatasetSummary> {
    let dataset = check_dataset(data)?;
    let metadata = Metadata::read(data)?.unwrap_or_default();
    for table in TABLES {
        for file in files(data, table)? {
            let expected =
                file.strip_prefix(data).ok().and_then(|name| metadata.file_checksum(name));
            let Some(expected) = expected else {
                let reason = format!("{METADATA_FILE} has no checksum of this file");
                return Err(Error::DamagedFile { file, reason });
            };
            compare_checksums(&file, file_checksum(&file)?, expected)?;
        }
    }
    Ok(dataset)
}

fn compare_checksums(file: &Path, found: u32, expected: u32) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::DamagedFile {
            file: file.to_owned(),
            reason: format!("its checksum is {found:08x} and should be {expected:08x}"),
        }),
    }
}

/// Scans user_profile: one row per user. Columns: [`USER_PROFILE`].
///
/// # Errors
///
/// As [`check_dataset`] for this table's file, and [`Error::Polars`] if it cannot be scanned.
pub fn scan_user_profile(data: &Path) -> Result<LazyFrame> {
    scan(data, &USER_PROFILE)
}

/// Scans sleep_diary: one row per user and day. Columns: [`SLEEP_DIARY`].
///
/// # Errors
///
/// As [`check_dataset`] for this table's file, and [`Error::Polars`] if it cannot be scanned.
pub fn scan_sleep_diary(data: &Path) -> Result<LazyFrame> {
    scan(data, &SLEEP_DIARY)
}

/// Scans all parts of sensor_hrv: one row per recorded five-minute segment. Columns: [`SENSOR_HRV`], in
/// every layout. To get the `date` of the folders in the layout by date, scan the directory with
/// [`scan_parquet_files`](polars_notebook::files::scan_parquet_files).
///
/// # Errors
///
/// As [`check_dataset`] for this table's files, and [`Error::Polars`] if they cannot be scanned.
pub fn scan_sensor_hrv(data: &Path) -> Result<LazyFrame> {
    scan(data, &SENSOR_HRV)
}

/// Scans every part of sensor_hrv `times` times, to get a larger table.
///
/// # Errors
///
/// As [`scan_sensor_hrv`].
pub fn scan_sensor_hrv_repeated(data: &Path, times: usize) -> Result<LazyFrame> {
    scan_repeated(data, &SENSOR_HRV, times)
}

fn scan(data: &Path, table: &'static Table) -> Result<LazyFrame> {
    scan_repeated(data, table, 1)
}

fn scan_repeated(data: &Path, table: &'static Table, times: usize) -> Result<LazyFrame> {
    recover_dataset(data)?;
    let files = files(data, table)?;
    if files.is_empty() {
        let sensor_parts = self::files(data, &SENSOR_HRV)?.len();
        let missing = vec![data.join(table.location)];
        return Err(Error::MissingData { dir: data.to_owned(), missing, sensor_parts });
    }
    let metadata = Metadata::read(data)?;
    for file in &files {
        check_file_of(data, metadata.as_ref(), file, table)?;
    }
    // Listing the files gives `*` and `[` in the directory's name no special meaning. The folders' date
    // is not read, so that all layouts have the same columns; it is also in `ts_start`.
    let hive_options = HiveOptions { enabled: Some(false), ..Default::default() };
    let args = ScanArgsParquet { glob: false, hive_options, ..Default::default() };
    let files = std::iter::repeat_n(&files, times).flatten();
    let paths: Result<_> = files.map(|file| utf8_path(file)).collect();
    let query = LazyFrame::scan_parquet_files(paths?, args);
    Ok(query.map_err(QueryError::at(format!("scan {}", table.name)))?)
}

/// Converts `path` to polars' type.
fn utf8_path(path: &Path) -> Result<PlRefPath> {
    PlRefPath::try_from_path(path).map_err(|_| {
        let reason = "polars reads only paths that are valid UTF-8";
        Error::io("scan", path)(std::io::Error::new(ErrorKind::InvalidFilename, reason))
    })
}

/// The Parquet files of sensor_hrv, in the order in which [`scan_sensor_hrv`] reads them.
///
/// # Errors
///
/// [`Error::Io`] if a directory cannot be read.
pub fn sensor_files(data: &Path) -> Result<Vec<PathBuf>> {
    files(data, &SENSOR_HRV)
}

/// The existing files of a table in the order of their names, including those in folders of dates.
/// Hidden files are ignored.
fn files(data: &Path, table: &Table) -> Result<Vec<PathBuf>> {
    let Some((directory, _)) = table.location.split_once('/') else {
        let file = data.join(table.location);
        return Ok(if file.is_file() { vec![file] } else { Vec::new() });
    };
    let mut files = Vec::new();
    parquet_files(&data.join(directory), &mut files)?;
    files.sort();
    Ok(files)
}

fn parquet_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", directory))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io("read", directory))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && date_folder(&path.join("_")).is_some() {
            parquet_files(&path, files)?;
        } else if !hidden && path.extension().is_some_and(|e| e == "parquet") && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

/// The date in the name of the file's folder, if there is one.
fn date_folder(file: &Path) -> Option<NaiveDate> {
    file.parent()?.file_name()?.to_str()?.strip_prefix("date=")?.parse().ok()
}

/// The differences between a dataset and its metadata. `files` are relative to the dataset's directory.
fn metadata_differences(
    metadata: &Metadata,
    found: &DatasetSummary,
    files: &[&Path],
) -> Vec<String> {
    let named: HashSet<&Path> = metadata.paths().map(Path::new).collect();
    let parts = named.iter().filter(|path| path.starts_with("sensor_hrv")).count() as u64;
    let counts = [
        ("users", metadata.users, found.rows[0]),
        ("sensor rows", metadata.sensor_rows, found.rows[2]),
        ("sensor parts", Some(parts), found.sensor_parts as u64),
    ];
    let difference = |(name, expected, found): (&str, Option<u64>, u64)| match expected {
        Some(expected) if expected == found => None,
        Some(expected) => Some(format!("{name}: {found}, should be {expected}")),
        None => Some(format!("{name}: not in the metadata")),
    };
    let mut differences: Vec<String> = counts.into_iter().filter_map(difference).collect();
    let existing: HashSet<&Path> = files.iter().copied().collect();
    for (problem, mut paths) in [
        ("missing", named.difference(&existing).collect::<Vec<_>>()),
        ("not in the metadata", existing.difference(&named).collect()),
    ] {
        const MAX_LISTED: usize = 5;
        paths.sort();
        let first =
            paths.iter().take(MAX_LISTED).map(|path| format!("{problem}: {}", path.display()));
        differences.extend(first);
        if paths.len() > MAX_LISTED {
            differences.push(format!("{problem}: {} more files", paths.len() - MAX_LISTED));
        }
    }
    differences
}

/// Calls [`check_file`], and compares the footer's checksum if the metadata has one, because polars does
/// not detect all damage to a footer.
fn check_file_of(
    data: &Path,
    metadata: Option<&Metadata>,
    file: &Path,
    table: &'static Table,
) -> Result<u64> {
    // Check the schema first: if the file belongs to another table, its error is more precise.
    let rows = check_file(file, table)?;
    let name = file.strip_prefix(data).ok();
    if let Some(expected) = name.and_then(|name| metadata?.footer_checksum(name)) {
        compare_checksums(file, footer_checksum(file)?, expected)?;
    }
    Ok(rows)
}

/// Returns the number of rows in `file`, after checking that it is readable and has `table`'s columns.
fn check_file(file: &Path, table: &'static Table) -> Result<u64> {
    let damaged = |reason: String| Error::DamagedFile { file: file.to_owned(), reason };
    let handle = File::open(file).map_err(Error::io("open", file))?;
    let footer = without_panic(|| {
        let mut reader = ParquetReader::new(handle);
        let schema = reader.schema()?;
        PolarsResult::Ok((Schema::from_arrow_schema(&schema), reader.num_rows()? as u64))
    });
    let (schema, rows) = footer.map_err(|error| damaged(error.to_string()))?;
    let differences = differences(table, &schema);
    match differences.is_empty() {
        true => Ok(rows),
        false => {
            Err(Error::SchemaMismatch { file: file.to_owned(), table: table.name, differences })
        }
    }
}

/// One line for each column that differs from `table`'s schema. The order of columns does not matter.
fn differences(table: &Table, found: &Schema) -> Vec<String> {
    let expected = table.schema();
    let mut lines = Vec::new();
    for (name, dtype) in expected.iter() {
        match found.get(name) {
            None => lines.push(format!("{name}: missing, should be {dtype}")),
            Some(other) if other != dtype => {
                lines.push(format!("{name}: is {other}, should be {dtype}"));
            }
            Some(_) => {}
        }
    }
    for name in found.iter_names().filter(|name| !expected.contains(name)) {
        lines.push(format!("{name}: not in the table"));
    }
    lines
}

//! The tables as lazy frames, after a look at the files: that they are there, can be read, and
//! hold the table they should.
//!
//! The look reads footers only, a few kilobytes per file. Without it a missing or wrong file
//! would show up in the middle of a query, as a message about a plan.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use polars::prelude::*;

use crate::error::{Error, Result};
use crate::generate::{METADATA, recover_killed};
use crate::tables::{SENSOR_HRV, SLEEP_DIARY, TABLES, Table, USER_PROFILE};

/// What [`check_dataset`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Parquet parts of sensor_hrv.
    pub sensor_parts: usize,
    /// Rows of user_profile, sleep_diary and sensor_hrv, from the files' footers.
    pub rows: [u64; 3],
}

/// Whether `data` holds any part of sensor_hrv; the walkthrough generates a dataset if not.
pub fn has_sensor_data(data: &Path) -> bool {
    files(data, &SENSOR_HRV).is_ok_and(|files| !files.is_empty())
}

/// Checks that the whole dataset is in `data`.
///
/// # Errors
///
/// [`Error::MissingData`] with every file that is not there and the number of sensor parts,
/// [`Error::DamagedFile`] for a file that is not readable Parquet, [`Error::SchemaMismatch`] for a
/// file with other columns than its table's, [`Error::InconsistentData`] where users, rows or parts
/// are not as many as the metadata say (a dataset without metadata is not compared),
/// [`Error::Io`] where a file or directory cannot be read.
pub fn check_dataset(data: &Path) -> Result<Inventory> {
    recover_killed(data)?;
    let mut missing = Vec::new();
    let mut rows = [0; 3];
    let sensor_parts = files(data, &SENSOR_HRV)?.len();
    for (table, rows) in TABLES.iter().zip(&mut rows) {
        let files = files(data, table)?;
        if files.is_empty() {
            missing.push(data.join(table.location));
        }
        for file in files {
            *rows += check_file(&file, table)?;
        }
    }
    if !missing.is_empty() {
        return Err(Error::MissingData { dir: data.to_owned(), missing, sensor_parts });
    }
    let inventory = Inventory { sensor_parts, rows };
    let differences = metadata_differences(data, &inventory)?;
    match differences.is_empty() {
        true => Ok(inventory),
        false => Err(Error::InconsistentData { dir: data.to_owned(), differences }),
    }
}

/// As [`check_dataset`], and reads every file whole, for its checksum in
/// `generation_metadata.yaml`: a byte that has changed on the disk does not show in a footer.
///
/// # Errors
///
/// As [`check_dataset`]; [`Error::DamagedFile`] where a checksum is another, or not in the metadata.
pub fn verify_dataset(data: &Path) -> Result<Inventory> {
    let inventory = check_dataset(data)?;
    let path = data.join(METADATA);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let expected = checksums(&text);
    for table in TABLES {
        for file in files(data, table)? {
            let damaged = |reason: String| Error::DamagedFile { file: file.clone(), reason };
            let found = checksum(&file)?;
            match file.strip_prefix(data).ok().and_then(|name| expected.get(name.to_str()?)) {
                Some(crc32) if *crc32 == found => {}
                Some(crc32) => {
                    let reason = format!("its checksum is {found:08x}, and was {crc32:08x}");
                    return Err(damaged(reason));
                }
                None => return Err(damaged(format!("{METADATA} has no checksum of it"))),
            }
        }
    }
    Ok(inventory)
}

/// The files' CRC-32 by their paths, as the metadata have them.
fn checksums(metadata: &str) -> HashMap<&str, u32> {
    let mut found = HashMap::new();
    let mut path = None;
    for line in metadata.lines().map(str::trim) {
        if let Some(named) = line.strip_prefix("- path: ") {
            path = Some(named);
        } else if let Some(crc32) = line.strip_prefix("crc32: ")
            && let (Some(path), Ok(crc32)) = (path, u32::from_str_radix(crc32, 16))
        {
            found.insert(path, crc32);
        }
    }
    found
}

fn checksum(file: &Path) -> Result<u32> {
    let mut handle = File::open(file).map_err(Error::io("open", file))?;
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match handle.read(&mut buffer).map_err(Error::io("read", file))? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// user_profile: one row per user. Columns: [`USER_PROFILE`].
///
/// # Errors
///
/// As [`check_dataset`], for this table's file; [`Error::Polars`] where it cannot be scanned.
pub fn scan_user_profile(data: &Path) -> Result<LazyFrame> {
    scan(data, &USER_PROFILE)
}

/// sleep_diary: one row per user and day. Columns: [`SLEEP_DIARY`].
///
/// # Errors
///
/// As [`check_dataset`], for this table's file; [`Error::Polars`] where it cannot be scanned.
pub fn scan_sleep_diary(data: &Path) -> Result<LazyFrame> {
    scan(data, &SLEEP_DIARY)
}

/// sensor_hrv: one row per recorded five-minute segment, from every part in the directory.
/// Columns: [`SENSOR_HRV`], and `date` where the parts lie in a folder for each date.
///
/// # Errors
///
/// As [`check_dataset`], for this table's files; [`Error::Polars`] where they cannot be scanned.
pub fn scan_sensor_hrv(data: &Path) -> Result<LazyFrame> {
    scan(data, &SENSOR_HRV)
}

/// A file or a directory of Parquet files as [`output`](crate::output) writes them, with what the
/// names of folders say (`date=2024-01-01`) as a column.
///
/// # Errors
///
/// [`Error::Polars`] where it cannot be scanned.
pub fn scan_layout(path: &Path) -> Result<LazyFrame> {
    let hive_options = HiveOptions { enabled: Some(path.is_dir()), ..Default::default() };
    let args = ScanArgsParquet { hive_options, glob: false, ..Default::default() };
    PlRefPath::try_from_path(path)
        .and_then(|path| LazyFrame::scan_parquet(path, args))
        .map_err(Error::polars(format!("scan {}", path.display())))
}

/// sensor_hrv as if it had `times` as many rows: every part is read so many times.
///
/// # Errors
///
/// As [`scan_sensor_hrv`].
pub fn scan_sensor_hrv_times(data: &Path, times: usize) -> Result<LazyFrame> {
    scan_times(data, &SENSOR_HRV, times)
}

fn scan(data: &Path, table: &'static Table) -> Result<LazyFrame> {
    scan_times(data, table, 1)
}

fn scan_times(data: &Path, table: &'static Table, times: usize) -> Result<LazyFrame> {
    recover_killed(data)?;
    let files = files(data, table)?;
    if files.is_empty() {
        let sensor_parts = self::files(data, &SENSOR_HRV)?.len();
        let missing = vec![data.join(table.location)];
        return Err(Error::MissingData { dir: data.to_owned(), missing, sensor_parts });
    }
    for file in &files {
        check_file(file, table)?;
    }
    // The files are listed here rather than by a pattern, so that a `*` or `[` in the data
    // directory's own name means itself.
    let by_date = files.iter().any(|file| date_folder(file).is_some());
    let hive_options = HiveOptions {
        enabled: Some(by_date),
        // Behind the data directory, whose own path may have a `=` in it, too.
        hive_start_idx: data.as_os_str().len(),
        schema: by_date
            .then(|| Schema::from_iter([Field::new("date".into(), DataType::Date)]).into()),
        try_parse_dates: true,
    };
    let args = ScanArgsParquet { glob: false, hive_options, ..Default::default() };
    let files = std::iter::repeat_n(&files, times).flatten();
    let paths: PolarsResult<_> = files.map(|file| PlRefPath::try_from_path(file)).collect();
    paths
        .and_then(|paths| LazyFrame::scan_parquet_files(paths, args))
        .map_err(Error::polars(format!("scan {}", table.name)))
}

/// The table's files that are there, in name order; those in the folders of dates, too. Hidden files
/// are none of them.
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

fn parquet_files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", directory))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io("read", directory))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && date_folder(&path.join("_")).is_some() {
            parquet_files(&path, found)?;
        } else if !hidden && path.extension().is_some_and(|e| e == "parquet") && path.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// The date whose folder a file lies in, if it is in one.
fn date_folder(file: &Path) -> Option<NaiveDate> {
    file.parent()?.file_name()?.to_str()?.strip_prefix("date=")?.parse().ok()
}

/// In what the dataset is not the one that `generation_metadata.yaml` describes, if there is one.
fn metadata_differences(data: &Path, found: &Inventory) -> Result<Vec<String>> {
    let path = data.join(METADATA);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(Error::io("read", &path))?,
    };
    let parts = text.lines().filter(|line| line.contains("path: sensor_hrv/")).count() as u64;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let expected = [
        ("users", value("users"), found.rows[0]),
        ("sensor rows", value("actual_sensor_rows"), found.rows[2]),
        ("sensor parts", Some(parts), found.sensor_parts as u64),
    ];
    let differs = |(what, expected, found): (&str, Option<u64>, u64)| match expected {
        Some(expected) if expected == found => None,
        Some(expected) => Some(format!("{what}: {found}, should be {expected}")),
        None => Some(format!("{what}: not in the metadata")),
    };
    Ok(expected.into_iter().filter_map(differs).collect())
}

/// Rows in `file`, if it is readable and its columns are `table`'s.
fn check_file(file: &Path, table: &'static Table) -> Result<u64> {
    let damaged = |error: PolarsError| Error::DamagedFile {
        file: file.to_owned(),
        reason: error.to_string(),
    };
    let handle = File::open(file).map_err(Error::io("open", file))?;
    let mut reader = ParquetReader::new(handle);
    let schema = reader.schema().map_err(damaged)?;
    let schema = Schema::from_arrow_schema(&schema);
    let differences = differences(table, &schema);
    if !differences.is_empty() {
        return Err(Error::SchemaMismatch {
            file: file.to_owned(),
            table: table.name,
            differences,
        });
    }
    Ok(reader.num_rows().map_err(damaged)? as u64)
}

/// A line per column in which `found` is not `table`'s schema; its order does not matter.
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

//! Writes a dataset: the three tables and their metadata.
//!
//! `options` contains the options, `users` generates the users, `sleep_diary` their nights, and
//! `sensor` the segments that their devices record.
//!
//! Every table uses its own ChaCha8 stream, and the sensor table a new one for every block of 4,000
//! rows. So a row depends only on the seed, the users and its number, and not on threads or on the size
//! of a part. An unsorted dataset begins with the rows of a shorter one of the same seed and number of
//! users. ChaCha8 is specified, but rand's distributions and polars' files are not, so the same bytes
//! need the versions of rand and polars in the lock file. Tests pin the values of three seeds.
//!
//! Each thread needs memory for one part, or for [`BATCH_ROWS`] rows while it sorts.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::{Local, NaiveDate};
use dataset_writer::{DatasetFormat, DatasetStaging, Entry, IoError, WrittenFile, megabytes};
use polars::error::abort::try_raise_polars_abort;
use polars::prelude::*;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::options::GenerateOptions;
use crate::sensor::external_sort::{BATCH_ROWS, Batch};
use crate::sensor::{
    Buckets, Layout, Part, PartGenerator, Physiology, SensorTable, SortedRows, encode,
};
use crate::tables::{DAYS, FIRST_DAY, METADATA_FILE, SENSOR_HRV, SLEEP_DIARY, USER_PROFILE};
use crate::{metadata, sleep_diary, users};

/// A summary of the dataset that [`generate_dataset`] wrote.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Number of rows of sensor_hrv.
    pub sensor_rows: u64,
    /// Number of rows of user_profile.
    pub users: usize,
    /// Number of days in sleep_diary.
    pub days: u32,
    /// All Parquet files.
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

/// The progress of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Sensor rows written so far. In a layout that needs a sort, a row that is sorted but not written
    /// counts half.
    pub rows_done: u64,
    /// Sensor rows to write in total.
    pub rows_total: u64,
    /// Sensor parts written so far.
    pub parts_done: u64,
    /// Sensor parts to write in total. By date, the number can grow after the sort.
    pub parts_total: u64,
}

// Random streams of the tables.
const USERS: u64 = 0;
const SLEEP_DIARY_STREAM: u64 = 1;
/// The first stream of the sensor table.
const SENSOR: u64 = 2;

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// Writes the three tables and `generation_metadata.yaml` into `options.output_dir`. An existing dataset
/// is replaced.
///
/// The same options give the same bytes in every Parquet file. Files are written into a staging
/// directory, synced to the disk, and then moved into place. An error or an interrupt leaves the old
/// dataset unchanged, and undoes finished moves. The next call, or the next scan, does the same for a
/// process that was killed.
///
/// # Errors
///
/// [`Error::InvalidOption`] if an option is out of its range, [`Error::Write`] if the directory cannot
/// hold the dataset (see [`dataset_writer::Error`]), [`Error::Io`] and [`Error::Polars`] if a file
/// cannot be written.
pub fn generate_dataset(options: &GenerateOptions) -> Result<Generated> {
    generate_dataset_with_progress(options, &mut |_| {})
}

/// Like [`generate_dataset`], and calls `on_progress` before the first sensor part and after each one.
/// In a layout that needs a sort, it is also called several times before the first part.
///
/// # Errors
///
/// As [`generate_dataset`].
pub fn generate_dataset_with_progress(
    options: &GenerateOptions,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Generated> {
    options.validate()?;
    let started = Local::now();
    let rows = options.size.rows();

    let staging = DatasetStaging::create(
        FORMAT,
        &options.output_dir,
        options.max_bytes() + options.temporary_bytes(),
    )?;
    let users = users::generate(options.size.users(), &mut stream(options.seed, USERS));
    let mut files = vec![
        write(&staging, USER_PROFILE.location, &mut users::table(&users)?)?,
        write(
            &staging,
            SLEEP_DIARY.location,
            &mut sleep_diary::table(&users, &mut stream(options.seed, SLEEP_DIARY_STREAM))?,
        )?,
    ];
    let users: Vec<Physiology> = users.into_iter().map(|user| user.physiology).collect();
    let table = SensorTable {
        users: &users,
        first_day: sleep_diary::first_day(),
        seed: options.seed,
        first_stream: SENSOR,
        rows,
        chunk_rows: options.chunk_rows,
        row_group_rows: options.row_group_rows as usize,
        layout: options.layout,
    };
    files.extend(write_parts(&table, &staging, options.threads(), on_progress)?);
    let mut generated = Generated {
        sensor_rows: rows,
        users: users.len(),
        days: DAYS,
        files,
        metadata: PathBuf::new(),
    };
    let yaml = metadata::yaml(options, started, &generated);
    generated.metadata = staging.finish(yaml.as_bytes())?;
    Ok(generated)
}

/// Writes the files of a dataset, and returns them.
pub(crate) const FORMAT: DatasetFormat = DatasetFormat {
    entries: &[
        Entry { name: USER_PROFILE.location, is_directory: false },
        Entry { name: SLEEP_DIARY.location, is_directory: false },
        Entry { name: "sensor_hrv", is_directory: true },
        Entry { name: METADATA_FILE, is_directory: false },
    ],
    is_partition: |name| {
        name.strip_prefix("date=").is_some_and(|date| date.parse::<NaiveDate>().is_ok())
    },
};

const ROW_GROUP_ROWS: usize = 100_000;

/// Writes `frame` to `location`, a path relative to the dataset's directory.
fn write(staging: &DatasetStaging, location: &str, frame: &mut DataFrame) -> Result<WrittenFile> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Snappy)
        .with_row_group_size(Some(ROW_GROUP_ROWS))
        .finish(frame)
        .map_err(Error::polars(format!("encode {location}")))?;
    Ok(staging.write_bytes(location, &bytes)?)
}

/// Writes the sensor table's files.
fn write_parts(
    table: &SensorTable,
    staging: &DatasetStaging,
    threads: usize,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<WrittenFile>> {
    let mut progress = Progress {
        rows_done: 0,
        rows_total: table.rows,
        parts_done: 0,
        parts_total: table.rows.div_ceil(table.chunk_rows),
    };
    on_progress(progress);
    let temporary = match table.layout {
        Layout::Unsorted => None,
        Layout::ByDevice | Layout::ByDate => Some(staging.temporary_directory()?),
    };
    let sorted = match &temporary {
        None => None,
        Some(directory) => Some(sort(table, directory, threads, &mut |rows| {
            // Generating and sorting a row counts half.
            on_progress(Progress { rows_done: rows / 2, ..progress });
        })?),
    };
    let parts = sorted.as_ref().map_or_else(|| table.parts(), SortedRows::parts);
    progress.parts_total = parts.len() as u64;
    let encode = |generator: &mut PartGenerator, number: usize| -> Result<(u64, WrittenFile)> {
        let part = &parts[number];
        let rows =
            generator.rows(part, sorted.as_ref()).map_err(IoError::at("read", staging.path()))?;
        let bytes = encode::parquet(table, rows).map_err(Error::polars("encode sensor_hrv"))?;
        Ok((part.rows, staging.write_bytes(&location(part), &bytes)?))
    };
    let (mut files, mut rows_written) = (Vec::new(), 0);
    in_parallel(
        parts.len(),
        threads,
        || PartGenerator::new(table),
        encode,
        |(rows, file)| {
            rows_written += rows;
            progress.rows_done = match sorted {
                Some(_) => (table.rows + rows_written).div_ceil(2),
                None => rows_written,
            };
            progress.parts_done += 1;
            files.push(file);
            on_progress(progress);
        },
    )?;
    if let Some(directory) = temporary {
        fs::remove_dir_all(&directory).map_err(IoError::at("remove", &directory))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Sorts the table's rows into the order of its layout, in temporary files. Calls `on_progress` with the
/// number of rows generated so far.
fn sort<'a>(
    table: &'a SensorTable<'a>,
    directory: &Path,
    threads: usize,
    on_progress: &mut dyn FnMut(u64),
) -> Result<SortedRows<'a>> {
    let buckets = Buckets::new(table, directory);
    let on_disk = |result: std::io::Result<()>| -> Result<()> {
        Ok(result.map_err(IoError::at("write temporary files in", directory))?)
    };
    let no_state = || ();
    for first in (0..buckets.batches()).step_by(threads) {
        // Generate batches in parallel, and append them in the order of their numbers.
        let count = (buckets.batches() - first).min(threads as u64) as usize;
        let mut batches: Vec<Batch> = vec![Vec::new(); count];
        let generate = |(): &mut (), number| Ok((number, buckets.generate(first + number as u64)));
        in_parallel(count, threads, no_state, generate, |(number, batch)| batches[number] = batch)?;
        let append = |(): &mut (), bucket| on_disk(buckets.append(bucket, &batches));
        in_parallel(buckets.count(), threads, no_state, append, |()| {})?;
        on_progress(table.rows.min((first + count as u64) * BATCH_ROWS));
    }
    let sort = |(): &mut (), bucket| on_disk(buckets.sort(bucket));
    in_parallel(buckets.count(), threads, no_state, sort, |()| {})?;
    Ok(buckets.finish().map_err(IoError::at("write temporary files in", directory))?)
}

/// Calls `work` for each number below `tasks`, on `threads` threads that each have a state. Calls `done`
/// in this thread with each result, in order of completion. After an error or an interrupt, threads
/// finish their current task and stop.
fn in_parallel<S, T: Send>(
    tasks: usize,
    threads: usize,
    new_state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    mut done: impl FnMut(T),
) -> Result<()> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = |results: mpsc::Sender<Result<T>>| {
        let mut state = new_state();
        while !stop.load(Ordering::Relaxed) {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks || results.send(work(&mut state, task)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let _stop = StopAtTheEnd(&stop);
        let (sender, results) = mpsc::channel();
        for _ in 0..threads.min(tasks) {
            let sender = sender.clone();
            scope.spawn(|| run(sender));
        }
        drop(sender);
        loop {
            try_raise_polars_abort();
            match results.recv_timeout(Duration::from_millis(50)) {
                Ok(result) => done(result?),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })
}

struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The path of a part, relative to the dataset's directory.
fn location(part: &Part) -> String {
    let name = format!("part-{:05}", part.number);
    let name = match part.day {
        Some(day) => {
            let (year, month, first) = FIRST_DAY;
            let date = chrono::NaiveDate::from_ymd_opt(year, month, first)
                .and_then(|date| date.checked_add_days(chrono::Days::new(day.into())))
                .expect("all days are valid dates");
            format!("date={date}/{name}")
        }
        None => name,
    };
    SENSOR_HRV.location.replace('*', &name)
}

//! The dataset's generator.
//!
//! [`options`] says what is asked for, [`people`] draws the users and how their bodies behave,
//! [`diary`] their nights, the crate [`sensor_table`] the segments their devices record, and
//! [`write`](mod@write) puts files into place.
//!
//! Every table has a random stream of its own, and so has every block of 4000 rows of the sensor
//! table: streams of ChaCha8, which is specified. With the locked versions of rand's distributions
//! and of polars, the same options give the same bytes, on any number of threads. As drawn, a longer
//! dataset of the same seed and number of users begins with the shorter one's rows, and the rows do
//! not depend on how many are in a part. For each thread, memory is bounded by one part, or by
//! [`BATCH_ROWS`] rows while rows are sorted for another layout.

pub mod diary;
mod metadata;
mod options;
pub mod people;
mod write;

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::Local;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use sensor_table::external_sort::{BATCH_ROWS, Batch};
use sensor_table::{Buckets, Maker, Part, SensorTable, SortedRows, Wearer};

pub use metadata::Checksums;
pub use options::{GenerateOptions, Size};
pub use sensor_table::Layout;
pub use write::{Generated, WrittenFile, free_bytes};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::tables::{FIRST_DAY, SENSOR_HRV, SLEEP_DIARY, USER_PROFILE};
use crate::text::thousands;
pub(crate) use metadata::{METADATA, Metadata, footer_checksum, whole_checksum};
use write::Staging;
pub(crate) use write::{recover_killed, restore, swap};

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Sensor rows written so far. In a layout that needs a sort, sorting a row counts half.
    pub rows_done: u64,
    /// Sensor rows to write.
    pub rows_total: u64,
    /// Sensor parts written so far.
    pub parts_done: u64,
    /// Sensor parts to write. By date, more may turn out to be needed than is known at the beginning.
    pub parts_total: u64,
}

// Streams of the seed's generator.
const PEOPLE: u64 = 0;
const DIARY: u64 = 1;
/// The first of the sensor table's.
const SENSOR: u64 = 2;

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// Writes the three tables and `generation_metadata.yaml` into `options.output_dir`, replacing a
/// dataset that is there.
///
/// Same options, same bytes in every Parquet file. The files are written beside their places and
/// moved into them when all of them are complete and on the disk; if that fails, what was moved is
/// moved back. So an error leaves what was there before, and so does an
/// [`interrupt`](crate::interrupt). What a killed process left is removed, and what it had moved is
/// put back, by the next call, and by the next scan.
///
/// # Errors
///
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where an option is out of its range,
/// [`Error::InTheWay`](crate::Error::InTheWay) where the directory holds something else under a
/// table's name, [`Error::Busy`](crate::Error::Busy) where another process writes there,
/// [`Error::NoRoom`](crate::Error::NoRoom) where the disk is too full,
/// [`Error::Io`](crate::Error::Io) and [`Error::Polars`](crate::Error::Polars) where a file cannot
/// be written.
pub fn generate_dataset(options: &GenerateOptions) -> Result<Generated> {
    generate_dataset_with_progress(options, &mut |_| {})
}

/// [`generate_dataset`], telling `on_progress` how far it is: once before the first sensor part
/// and after each one, and in a layout that needs a sort, several times before the first.
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

    let staging =
        Staging::create(&options.output_dir, options.most_bytes() + options.temporary_bytes())?;
    let people = people::draw(options.size.users(), &mut stream(options.seed, PEOPLE));
    let mut files = vec![
        staging.write(USER_PROFILE.location, &mut people::table(&people)?)?,
        staging.write(
            SLEEP_DIARY.location,
            &mut diary::table(&people, &mut stream(options.seed, DIARY))?,
        )?,
    ];
    let wearers: Vec<Wearer> = people.into_iter().map(|person| person.wearer).collect();
    let table = SensorTable {
        wearers: &wearers,
        first_day: diary::first_day(),
        seed: options.seed,
        first_stream: SENSOR,
        rows,
        chunk_rows: options.chunk_rows,
        row_group_rows: options.row_group_rows as usize,
        layout: options.layout,
    };
    files.extend(write_parts(&table, &staging, options.threads(), on_progress)?);
    staging.finish(options, started, rows, wearers.len(), files)
}

/// Writes the sensor table's files.
fn write_parts(
    table: &SensorTable,
    staging: &Staging,
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
        Layout::AsDrawn => None,
        Layout::ByDevice | Layout::ByDate => Some(staging.temporary_directory()?),
    };
    let sorted = match &temporary {
        None => None,
        Some(directory) => Some(sort(table, directory, threads, &mut |rows| {
            // Drawn is half of it.
            on_progress(Progress { rows_done: rows / 2, ..progress });
        })?),
    };
    let parts = sorted.as_ref().map_or_else(|| table.parts(), SortedRows::parts);
    progress.parts_total = parts.len() as u64;
    let encode = |maker: &mut Maker, number: usize| -> Result<(u64, WrittenFile)> {
        let part = &parts[number];
        let rows = maker.rows(part, sorted.as_ref()).map_err(Error::io("read", &staging.dir))?;
        let bytes = sensor_table::encode::parquet(table, rows)
            .map_err(Error::polars("encode sensor_hrv"))?;
        Ok((part.rows, staging.write_bytes(&location(part), &bytes)?))
    };
    let (mut files, mut rows_written) = (Vec::new(), 0);
    side_by_side(
        parts.len(),
        threads,
        || Maker::new(table),
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
        fs::remove_dir_all(&directory).map_err(Error::io("remove", &directory))?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Puts the table's rows into the order of its layout, in temporary files; calls `on_progress` with the
/// rows that are drawn so far.
fn sort<'a>(
    table: &'a SensorTable<'a>,
    directory: &Path,
    threads: usize,
    on_progress: &mut dyn FnMut(u64),
) -> Result<SortedRows<'a>> {
    let buckets = Buckets::new(table, directory);
    let on_disk =
        |result: std::io::Result<()>| result.map_err(Error::io("sort rows in", directory));
    let no_state = || ();
    for first in (0..buckets.batches()).step_by(threads) {
        // Drawn side by side, and appended in the order of their numbers.
        let count = (buckets.batches() - first).min(threads as u64) as usize;
        let mut batches: Vec<Batch> = vec![Vec::new(); count];
        let draw = |(): &mut (), number| Ok((number, buckets.draw(first + number as u64)));
        side_by_side(count, threads, no_state, draw, |(number, batch)| batches[number] = batch)?;
        let append = |(): &mut (), bucket| on_disk(buckets.append(bucket, &batches));
        side_by_side(buckets.count(), threads, no_state, append, |()| {})?;
        on_progress(table.rows.min((first + count as u64) * BATCH_ROWS));
    }
    let sort = |(): &mut (), bucket| on_disk(buckets.sort(bucket));
    side_by_side(buckets.count(), threads, no_state, sort, |()| {})?;
    buckets.finish().map_err(Error::io("sort rows in", directory))
}

/// Calls `work` for each number below `tasks`, on `threads` threads with a state each, and calls `done`
/// with each result, here and as they come. An error or an interrupt ends it, once each thread is done
/// with its task.
fn side_by_side<S, T: Send>(
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
            interrupt::check();
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

/// Where a part lies in the dataset's directory.
fn location(part: &Part) -> String {
    let name = format!("part-{:05}", part.number);
    let name = match part.day {
        Some(day) => {
            let (year, month, first) = FIRST_DAY;
            let date = chrono::NaiveDate::from_ymd_opt(year, month, first)
                .and_then(|date| date.checked_add_days(chrono::Days::new(day.into())))
                .expect("the dataset's days are dates");
            format!("date={date}/{name}")
        }
        None => name,
    };
    SENSOR_HRV.location.replace('*', &name)
}

/// Rounds half away from zero to `decimals` places.
fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Prints a bar that takes the place of the one before; for a notebook.
///
/// A line that begins with a carriage return replaces the line before it, as in a terminal: this
/// project's kernel passes such a line on without its end. Another kernel shows a line for each part.
pub fn print_progress(progress: Progress) {
    // A reader that has gone away must not end the generation.
    let _ = writeln!(std::io::stdout(), "\r{progress}");
    if progress.rows_done == progress.rows_total {
        let _ = writeln!(std::io::stdout());
    }
}

/// A bar, always as wide for the same number of rows: `sensor_hrv ███░░░  50 %, 10 of 20 rows`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: u64 = 30;
        let Progress { rows_done, rows_total, .. } = *self;
        let of = |whole: u64| {
            (u128::from(whole) * u128::from(rows_done) / u128::from(rows_total.max(1))) as usize
        };
        let (done, percent) = (of(WIDTH), of(100));
        let (bar, rest) = ("█".repeat(done), "░".repeat(WIDTH as usize - done));
        let total = thousands(rows_total);
        let rows = thousands(rows_done);
        write!(
            f,
            "sensor_hrv {bar}{rest} {percent:>3} %, {rows:>width$} of {total} rows",
            width = total.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_always_as_wide() {
        let of = |rows_done| Progress {
            rows_done,
            rows_total: 2_000_000,
            parts_done: 0,
            parts_total: 10,
        };
        assert_eq!(
            of(1_000_000).to_string(),
            "sensor_hrv ███████████████░░░░░░░░░░░░░░░  50 %, 1,000,000 of 2,000,000 rows"
        );
        for rows in [0, 1, 999_999, 2_000_000] {
            assert_eq!(of(rows).to_string().chars().count(), of(1).to_string().chars().count());
        }
        let all =
            Progress { rows_done: u64::MAX, rows_total: u64::MAX, parts_done: 1, parts_total: 1 };
        assert!(all.to_string().contains("100 %"));
    }
}

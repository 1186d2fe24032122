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
//! not depend on how many are in a part. Memory is bounded by one part for each thread.

pub mod diary;
mod metadata;
mod options;
pub mod people;
mod write;

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::Local;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use sensor_table::{Maker, Part, SensorTable, Wearer};

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
    /// Sensor rows written so far.
    pub rows_done: u64,
    /// Sensor rows to write.
    pub rows_total: u64,
    /// Sensor parts written so far.
    pub parts_done: u64,
    /// Sensor parts to write.
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
/// and after each one.
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

    let staging = Staging::create(&options.output_dir, options.most_bytes())?;
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

/// Makes the sensor table's files, passes side by side.
fn write_parts(
    table: &SensorTable,
    staging: &Staging,
    threads: usize,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Vec<WrittenFile>> {
    let passes = table.passes(threads);
    let parts_total = passes.iter().map(|pass| pass.parts.len() as u64).sum();
    let mut progress =
        Progress { rows_done: 0, rows_total: table.rows, parts_done: 0, parts_total };
    on_progress(progress);

    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |written: mpsc::Sender<Result<(u64, WrittenFile)>>| {
        let mut maker = Maker::new(table);
        while let Some(pass) = passes.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = maker.make(pass, |part, bytes| {
                if stop.load(Ordering::Relaxed) {
                    return Err(Ended::Stopped);
                }
                let file = staging.write_bytes(&location(part), &bytes).map_err(Ended::Failed)?;
                // Nobody hears it once the others have failed.
                let _ = written.send(Ok((part.rows, file)));
                Ok(())
            });
            match result {
                Ok(()) => {}
                Err(Ended::Stopped) => return,
                Err(Ended::Failed(error)) => {
                    let _ = written.send(Err(error));
                    return;
                }
            }
        }
    };
    let mut files = Vec::new();
    thread::scope(|scope| -> Result<()> {
        // An error or an interrupt ends all threads, with the part that they are at.
        let _stop = StopAtTheEnd(&stop);
        let (sender, written) = mpsc::channel();
        for _ in 0..threads.min(passes.len()) {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        loop {
            interrupt::check();
            match written.recv_timeout(Duration::from_millis(50)) {
                Ok(result) => {
                    let (rows, file) = result?;
                    progress.rows_done += rows;
                    progress.parts_done += 1;
                    files.push(file);
                    on_progress(progress);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Why a thread ended before its work.
enum Ended {
    Stopped,
    Failed(Error),
}

impl From<polars::prelude::PolarsError> for Ended {
    fn from(source: polars::prelude::PolarsError) -> Ended {
        Ended::Failed(Error::polars("encode sensor_hrv")(source))
    }
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

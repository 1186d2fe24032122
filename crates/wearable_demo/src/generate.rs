//! The dataset's generator.
//!
//! [`options`] says what is asked for, [`people`] draws the users and how their bodies behave,
//! [`diary`] their nights, [`sensor`] the segments their devices record, and [`write`] puts tables
//! into Parquet files and those into place.
//!
//! Every table has a random stream of its own, and so has every part of the sensor table: streams
//! of ChaCha8, which is specified. With the locked versions of rand's distributions and of polars,
//! the same options give the same bytes, and a part does not depend on the parts before it. Memory
//! is bounded by one part.

pub mod diary;
mod options;
pub mod people;
pub mod sensor;
mod write;

use std::io::Write as _;

use chrono::Local;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

pub use options::{GenerateOptions, Size};
pub use write::{Generated, WrittenFile};

use crate::error::Result;
use crate::interrupt;
use crate::tables::{SENSOR_HRV, SLEEP_DIARY, USER_PROFILE};
pub(crate) use write::METADATA;
use write::Staging;

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

/// Streams of the seed's generator. Parts of the sensor table follow the last of these.
#[derive(Clone, Copy)]
enum Stream {
    People,
    Diary,
    Sensor(u64),
}

fn stream(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(match stream {
        Stream::People => 0,
        Stream::Diary => 1,
        Stream::Sensor(part) => 2 + part,
    });
    rng
}

/// Writes the three tables and `generation_metadata.yaml` into `options.output_dir`, replacing a
/// dataset that is there.
///
/// Same options, same bytes in every Parquet file. The files are written beside their places and
/// moved into them when all of them are complete; if that fails, what was moved is moved back. So
/// an error leaves what was there before, and so does an [`interrupt`](crate::interrupt). What a
/// killed process left is removed by the next call.
///
/// # Errors
///
/// [`Error::InvalidOption`](crate::Error::InvalidOption) where an option is out of its range,
/// [`Error::InTheWay`](crate::Error::InTheWay) where the directory holds something else under a
/// table's name, [`Error::Busy`](crate::Error::Busy) where another process writes there,
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
    let parts = rows.div_ceil(options.chunk_rows);

    let mut staging = Staging::create(&options.output_dir)?;
    let people = people::draw(options.size.users(), &mut stream(options.seed, Stream::People));
    staging.write(USER_PROFILE.location, &mut people::table(&people)?)?;
    let mut diary = diary::table(&people, &mut stream(options.seed, Stream::Diary))?;
    staging.write(SLEEP_DIARY.location, &mut diary)?;

    let mut progress =
        Progress { rows_done: 0, rows_total: rows, parts_done: 0, parts_total: parts };
    on_progress(progress);
    for part in 0..parts {
        interrupt::check();
        let part_rows = options.chunk_rows.min(rows - progress.rows_done);
        let rng = &mut stream(options.seed, Stream::Sensor(part));
        let mut segments = sensor::table(&people, part_rows, rng)?;
        let location = SENSOR_HRV.location.replace('*', &format!("part-{part:05}"));
        staging.write(&location, &mut segments)?;
        progress.rows_done += part_rows;
        progress.parts_done += 1;
        on_progress(progress);
    }
    staging.finish(options, started, progress.rows_done, people.len())
}

/// Rounds half away from zero to `decimals` places.
fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Prints one line per part; for a notebook, where stdout is passed on line by line.
pub fn print_progress(progress: Progress) {
    let Progress { rows_done, rows_total, parts_done, parts_total } = progress;
    let percent = 100 * rows_done / rows_total.max(1);
    // A reader that has gone away must not end the generation.
    let _ = writeln!(
        std::io::stdout(),
        "sensor_hrv: part {parts_done} of {parts_total}, {rows_done} of {rows_total} rows ({percent} %)"
    );
}

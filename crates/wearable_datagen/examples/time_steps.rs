//! Measures the steps of generating a sensor row on one core. Prints one line of JSON per step:
//! nanoseconds per row, and the bytes that the step reads and writes. Used by `./justw bench generate`.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use wearable_datagen::sensor::columns::Columns;
use wearable_datagen::sensor::rows::{BLOCK_ROWS, RowGenerator};
use wearable_datagen::sensor::{Layout, Physiology, SensorTable, encode};

const ROWS: usize = 2_000_000;
const PART_ROWS: usize = 200_000;
/// Random words per row, of four bytes each.
const WORDS: usize = 14;
/// Bytes of a row's codes.
const CODES: f64 = 26.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    let physiology = |n: u32| Physiology {
        age: f64::from(18 + n % 48),
        resting: 60.0 + f64::from(n % 20),
        segment_sigma: 4.0 + f64::from(n % 10),
        day_offset: std::array::from_fn(|day| f64::from((n + day as u32) % 7) - 3.0),
        activity_scale: 0.7 + 0.001 * f64::from(n),
        sensitivity: 0.1,
    };
    let users: Vec<_> = (0..1000).map(physiology).collect();
    let table = SensorTable {
        users: &users,
        first_day: 19_723,
        seed: 42,
        first_stream: 2,
        rows: ROWS as u64,
        chunk_rows: PART_ROWS as u64,
        row_group_rows: 100_000,
        layout: Layout::Unsorted,
    };

    let mut words = vec![0u32; WORDS * BLOCK_ROWS];
    let random = seconds(ROWS / BLOCK_ROWS, |_| rng.fill(&mut words[..]));
    let mut normals = vec![0.0; BLOCK_ROWS];
    let normal = seconds(ROWS / BLOCK_ROWS, |_| {
        normals.fill_with(|| StandardNormal.sample(&mut rng));
    });
    let (mut generator, mut rows) = (RowGenerator::new(&table), Columns::default());
    let generating = seconds(ROWS / BLOCK_ROWS, |block| {
        generator.append(block as u64, 0..BLOCK_ROWS, &mut rows);
    });
    let part = table.generate(0, PART_ROWS as u64);
    let mut bytes = Vec::new();
    let encoding = seconds(ROWS / PART_ROWS, |_| {
        bytes = encode::parquet(&table, &part).expect("codes can be encoded");
    });
    let file = bytes.len() as f64 / PART_ROWS as f64;
    let checksum = seconds(ROWS / PART_ROWS, |_| {
        black_box(crc32fast::hash(&bytes));
    });
    let mut disk = tempfile::tempfile_in("target")?;
    let mut written = Ok(());
    let writing = seconds(ROWS / PART_ROWS, |_| {
        written = disk.write_all(&bytes);
    });
    written?;
    let start = Instant::now();
    disk.sync_all()?;
    let syncing = start.elapsed().as_secs_f64();

    let words = 4.0 * WORDS as f64;
    for (step, seconds, bytes) in [
        ("random words (ChaCha8)", random, words),
        ("normal numbers", normal, 16.0),
        ("rules and rounding", generating - random - normal, words + 8.0 + 2.0 * CODES),
        // Codes, keys and packed keys are written and read; the page exists before and after snappy.
        ("Parquet and snappy", encoding, 6.0 * CODES + 3.0 * file),
        ("checksum", checksum, file),
        ("write to the file", writing, 2.0 * file),
        ("sync to the disk", syncing, file),
    ] {
        let ns = seconds.max(0.0) / ROWS as f64 * 1e9;
        println!(r#"{{"step": "{step}", "ns": {ns:.2}, "bytes": {bytes:.1}}}"#);
    }
    Ok(())
}

/// Runs `step` `times` times and returns the total seconds.
fn seconds(times: usize, mut step: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..times).for_each(&mut step);
    start.elapsed().as_secs_f64()
}

//! Generates rows by the rules of the dataset (`data/README.md` has the ranges).
//!
//! Rows are generated in whole blocks of [`BLOCK_ROWS`], each from its own random stream. So a row
//! depends only on the seed, the users and its number. It does not depend on the size of files, the
//! number of threads, or the number of rows.

use std::ops::Range;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::sensor::columns::{Codes, Columns, WIDTH};
use crate::sensor::{CHARGING_HOURS, SEGMENTS, SEGMENTS_PER_DAY, SensorTable};

/// Rows per block: large enough to create streams rarely, and small enough for its random words to fit
/// into a core's cache.
pub const BLOCK_ROWS: usize = 4000;

/// The circadian offset of the heart rate, in bpm, by hour.
const CIRCADIAN_BPM: [f64; 24] = [
    -10.0, -10.0, -10.0, -10.0, -9.0, -8.0, -6.0, -4.0, -2.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0,
    0.0, 0.0, 2.0, 2.0, 2.0, 1.0, 0.0, -2.0,
];
const SEGMENTS_PER_HOUR: usize = (SEGMENTS_PER_DAY / 24) as usize;

/// The quantities that need a uniform random number in each row.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Quantity {
    User,
    Segment,
    Activity,
    Steps,
    Sdnn,
    Rmssd,
    LfHf,
    Bvp,
    Spo2,
    Eda,
    SkinTemp,
    Acc,
    Missingness,
    Charging,
}

const UNIFORMS: usize = Quantity::Charging as usize + 1;

/// Generates rows, and reuses its memory for the random numbers of a block.
pub struct RowGenerator<'a> {
    table: &'a SensorTable<'a>,
    /// A column of random words for each [`Quantity`].
    words: Vec<[u32; BLOCK_ROWS]>,
    normals: Vec<f64>,
    users: Vec<u16>,
    segments: Vec<u16>,
    hours: [Hour; 24],
}

impl<'a> RowGenerator<'a> {
    /// Creates a generator for rows of `table`.
    pub fn new(table: &'a SensorTable<'a>) -> RowGenerator<'a> {
        RowGenerator {
            table,
            words: vec![[0; BLOCK_ROWS]; UNIFORMS],
            normals: vec![0.0; BLOCK_ROWS],
            users: vec![0; BLOCK_ROWS],
            segments: vec![0; BLOCK_ROWS],
            hours: of_hour(),
        }
    }

    /// Appends rows of a block to `to`. `rows` are positions in the block, whose first row has the number
    /// `block · BLOCK_ROWS`.
    pub fn append(&mut self, block: u64, rows: Range<usize>, to: &mut Columns) {
        let mut rng = self.keys(block);
        rng.fill(self.words[Quantity::Segment as usize + 1..].as_flattened_mut());
        self.normals.fill_with(|| StandardNormal.sample(&mut rng));
        let start = to.len();
        to.resize(start + rows.len());
        let mut columns = to.columns_mut().each_mut().map(|column| &mut column[start..]);
        self.follow(rows.clone(), &mut columns);
        self.independent(rows, &mut columns);
    }

    /// Generates users and segments. Returns the random stream for the other values.
    fn keys(&mut self, block: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.table.seed);
        rng.set_stream(self.table.first_stream + block);
        rng.fill(self.words[..=Quantity::Segment as usize].as_flattened_mut());
        let users = self.table.users.len() as u64;
        for (word, codes, below) in [
            (Quantity::User, &mut self.users, users),
            (Quantity::Segment, &mut self.segments, SEGMENTS.into()),
        ] {
            for (code, &word) in codes.iter_mut().zip(&self.words[word as usize]) {
                *code = pick(word, below);
            }
        }
        rng
    }

    /// Generates the values that depend on the physiology, the segment or each other.
    fn follow(&self, rows: Range<usize>, columns: &mut [&mut [u16]; WIDTH]) {
        use Codes::{Acc, Eda, HeartRate, Missingness, Rmssd, Sdnn, Segment, Steps, User};
        let words = &self.words[..UNIFORMS];
        for (row, i) in rows.enumerate() {
            let uniform = |of: Quantity| uniform(words[of as usize][i]);
            let physiology = &self.table.users[self.users[i] as usize];
            let segment = self.segments[i] as usize;
            let day = segment / SEGMENTS_PER_DAY as usize;
            let hour = &self.hours[segment % SEGMENTS_PER_DAY as usize / SEGMENTS_PER_HOUR];

            let activity = (hour.activity.0 + hour.activity.1 * uniform(Quantity::Activity))
                * physiology.activity_scale;
            let activity = activity.clamp(0.6, 3.0);
            let steps = (50.0 * uniform(Quantity::Steps) * activity) as u16;
            let steps = (f64::from(steps) * hour.steps) as u16;

            let heart_rate = physiology.resting
                + physiology.day_offset[day]
                + hour.circadian
                + 4.0 * (activity - 1.0)
                + f64::from(steps) * physiology.sensitivity
                + physiology.segment_sigma * self.normals[i];
            let heart_rate = code(heart_rate.clamp(40.0, 220.0), 1.0);
            let sdnn = 100.0 - 0.5 * (physiology.age - 18.0)
                + between(-30.0, 30.0, uniform(Quantity::Sdnn))
                - 0.1 * (f64::from(heart_rate) - physiology.resting);
            let sdnn = sdnn.clamp(20.0, 200.0);
            let rmssd =
                (0.7 * sdnn + between(-10.0, 10.0, uniform(Quantity::Rmssd))).clamp(10.0, 150.0);
            let acc = between(0.05, 0.5, uniform(Quantity::Acc)) * activity * hour.acc;
            let missingness = 0.4 * uniform(Quantity::Missingness)
                + hour.missingness.0
                + hour.missingness.1 * uniform(Quantity::Charging);

            for (of, code) in [
                (User, self.users[i]),
                (Segment, self.segments[i]),
                (Steps, steps),
                (HeartRate, heart_rate),
                (Sdnn, code(sdnn, 100.0)),
                (Rmssd, code(rmssd, 100.0)),
                (Eda, code(between(0.2, 2.0, uniform(Quantity::Eda)) * activity, 1000.0)),
                (Acc, code(acc, 1000.0)),
                (Missingness, code(missingness.clamp(0.0, 1.0), 1000.0)),
            ] {
                columns[of as usize][row] = code;
            }
        }
    }

    /// Generates the values that depend on nothing else.
    fn independent(&self, rows: Range<usize>, columns: &mut [&mut [u16]; WIDTH]) {
        for (word, of, low, high, scale) in [
            // From 0.3 to 2.
            (Quantity::LfHf, Codes::LfHf, 1.0 - 0.7, 1.0 + 1.0, 1000.0),
            (Quantity::Bvp, Codes::Bvp, 0.3, 1.5, 1000.0),
            (Quantity::Spo2, Codes::Spo2, 95.0, 100.0, 10.0),
            (Quantity::SkinTemp, Codes::SkinTemp, 32.0, 36.0, 10.0),
        ] {
            let words = &self.words[word as usize][rows.clone()];
            for (value, &word) in columns[of as usize].iter_mut().zip(words) {
                *value = code(between(low, high, uniform(word)), scale);
            }
        }
    }
}

/// The influence of the hour on a recording. A pair (a, b) stands for a + b·U(0, 1).
struct Hour {
    circadian: f64,
    activity: (f64, f64),
    steps: f64,
    acc: f64,
    missingness: (f64, f64),
}

fn of_hour() -> [Hour; 24] {
    std::array::from_fn(|hour| {
        let charging = CHARGING_HOURS.contains(&(hour as u32));
        Hour {
            circadian: CIRCADIAN_BPM[hour],
            activity: match hour {
                9..=17 => (1.2, 0.8),
                18..=22 => (1.0, 0.5),
                _ => (1.0, 0.0),
            },
            steps: if charging { 0.2 } else { 1.0 },
            acc: if charging { 0.5 } else { 1.0 },
            missingness: if charging { (0.3, 0.4) } else { (0.0, 0.0) },
        }
    })
}

/// A uniform number from 0 to `below` − 1, with a bias below one in four billion.
fn pick(word: u32, below: u64) -> u16 {
    ((u64::from(word) * below) >> 32) as u16
}

/// A uniform number between 0 and 1: the middle of one of 2³² intervals.
fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0)
}

fn between(low: f64, high: f64, uniform: f64) -> f64 {
    low + (high - low) * uniform
}

/// Rounds a non-negative `value` half up to a multiple of 1 / `scale`, and returns the multiple.
fn code(value: f64, scale: f64) -> u16 {
    (value * scale + 0.5) as u16
}

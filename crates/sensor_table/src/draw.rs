//! Drawing rows, by the rules of the dataset (`data/README.md` has the ranges).
//!
//! Rows are drawn in blocks of [`BLOCK_ROWS`], each from a random stream of its own, and always as a
//! whole. So a row depends on the seed, the wearers and its number, and on nothing else: not on the
//! size of the files, the number of threads, or the number of rows behind it.

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::columns::{Codes, Columns};
use crate::{CHARGING_HOURS, SEGMENTS, SEGMENTS_PER_DAY, SensorTable};

/// Rows to a block: some, so that a stream is set up seldom, and few enough for their random words
/// to stay in a core's own cache.
pub const BLOCK_ROWS: usize = 4000;

/// What the time of day adds to the heart rate, in bpm, by hour.
const CIRCADIAN_BPM: [f64; 24] = [
    -10.0, -10.0, -10.0, -10.0, -9.0, -8.0, -6.0, -4.0, -2.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0,
    0.0, 0.0, 2.0, 2.0, 2.0, 1.0, 0.0, -2.0,
];
const SEGMENTS_PER_HOUR: usize = (SEGMENTS_PER_DAY / 24) as usize;

/// A uniform random number for each row, by what it is for.
#[derive(Clone, Copy)]
#[repr(usize)]
enum For {
    Wearer,
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

const UNIFORMS: usize = For::Charging as usize + 1;

/// Draws blocks, with room of its own for one.
pub struct Drawing<'a> {
    table: &'a SensorTable<'a>,
    /// A column of random words for each [`For`].
    words: Vec<[u32; BLOCK_ROWS]>,
    normal: Vec<f64>,
    block: Columns,
}

impl<'a> Drawing<'a> {
    /// For blocks of `table`.
    pub fn new(table: &'a SensorTable<'a>) -> Drawing<'a> {
        let mut block = Columns::default();
        block.columns_mut().iter_mut().for_each(|column| column.resize(BLOCK_ROWS, 0));
        let words = vec![[0; BLOCK_ROWS]; UNIFORMS];
        Drawing { table, words, normal: vec![0.0; BLOCK_ROWS], block }
    }

    /// The rows with the numbers from `block · BLOCK_ROWS` on.
    pub fn block(&mut self, block: u64) -> &Columns {
        let mut rng = self.stream(block);
        rng.fill(self.words.as_flattened_mut());
        self.normal.fill_with(|| StandardNormal.sample(&mut rng));
        self.keys();
        self.follow();
        self.independent();
        &self.block
    }

    /// Wearer and segment of the rows of a block; of the block's other columns, nothing.
    pub fn block_keys(&mut self, block: u64) -> &Columns {
        let mut rng = self.stream(block);
        rng.fill(self.words[..=For::Segment as usize].as_flattened_mut());
        self.keys();
        &self.block
    }

    fn stream(&self, block: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.table.seed);
        rng.set_stream(self.table.first_stream + block);
        rng
    }

    fn keys(&mut self) {
        let wearers = self.table.wearers.len() as u64;
        let columns = self.block.columns_mut();
        for (word, of, below) in
            [(For::Wearer, Codes::Wearer, wearers), (For::Segment, Codes::Segment, SEGMENTS.into())]
        {
            let words = &self.words[word as usize];
            for (code, &word) in columns[of as usize].iter_mut().zip(words) {
                *code = pick(word, below);
            }
        }
    }

    /// What follows from the wearer, the time, and each other.
    fn follow(&mut self) {
        use Codes::{Acc, Eda, HeartRate, Missingness, Rmssd, Sdnn, Segment, Steps, Wearer};
        let of_hour = of_hour();
        let words = &self.words[..UNIFORMS];
        let columns = self.block.columns_mut();
        let mut row = [0; crate::columns::WIDTH];
        for i in 0..BLOCK_ROWS {
            let uniform = |of: For| uniform(words[of as usize][i]);
            let wearer = &self.table.wearers[columns[Wearer as usize][i] as usize];
            let segment = columns[Segment as usize][i] as usize;
            let day = segment / SEGMENTS_PER_DAY as usize;
            let hour = &of_hour[segment % SEGMENTS_PER_DAY as usize / SEGMENTS_PER_HOUR];

            let activity = (hour.activity.0 + hour.activity.1 * uniform(For::Activity))
                * wearer.activity_scale;
            let activity = activity.clamp(0.6, 3.0);
            let steps = (50.0 * uniform(For::Steps) * activity) as u16;
            let steps = (f64::from(steps) * hour.steps) as u16;

            let heart_rate = wearer.resting
                + wearer.day_offset[day]
                + hour.circadian
                + 4.0 * (activity - 1.0)
                + f64::from(steps) * wearer.sensitivity
                + wearer.segment_sigma * self.normal[i];
            let heart_rate = code(heart_rate.clamp(40.0, 220.0), 1.0);
            let sdnn = 100.0 - 0.5 * (wearer.age - 18.0) + between(-30.0, 30.0, uniform(For::Sdnn))
                - 0.1 * (f64::from(heart_rate) - wearer.resting);
            let sdnn = sdnn.clamp(20.0, 200.0);
            let rmssd = (0.7 * sdnn + between(-10.0, 10.0, uniform(For::Rmssd))).clamp(10.0, 150.0);
            let acc = between(0.05, 0.5, uniform(For::Acc)) * activity * hour.acc;
            let missingness = 0.4 * uniform(For::Missingness)
                + hour.missingness.0
                + hour.missingness.1 * uniform(For::Charging);

            row[Steps as usize] = steps;
            row[HeartRate as usize] = heart_rate;
            row[Sdnn as usize] = code(sdnn, 100.0);
            row[Rmssd as usize] = code(rmssd, 100.0);
            row[Eda as usize] = code(between(0.2, 2.0, uniform(For::Eda)) * activity, 1000.0);
            row[Acc as usize] = code(acc, 1000.0);
            row[Missingness as usize] = code(missingness.clamp(0.0, 1.0), 1000.0);
            for of in [Steps, HeartRate, Sdnn, Rmssd, Eda, Acc, Missingness] {
                columns[of as usize][i] = row[of as usize];
            }
        }
    }

    /// What follows from nothing else.
    fn independent(&mut self) {
        let columns = self.block.columns_mut();
        for (word, of, low, high, scale) in [
            // Not below the bound of 0.3 and far from that of 3.
            (For::LfHf, Codes::LfHf, 1.0 - 0.7, 1.0 + 1.0, 1000.0),
            (For::Bvp, Codes::Bvp, 0.3, 1.5, 1000.0),
            (For::Spo2, Codes::Spo2, 95.0, 100.0, 10.0),
            (For::SkinTemp, Codes::SkinTemp, 32.0, 36.0, 10.0),
        ] {
            let words = &self.words[word as usize];
            for (value, &word) in columns[of as usize].iter_mut().zip(words) {
                *value = code(between(low, high, uniform(word)), scale);
            }
        }
    }
}

/// What the hour of the day does to a recording. Of a pair (a, b), a + b·U(0, 1) is drawn.
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

/// A number from 0 to `below` − 1, each as likely but for one in four billion.
fn pick(word: u32, below: u64) -> u16 {
    ((u64::from(word) * below) >> 32) as u16
}

/// A number between 0 and 1: the middle of one of 2³² intervals.
fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0)
}

fn between(low: f64, high: f64, uniform: f64) -> f64 {
    low + (high - low) * uniform
}

/// `value`, which is not negative, rounded half up to a multiple of 1 / `scale`.
fn code(value: f64, scale: f64) -> u16 {
    (value * scale + 0.5) as u16
}

//! The sensor table: five-minute segments, chosen uniformly and with replacement from all users and all
//! segments of the dataset's days, and their Parquet files.
//!
//! Every value is rounded to at most three decimals, so a column has few different values: at most 18,001
//! in `hrv_sdnn`, and never more than 65,536. [`rows`] therefore generates whole numbers, *codes*: the code
//! of 61.27 ms is 6127. [`columns`] stores them with 26 bytes per row. [`encode`] writes codes with a dictionary of their values, an encoding
//! that other Parquet writers must compute by hashing. [`layout`] assigns rows to files, and
//! [`external_sort`] sorts rows.

pub mod columns;
pub mod encode;
pub mod external_sort;
pub mod layout;
pub mod rows;

use std::ops::Range;

pub use external_sort::{Buckets, SortedRows};
pub use layout::{Layout, Part, PartGenerator};

/// Days in the dataset.
pub const DAYS: u32 = 35;
/// Length of a segment in minutes.
pub const SEGMENT_MINUTES: u32 = 5;
/// Segments per day: 288.
pub const SEGMENTS_PER_DAY: u32 = 24 * 60 / SEGMENT_MINUTES;
/// Segments of all days: 10,080.
pub const SEGMENTS: u32 = DAYS * SEGMENTS_PER_DAY;
/// Hours in which the devices are charged.
pub const CHARGING_HOURS: Range<u32> = 0..6;
/// Maximum number of users, because user numbers are codes.
pub const MAX_USERS: usize = 1 << 16;

/// The parameters of a user's recordings.
#[derive(Clone, Debug)]
pub struct Physiology {
    /// Age in years.
    pub age: f64,
    /// Resting heart rate, bpm.
    pub resting: f64,
    /// Standard deviation of the heart rate from segment to segment, bpm.
    pub segment_sigma: f64,
    /// Offset of the heart rate per day, bpm.
    pub day_offset: [f64; DAYS as usize],
    /// Factor of all activity.
    pub activity_scale: f64,
    /// Increase of the heart rate per step, bpm.
    pub sensitivity: f64,
}

/// The rows and the layout of the table.
#[derive(Clone, Debug)]
pub struct SensorTable<'a> {
    /// The users of the devices, in the order of their numbers: at least one, at most [`MAX_USERS`].
    pub users: &'a [Physiology],
    /// Days from 1970-01-01 to the first day.
    pub first_day: i32,
    /// Seed of the random streams.
    pub seed: u64,
    /// Number of the table's first random stream.
    pub first_stream: u64,
    /// Number of rows.
    pub rows: u64,
    /// Rows per file (by date: per file of a date). The last file can have fewer.
    pub chunk_rows: u64,
    /// Rows per row group. The last row group of a file can have fewer.
    pub row_group_rows: usize,
    /// The order of the rows.
    pub layout: Layout,
}

//! The sensor table: five-minute segments drawn uniformly, with replacement, from all users and
//! all segments of the dataset's days, and their Parquet files.
//!
//! A crate of its own because it is compiled for speed, where the rest of the library is compiled so
//! that a notebook's cells compile quickly.
//!
//! Every value of the table is rounded, to two decimals and less, so each column has some thousand
//! different values at most. [`rows`] therefore draws whole numbers, *codes*: a heart rate variability of
//! 61.27 ms is 6127. [`columns`] holds them, 26 bytes a row; [`encode`] writes the codes as they are,
//! with a dictionary of what they stand for, which is the form that Parquet would look for itself.
//! [`layout`] says which rows are in which file, and [`external_sort`] puts rows into another order than
//! they are drawn in.

pub mod columns;
pub mod encode;
pub mod external_sort;
pub mod layout;
pub mod rows;

use std::ops::Range;

pub use external_sort::{Buckets, SortedRows};
pub use layout::{Layout, Maker, Part};

/// Days in the dataset.
pub const DAYS: u32 = 35;
/// Length of a segment in minutes.
pub const SEGMENT_MINUTES: u32 = 5;
/// Segments in a day: 288.
pub const SEGMENTS_PER_DAY: u32 = 24 * 60 / SEGMENT_MINUTES;
/// Segments of the dataset: 10,080.
pub const SEGMENTS: u32 = DAYS * SEGMENTS_PER_DAY;
/// Hours in which the devices charge.
pub const CHARGING_HOURS: Range<u32> = 0..6;
/// Most users: their numbers are codes.
pub const MOST_USERS: usize = 1 << 16;

/// What a physiology's recordings follow.
#[derive(Clone, Debug)]
pub struct Physiology {
    /// Years.
    pub age: f64,
    /// Heart rate at rest, bpm.
    pub resting: f64,
    /// Standard deviation of the heart rate from segment to segment, bpm.
    pub segment_sigma: f64,
    /// Offset of the heart rate on each day, bpm.
    pub day_offset: [f64; DAYS as usize],
    /// Factor on every activity.
    pub activity_scale: f64,
    /// Heart beats per minute that one step adds.
    pub sensitivity: f64,
}

/// The table: what its rows are, and how they are laid out.
#[derive(Clone, Debug)]
pub struct SensorTable<'a> {
    /// Who wears the devices, by number: at least one and at most [`MOST_USERS`].
    pub users: &'a [Physiology],
    /// Days from 1970-01-01 to the first day.
    pub first_day: i32,
    /// Seed of the random streams.
    pub seed: u64,
    /// The number of the first stream that is the table's own.
    pub first_stream: u64,
    /// Rows.
    pub rows: u64,
    /// Rows to a file, but for the last one (by date: of each date).
    pub chunk_rows: u64,
    /// Rows to a row group, but for the last one of a file.
    pub row_group_rows: usize,
    /// The order of the rows.
    pub layout: Layout,
}

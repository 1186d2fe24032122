//! The options of the generator.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::sensor::Layout;
use crate::sensor::external_sort::{BATCH_ROWS, ROW_BYTES};

/// Number of sensor rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1,000,000 rows, 150 users.
    Small,
    /// 10,000,000 rows, 1,000 users.
    Large,
    /// Any other number of rows.
    Rows(u64),
}

impl Size {
    /// Number of rows of sensor_hrv.
    pub fn rows(self) -> u64 {
        match self {
            Size::Small => 1_000_000,
            Size::Large => 10_000_000,
            Size::Rows(rows) => rows,
        }
    }

    /// Number of users: 1,000 from 5,000,000 sensor rows, 150 from 1,000,000, otherwise one per 10,000 rows
    /// and at least 50.
    pub fn users(self) -> u32 {
        match self.rows() {
            5_000_000.. => 1000,
            1_000_000.. => 150,
            rows => (rows / 10_000).max(50) as u32,
        }
    }
}

/// Options of [`generate_dataset`](crate::generate_dataset).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateOptions {
    /// Number of sensor rows.
    pub size: Size,
    /// Seed of all random streams.
    pub seed: u64,
    /// Output directory. Created if it does not exist.
    pub output_dir: PathBuf,
    /// Rows per part of sensor_hrv (by date: per part of a date). Each thread holds one part in memory.
    pub chunk_rows: u64,
    /// Rows per row group of sensor_hrv, the smallest unit that a scan can skip.
    pub row_group_rows: u64,
    /// The order of sensor_hrv's rows.
    pub layout: Layout,
    /// Threads that generate parts in parallel. None for the number of processors. The files do not
    /// depend on it.
    pub threads: Option<NonZeroUsize>,
}

impl GenerateOptions {
    /// Default seed.
    pub const DEFAULT_SEED: u64 = 42;
    /// Default number of rows per part.
    pub const DEFAULT_CHUNK_ROWS: u64 = 200_000;
    /// Default number of rows per row group.
    pub const DEFAULT_ROW_GROUP_ROWS: u64 = 100_000;
    /// Maximum number of parts, because part numbers have five digits.
    const MAX_PARTS: u64 = 100_000;
    /// Maximum number of row groups per file, because Parquet numbers them with 16 bits.
    const MAX_ROW_GROUPS: u64 = 32_767;
    /// Maximum number of threads.
    const MAX_THREADS: usize = 1024;
    /// Maximum number of rows in the memory of all threads: 26 bytes each, and their encoded form.
    const ROWS_AT_ONCE: u64 = 10_000_000;
    /// Maximum number of rows per part, because a part must fit into memory.
    const MAX_CHUNK_ROWS: u64 = 10_000_000;

    /// Options for `size` and `output_dir`, with the default seed and part size.
    pub fn new(size: Size, output_dir: impl Into<PathBuf>) -> GenerateOptions {
        GenerateOptions {
            size,
            seed: Self::DEFAULT_SEED,
            output_dir: output_dir.into(),
            chunk_rows: Self::DEFAULT_CHUNK_ROWS,
            row_group_rows: Self::DEFAULT_ROW_GROUP_ROWS,
            layout: Layout::Unsorted,
            threads: None,
        }
    }

    /// Number of threads: the requested number or the machine's, and fewer if their parts would need too
    /// much memory at the same time.
    pub fn threads(&self) -> usize {
        let machines = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = self.threads.map_or_else(machines, NonZeroUsize::get);
        let rows = match self.layout {
            Layout::Unsorted => self.chunk_rows.max(1),
            Layout::ByDevice | Layout::ByDate => self.chunk_rows.max(BATCH_ROWS),
        };
        threads.min((Self::ROWS_AT_ONCE / rows).max(1) as usize)
    }

    /// An upper bound of the dataset's size on disk, in bytes.
    pub fn max_bytes(&self) -> u64 {
        // Codes need 150 bits per row. Each row group has dictionaries with at most one value per row and
        // column, at most 450 kB.
        let rows = self.size.rows();
        let groups = rows.div_ceil(self.row_group_rows.min(self.chunk_rows).max(1));
        let dictionaries = (120 * self.row_group_rows.min(self.chunk_rows)).min(450_000);
        // A footer describes 14 columns. The sleep diary has a row of 70 bytes per night.
        let footers = groups * 2_000 + rows.div_ceil(self.chunk_rows.max(1)) * 8_000;
        let nights = u64::from(self.size.users()) * u64::from(crate::tables::DAYS);
        let dates = if self.layout == Layout::ByDate { 35 * (450_000 + 10_000) } else { 0 };
        19 * rows
            + groups * dictionaries
            + footers
            + dates.min(120 * rows + 500_000)
            + 70 * nights
            + 300_000
    }

    /// Size of the temporary files, in bytes. They exist until the dataset is complete.
    pub fn temporary_bytes(&self) -> u64 {
        match self.layout {
            Layout::Unsorted => 0,
            // On disk, each file ends with a full block of 4 KiB.
            Layout::ByDevice | Layout::ByDate => self.size.rows() * (ROW_BYTES + 1) + 35 * 4096,
        }
    }

    /// Checks that all options are within their bounds.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] with the first option that is not.
    pub fn validate(&self) -> Result<()> {
        let invalid = |option, value: u64, allowed| {
            Err(Error::InvalidOption { option, value: value.to_string(), allowed })
        };
        let rows = self.size.rows();
        if !(1..=Self::MAX_CHUNK_ROWS * Self::MAX_PARTS).contains(&rows) {
            return invalid("rows", rows, "from 1 to 1,000,000,000,000");
        }
        if !(1..=Self::MAX_CHUNK_ROWS).contains(&self.chunk_rows) {
            return invalid("chunk_rows", self.chunk_rows, "from 1 to 10,000,000");
        }
        if !(1..=Self::MAX_CHUNK_ROWS).contains(&self.row_group_rows) {
            return invalid("row_group_rows", self.row_group_rows, "from 1 to 10,000,000");
        }
        if self.chunk_rows.min(rows).div_ceil(self.row_group_rows) > Self::MAX_ROW_GROUPS {
            return invalid(
                "row_group_rows",
                self.row_group_rows,
                "large enough for at most 32,767 row groups in a part of chunk_rows rows",
            );
        }
        if let Some(threads) = self.threads.filter(|n| n.get() > Self::MAX_THREADS) {
            return invalid("threads", threads.get() as u64, "from 1 to 1024");
        }
        if rows.div_ceil(self.chunk_rows) > Self::MAX_PARTS {
            return invalid(
                "chunk_rows",
                self.chunk_rows,
                "large enough for at most 100,000 parts",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_follow_the_rows() {
        let users = |rows| Size::Rows(rows).users();
        assert_eq!([users(1), users(500_000), users(510_000), users(999_999)], [50, 50, 51, 99]);
        assert_eq!([users(1_000_000), users(4_999_999), users(5_000_000)], [150, 150, 1000]);
        assert_eq!((Size::Small.users(), Size::Large.users()), (150, 1000));
    }

    #[test]
    fn invalid_options_are_named() {
        let options = |rows, chunk_rows| GenerateOptions {
            chunk_rows,
            ..GenerateOptions::new(Size::Rows(rows), "unused")
        };
        for (options, name) in [
            (options(0, 1), "rows is 0"),
            (options(u64::MAX, 10_000_000), "rows is 18446744073709551615"),
            (options(1, 0), "chunk_rows is 0"),
            (options(1, 10_000_001), "chunk_rows is 10000001"),
            (options(100_001, 1), "chunk_rows is 1,"),
        ] {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        options(100_000, 1).validate().unwrap();
    }
}

//! The layout of the table: the order of the rows and their files.

use std::fmt;
use std::io;

use crate::sensor::columns::Columns;
use crate::sensor::rows::{BLOCK_ROWS, RowGenerator};
use crate::sensor::{SensorTable, SortedRows};

/// The order of the rows. It decides which row groups a scan can skip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// In the order of generation: every row group contains all days and devices.
    #[default]
    Unsorted,
    /// By device, then time: a row group contains few devices.
    ByDevice,
    /// One directory per date, as in Hive: `date=2024-01-01/part-00000.parquet`. Within a date unsorted.
    ByDate,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Unsorted => "unsorted",
            Layout::ByDevice => "by-device",
            Layout::ByDate => "by-date",
        })
    }
}

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Days since the first day, if all rows have the same date.
    pub day: Option<u32>,
    /// Its number; in the layout by date, its number within the date.
    pub number: u64,
    /// Number of rows.
    pub rows: u64,
    /// Number of rows before it in the order of the layout.
    pub(crate) first_row: u64,
}

impl SensorTable<'_> {
    /// The parts of an unsorted table.
    pub fn parts(&self) -> Vec<Part> {
        self.parts_of(None, 0, self.rows)
    }

    /// The parts of `rows` rows after the first `first_row` rows. `day` is their date, if they have one.
    pub(crate) fn parts_of(&self, day: Option<u32>, first_row: u64, rows: u64) -> Vec<Part> {
        let part = |number| {
            let before = number * self.chunk_rows;
            let rows = self.chunk_rows.min(rows - before);
            Part { day, number, rows, first_row: first_row + before }
        };
        (0..rows.div_ceil(self.chunk_rows)).map(part).collect()
    }

    /// Generates `rows` rows, starting with number `first_row`.
    pub fn generate(&self, first_row: u64, rows: u64) -> Columns {
        let mut generator = PartGenerator::new(self);
        generator.generate(first_row, rows);
        generator.rows
    }

    /// Number of the table's rows in a block. Only the last block can be incomplete.
    pub(crate) fn rows_of(&self, block: u64) -> usize {
        (self.rows - block * BLOCK_ROWS as u64).min(BLOCK_ROWS as u64) as usize
    }
}

/// Generates the rows of parts, one part after the other, and reuses their memory.
pub struct PartGenerator<'a> {
    generator: RowGenerator<'a>,
    rows: Columns,
}

impl<'a> PartGenerator<'a> {
    /// Creates a generator for parts of `table`.
    pub fn new(table: &'a SensorTable<'a>) -> PartGenerator<'a> {
        PartGenerator { generator: RowGenerator::new(table), rows: Columns::default() }
    }

    /// Returns the rows of a part: read from `sorted`, or generated if the table is unsorted.
    ///
    /// # Errors
    ///
    /// The operating system's error if the sorted rows cannot be read.
    pub fn rows(&mut self, part: &Part, sorted: Option<&SortedRows>) -> io::Result<&Columns> {
        match sorted {
            Some(sorted) => sorted.read(part.first_row, part.rows, &mut self.rows)?,
            None => self.generate(part.first_row, part.rows),
        }
        Ok(&self.rows)
    }

    /// Generates rows by their numbers.
    fn generate(&mut self, first_row: u64, rows: u64) {
        self.rows.clear();
        self.rows.reserve(rows as usize);
        let (mut row, end) = (first_row, first_row + rows);
        while row < end {
            let start = (row % BLOCK_ROWS as u64) as usize;
            let count = (BLOCK_ROWS - start).min((end - row) as usize);
            self.generator.append(row / BLOCK_ROWS as u64, start..start + count, &mut self.rows);
            row += count as u64;
        }
    }
}

//! Which rows are in which file, in what order.

use std::fmt;
use std::io;

use crate::sensor::columns::Columns;
use crate::sensor::rows::{BLOCK_ROWS, RowGenerator};
use crate::sensor::{SensorTable, SortedRows};

/// The order of the rows, and so what a reader can skip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// In the order in which they were drawn: every row group has all days and devices in it.
    #[default]
    Unsorted,
    /// By device, then time: a row group has few devices.
    ByDevice,
    /// A folder for each date, as Hive has it: `date=2024-01-01/part-00000.parquet`; in it as drawn.
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
    /// Days from the first day to its date, where it has one date.
    pub day: Option<u32>,
    /// Its number, of its date's where it has one.
    pub number: u64,
    /// Rows.
    pub rows: u64,
    /// Rows before it in the order of the layout.
    pub(crate) first_row: u64,
}

impl SensorTable<'_> {
    /// The files of a table as drawn.
    pub fn parts(&self) -> Vec<Part> {
        self.parts_of(None, 0, self.rows)
    }

    /// The files of `rows` rows that follow the first `first_row` rows, all of `day` if it is given.
    pub(crate) fn parts_of(&self, day: Option<u32>, first_row: u64, rows: u64) -> Vec<Part> {
        let part = |number| {
            let before = number * self.chunk_rows;
            let rows = self.chunk_rows.min(rows - before);
            Part { day, number, rows, first_row: first_row + before }
        };
        (0..rows.div_ceil(self.chunk_rows)).map(part).collect()
    }

    /// Rows by their numbers.
    pub fn generate(&self, first_row: u64, rows: u64) -> Columns {
        let mut maker = Maker::new(self);
        maker.generate(first_row, rows);
        maker.rows
    }

    /// Rows of the table in a block: all of the block, except in the last one.
    pub(crate) fn rows_of(&self, block: u64) -> usize {
        (self.rows - block * BLOCK_ROWS as u64).min(BLOCK_ROWS as u64) as usize
    }
}

/// Makes the rows of files, one file after the other, in memory that it uses again.
pub struct Maker<'a> {
    generator: RowGenerator<'a>,
    rows: Columns,
}

impl<'a> Maker<'a> {
    /// For files of `table`.
    pub fn new(table: &'a SensorTable<'a>) -> Maker<'a> {
        Maker { generator: RowGenerator::new(table), rows: Columns::default() }
    }

    /// The rows of a file: from `sorted`, or drawn if the layout is as drawn and nothing is sorted.
    ///
    /// # Errors
    ///
    /// That of the operating system if the sorted rows cannot be read.
    pub fn rows(&mut self, part: &Part, sorted: Option<&SortedRows>) -> io::Result<&Columns> {
        match sorted {
            Some(sorted) => sorted.read(part.first_row, part.rows, &mut self.rows)?,
            None => self.generate(part.first_row, part.rows),
        }
        Ok(&self.rows)
    }

    /// Rows by their numbers.
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

//! Which rows are in which file, in what order; and files, one after the other, in bounded memory.
//!
//! Rows as drawn are at hand in any part. For another order, a [`Pass`] draws the whole table again,
//! keeps the rows of the files that are its own, and orders those. Drawing is the quickest of all
//! steps, so that costs less than keeping a large table somewhere, in memory or on a disk, as long
//! as the passes are few: there is one for each [`PASS_ROWS`] rows.

use std::fmt;
use std::ops::Range;
use std::thread;

use polars::prelude::PolarsError;

use crate::columns::{Codes, Columns};
use crate::draw::{BLOCK_ROWS, Drawing};
use crate::{DAYS, SEGMENTS_PER_DAY, SensorTable, encode};

/// Rows that a pass keeps, at most, or those of one file: 26 MB, and as much again in order.
pub const PASS_ROWS: u64 = 1_000_000;

/// The order of the rows, and so what a reader can skip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// In the order in which they were drawn: every row group has all days and devices in it.
    #[default]
    AsDrawn,
    /// By device, then time: a row group has few devices.
    ByDevice,
    /// A folder for each date, as Hive has it: `date=2024-01-01/part-00000.parquet`; in it as drawn.
    ByDate,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::AsDrawn => "as-drawn",
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
    /// Rows before it in the whole table's order.
    first_row: u64,
}

/// Files that are made together.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The files, in order.
    pub parts: Vec<Part>,
    /// The groups that have rows in them: devices or days. Nothing as drawn.
    groups: Range<u16>,
    /// Rows of the whole table's order before the first of these groups.
    rows_before: u64,
    /// Rows in these groups.
    group_rows: u64,
}

impl SensorTable<'_> {
    /// The files, in passes that do not depend on each other. Counts rows with `threads` threads.
    pub fn passes(&self, threads: usize) -> Vec<Pass> {
        let parts_of = |day: Option<u32>, first_row: u64, rows: u64| {
            (0..rows.div_ceil(self.chunk_rows)).map(move |number| {
                let before = number * self.chunk_rows;
                let rows = self.chunk_rows.min(rows - before);
                Part { day, number, rows, first_row: first_row + before }
            })
        };
        let whole = parts_of(None, 0, self.rows);
        let alone = |part| Pass { parts: vec![part], groups: 0..0, rows_before: 0, group_rows: 0 };
        let (counts, parts): (Vec<u64>, Vec<Part>) = match self.layout {
            Layout::AsDrawn => return whole.map(alone).collect(),
            Layout::ByDevice => (self.counts(threads), whole.collect()),
            Layout::ByDate => {
                let counts = self.counts(threads);
                let mut first_row = 0;
                let parts = counts.iter().zip(0..).flat_map(|(&rows, day)| {
                    first_row += rows;
                    parts_of(Some(day), first_row - rows, rows)
                });
                let parts = parts.collect();
                (counts, parts)
            }
        };
        let mut passes: Vec<Pass> = Vec::new();
        let mut rows = u64::MAX;
        for part in parts {
            rows = rows.saturating_add(part.rows);
            match passes.last_mut() {
                Some(pass) if rows <= PASS_ROWS => pass.parts.push(part),
                _ => {
                    rows = part.rows;
                    passes.push(alone(part));
                }
            }
        }
        let mut before = vec![0; counts.len() + 1];
        for (group, rows) in counts.iter().enumerate() {
            before[group + 1] = before[group] + rows;
        }
        for pass in &mut passes {
            let (first, last) = (&pass.parts[0], &pass.parts[pass.parts.len() - 1]);
            let start = before.partition_point(|&rows| rows <= first.first_row) - 1;
            let end = before.partition_point(|&rows| rows < last.first_row + last.rows);
            pass.groups = start as u16..end as u16;
            pass.rows_before = before[start];
            pass.group_rows = before[end] - before[start];
        }
        passes
    }

    /// Rows by their numbers.
    pub fn drawn(&self, first_row: u64, rows: u64) -> Columns {
        let mut maker = Maker::new(self);
        maker.draw(first_row, rows);
        maker.rows
    }

    /// Rows of each group.
    fn counts(&self, threads: usize) -> Vec<u64> {
        let groups = if self.layout == Layout::ByDate { DAYS as usize } else { self.wearers.len() };
        let blocks = self.rows.div_ceil(BLOCK_ROWS as u64);
        let threads = threads.max(1) as u64;
        let count = |thread: u64| {
            let mut counts = vec![0; groups];
            let mut drawing = Drawing::new(self);
            for block in (thread..blocks).step_by(threads as usize) {
                let rows = self.rows_of(block);
                let (wearers, segments) = drawing.wearers_and_segments(block);
                for (&wearer, &segment) in wearers.iter().zip(segments).take(rows) {
                    counts[self.group(wearer, segment) as usize] += 1;
                }
            }
            counts
        };
        let mut all = vec![0; groups];
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || count(n))).collect();
            for thread in running {
                let counts = thread.join().expect("counting does not panic");
                all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
            }
        });
        all
    }

    /// Rows of the table in a block: all of it, but for the last one.
    fn rows_of(&self, block: u64) -> usize {
        (self.rows - block * BLOCK_ROWS as u64).min(BLOCK_ROWS as u64) as usize
    }

    /// Device or day of a row, by what the table is ordered by.
    fn group(&self, wearer: u16, segment: u16) -> u16 {
        match self.layout {
            Layout::ByDate => segment / SEGMENTS_PER_DAY as u16,
            _ => wearer,
        }
    }
}

/// Makes files, with room of its own that it uses again.
pub struct Maker<'a> {
    table: &'a SensorTable<'a>,
    drawing: Drawing<'a>,
    rows: Columns,
}

impl<'a> Maker<'a> {
    /// For files of `table`.
    pub fn new(table: &'a SensorTable<'a>) -> Maker<'a> {
        Maker { table, drawing: Drawing::new(table), rows: Columns::default() }
    }

    /// Makes the files of `pass`, and gives each with its bytes to `take`, in order.
    ///
    /// # Errors
    ///
    /// That of `take`, or polars' where it cannot encode a file.
    pub fn make<E: From<PolarsError>>(
        &mut self,
        pass: &Pass,
        mut take: impl FnMut(&Part, Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = &pass.parts[0];
        let mut start = match self.table.layout {
            Layout::AsDrawn => {
                self.draw(first.first_row, first.rows);
                0
            }
            Layout::ByDevice | Layout::ByDate => {
                self.draw_in_order(pass);
                (first.first_row - pass.rows_before) as usize
            }
        };
        for part in &pass.parts {
            take(part, encode::parquet(self.table, &self.rows, start, part.rows as usize)?)?;
            start += part.rows as usize;
        }
        Ok(())
    }

    /// Rows by their numbers.
    fn draw(&mut self, first_row: u64, rows: u64) {
        self.rows.clear();
        self.rows.reserve(rows as usize);
        let (mut row, end) = (first_row, first_row + rows);
        while row < end {
            let start = (row % BLOCK_ROWS as u64) as usize;
            let count = (BLOCK_ROWS - start).min((end - row) as usize);
            let rows = start..start + count;
            self.drawing.append(row / BLOCK_ROWS as u64, rows, |_, _| true, &mut self.rows);
            row += count as u64;
        }
    }

    /// The rows of the pass's groups, in the table's order.
    fn draw_in_order(&mut self, pass: &Pass) {
        let table = self.table;
        let mut kept = Columns::default();
        kept.reserve(pass.group_rows as usize);
        let wanted = |wearer, segment| pass.groups.contains(&table.group(wearer, segment));
        for block in 0..table.rows.div_ceil(BLOCK_ROWS as u64) {
            self.drawing.append(block, 0..table.rows_of(block), wanted, &mut kept);
        }
        let (wearers, segments) = (kept.codes(Codes::Wearer), kept.codes(Codes::Segment));
        // The group, then the time in a device's rows, then the order as drawn.
        let key = |place: u32| {
            let segment = segments[place as usize];
            let group = table.group(wearers[place as usize], segment);
            let time = if table.layout == Layout::ByDevice { segment } else { 0 };
            (u64::from(group) << 48) | (u64::from(time) << 32) | u64::from(place)
        };
        let mut keys: Vec<u64> = (0..kept.len() as u32).map(key).collect();
        keys.sort_unstable();
        let places: Vec<u32> = keys.iter().map(|&key| key as u32).collect();
        drop(keys);
        self.rows.clear();
        self.rows.reserve(places.len());
        self.rows.extend_by(&kept, &places);
    }
}

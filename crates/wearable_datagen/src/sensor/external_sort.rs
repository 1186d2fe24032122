//! An external sort: rows in another order than they are drawn in, in bounded memory.
//!
//! 1. Every row is drawn once, in batches of [`BATCH_ROWS`] rows ([`Buckets::generate`]), and appended to
//!    the temporary file of its bucket ([`Buckets::append`]). A bucket is a date, or a range of devices
//!    and times with about as many rows as a batch.
//! 2. Buckets of devices are sorted in memory and written back ([`Buckets::sort`]). Rows of a date stay
//!    as drawn.
//! 3. The buckets, one after the other, are now the table in the order of its layout, and files are
//!    made from any stretch of it ([`SortedRows`]).
//!
//! So the time grows with the rows, and the memory does not. The temporary files take
//! [`ROW_BYTES`] for each row.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::sensor::columns::{Codes, Columns, Row, WIDTH};
use crate::sensor::rows::{BLOCK_ROWS, RowGenerator};
use crate::sensor::{DAYS, Layout, Part, SEGMENTS, SEGMENTS_PER_DAY, SensorTable};

/// Rows of a batch, and of a bucket of devices: whole blocks, and 13 MB.
pub const BATCH_ROWS: u64 = 125 * BLOCK_ROWS as u64;
/// Bytes of a row in a temporary file.
pub const ROW_BYTES: u64 = 2 * WIDTH as u64;

/// Rows of one batch, by bucket, in the order in which they were drawn.
pub type Batch = Vec<Vec<Row>>;

/// Temporary files that rows are sorted in.
pub struct Buckets<'a> {
    table: &'a SensorTable<'a>,
    directory: PathBuf,
    count: u64,
    /// Buckets for each key, times 2³².
    buckets_a_key: u64,
}

impl<'a> Buckets<'a> {
    /// For the rows of `table`, in files of `directory`, which is there and empty.
    pub fn new(table: &'a SensorTable<'a>, directory: &Path) -> Buckets<'a> {
        let count = match table.layout {
            Layout::ByDate => DAYS.into(),
            _ => table.rows.div_ceil(BATCH_ROWS).clamp(1, keys(table)),
        };
        let buckets_a_key = (count << 32) / keys(table);
        Buckets { table, directory: directory.to_owned(), count, buckets_a_key }
    }

    /// Number of buckets.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Number of batches.
    pub fn batches(&self) -> u64 {
        self.table.rows.div_ceil(BATCH_ROWS)
    }

    /// Draws a batch.
    pub fn generate(&self, batch: u64) -> Batch {
        let (mut generator, mut rows) = (RowGenerator::new(self.table), Columns::default());
        // Somewhat more than on average, so that a bucket seldom has to grow.
        let average = BATCH_ROWS.min(self.table.rows) / self.count;
        let with_room = || Vec::with_capacity((average + average / 16 + 16) as usize);
        let mut buckets: Batch = (0..self.count).map(|_| with_room()).collect();
        let blocks_to_a_batch = BATCH_ROWS / BLOCK_ROWS as u64;
        let first = batch * blocks_to_a_batch;
        let end = self.table.rows.div_ceil(BLOCK_ROWS as u64).min(first + blocks_to_a_batch);
        for block in first..end {
            rows.clear();
            generator.append(block, 0..self.table.rows_of(block), &mut rows);
            for row in rows.rows() {
                buckets[self.bucket_of(&row)].push(row);
            }
        }
        buckets
    }

    /// Appends the bucket's rows of `batches`, which follow each other, to its file. Any thread may do
    /// that, each bucket on one at a time.
    ///
    /// # Errors
    ///
    /// That of the operating system if the file cannot be written.
    pub fn append(&self, bucket: usize, batches: &[Batch]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.file(bucket))?;
        batches.iter().try_for_each(|batch| write(&mut file, &batch[bucket]))
    }

    /// Sorts a bucket, in memory. Any thread may do that.
    ///
    /// # Errors
    ///
    /// That of the operating system if the file cannot be read or written.
    pub fn sort(&self, bucket: usize) -> io::Result<()> {
        if self.table.layout == Layout::ByDate {
            return Ok(());
        }
        let rows = self.rows(bucket)?;
        let mut drawn = vec![Row::default(); rows as usize];
        if rows > 0 {
            read(&mut File::open(self.file(bucket))?, &mut drawn)?;
        }
        // Rows of the same device and time stay as drawn.
        let keys = drawn.iter().zip(0u64..).map(|(row, place)| (key(row) << 32) | place);
        let mut keys: Vec<u64> = keys.collect();
        keys.sort_unstable();
        let sorted: Vec<Row> = keys.iter().map(|&key| drawn[key as u32 as usize]).collect();
        write(&mut File::create(self.file(bucket))?, &sorted)
    }

    /// The table's rows in order, once all are drawn and every bucket is sorted.
    ///
    /// # Errors
    ///
    /// That of the operating system if the files cannot be found.
    pub fn finish(self) -> io::Result<SortedRows<'a>> {
        let mut starts = vec![0];
        for bucket in 0..self.count() {
            starts.push(starts[bucket] + self.rows(bucket)?);
        }
        match starts.last() {
            Some(&rows) if rows == self.table.rows => Ok(SortedRows { buckets: self, starts }),
            _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "temporary files lack rows")),
        }
    }

    /// Rows of a bucket's file.
    fn rows(&self, bucket: usize) -> io::Result<u64> {
        match self.file(bucket).metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            metadata => Ok(metadata?.len() / ROW_BYTES),
        }
    }

    fn file(&self, bucket: usize) -> PathBuf {
        self.directory.join(format!("bucket-{bucket:05}"))
    }

    /// The bucket of a row. Devices and times are drawn uniformly, so equal ranges of them have about
    /// equally many rows.
    fn bucket_of(&self, row: &Row) -> usize {
        match self.table.layout {
            Layout::ByDate => usize::from(row[Codes::Segment as usize]) / SEGMENTS_PER_DAY as usize,
            // A range of keys, without a division.
            _ => ((key(row) * self.buckets_a_key) >> 32) as usize,
        }
    }
}

/// The order by device and time, as a number.
fn key(row: &Row) -> u64 {
    u64::from(row[Codes::User as usize]) * u64::from(SEGMENTS)
        + u64::from(row[Codes::Segment as usize])
}

/// Different [`key`]s of a table.
fn keys(table: &SensorTable) -> u64 {
    table.users.len() as u64 * u64::from(SEGMENTS)
}

/// All rows of a table in the order of its layout.
pub struct SortedRows<'a> {
    buckets: Buckets<'a>,
    /// Rows before each bucket, and at the end all of them.
    starts: Vec<u64>,
}

impl SortedRows<'_> {
    /// The files of the table.
    pub fn parts(&self) -> Vec<Part> {
        let table = self.buckets.table;
        match table.layout {
            Layout::ByDate => {
                let days = self.starts.windows(2).zip(0..);
                days.flat_map(|(ends, day)| table.parts_of(Some(day), ends[0], ends[1] - ends[0]))
                    .collect()
            }
            _ => table.parts(),
        }
    }

    /// Reads `count` rows that follow the first `start` rows, into `to` alone.
    pub(crate) fn read(&self, start: u64, count: u64, to: &mut Columns) -> io::Result<()> {
        to.clear();
        to.reserve(count as usize);
        let (mut start, end) = (start, start + count);
        let mut rows = vec![Row::default(); BLOCK_ROWS];
        while start < end {
            let bucket = self.starts.partition_point(|&before| before <= start) - 1;
            let mut file = File::open(self.buckets.file(bucket))?;
            file.seek(SeekFrom::Start((start - self.starts[bucket]) * ROW_BYTES))?;
            while start < end.min(self.starts[bucket + 1]) {
                let left = end.min(self.starts[bucket + 1]) - start;
                let rows = &mut rows[..left.min(BLOCK_ROWS as u64) as usize];
                read(&mut file, rows)?;
                to.extend(rows);
                start += rows.len() as u64;
            }
        }
        Ok(())
    }
}

/// Writes rows into a temporary file, some at a time.
fn write(file: &mut File, rows: &[Row]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(rows.len().min(BLOCK_ROWS) * ROW_BYTES as usize);
    for rows in rows.chunks(BLOCK_ROWS) {
        bytes.resize(rows.len() * ROW_BYTES as usize, 0);
        for (bytes, code) in bytes.chunks_exact_mut(2).zip(rows.as_flattened()) {
            bytes.copy_from_slice(&code.to_le_bytes());
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads rows of a temporary file, some at a time, until `rows` is full.
fn read(file: &mut File, rows: &mut [Row]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(rows.len().min(BLOCK_ROWS) * ROW_BYTES as usize);
    for rows in rows.chunks_mut(BLOCK_ROWS) {
        bytes.resize(rows.len() * ROW_BYTES as usize, 0);
        file.read_exact(&mut bytes)?;
        for (bytes, code) in bytes.chunks_exact(2).zip(rows.as_flattened_mut()) {
            *code = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
    }
    Ok(())
}

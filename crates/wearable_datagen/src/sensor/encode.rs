//! Encodes codes as a Parquet file.
//!
//! Each row group has a sorted dictionary of its values, and indices into it. The statistics are
//! therefore exact, and a code's index needs no hash lookup. The indices are random bits that snappy
//! cannot compress and skips quickly.
//!
//! polars writes the dictionary page, the statistics and the file. This module packs the indices from
//! the codes directly, without an intermediate array of indices.

use polars::prelude::{PolarsError, PolarsResult};
use polars_arrow::array::{
    Array, DictionaryArray, Float64Array, Int64Array, PrimitiveArray, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, IntegerType, TimeUnit};
use polars_parquet::parquet::CowBuffer;
use polars_parquet::parquet::error::ParquetError;
use polars_parquet::parquet::page::{DataPage, DataPageHeader};
use polars_parquet::write::{
    CompressionOptions, Compressor, Descriptor, DynIter, DynStreamingIterator, Encoding,
    FallibleStreamingIterator, FileWriter, Page, ParquetType, StatisticsOptions, Version,
    WriteOptions, array_to_columns, write_def_levels,
};

use crate::sensor::SensorTable;
use crate::sensor::columns::{COLUMNS, Codes, Columns, Meaning};

const MINUTE_US: i64 = 60_000_000;
const OPTIONS: WriteOptions = WriteOptions {
    statistics: StatisticsOptions {
        min_value: true,
        max_value: true,
        distinct_count: false,
        null_count: true,
        binary_statistics_truncate_length: None,
    },
    version: Version::V1,
    compression: CompressionOptions::Snappy,
    data_page_size: None,
};
/// Columns are declared nullable, as in files that polars writes.
const IS_NULLABLE: bool = true;

/// Encodes the rows of `columns` as a Parquet file.
///
/// # Errors
///
/// polars' error if it cannot encode them.
pub fn parquet(table: &SensorTable, columns: &Columns) -> PolarsResult<Vec<u8>> {
    let bytes = Vec::with_capacity(columns.len() * BYTES_A_ROW);
    let mut writer = FileWriter::try_new(bytes, schema(), OPTIONS)?;
    let fields = writer.parquet_schema().fields().to_vec();
    let mut from = 0;
    while from < columns.len() {
        let rows = table.row_group_rows.min(columns.len() - from);
        // A segment's start and end have the same codes, and so the same dictionary.
        let mut previous: Option<(Codes, Dictionary)> = None;
        let pages = COLUMNS.iter().zip(&fields).map(|((_, codes, meaning), field)| {
            let dictionary = match previous.take() {
                Some((of, dictionary)) if of == *codes => dictionary,
                _ => Dictionary::of(&columns.codes(*codes)[from..from + rows]),
            };
            let pages = dictionary.pages(*meaning, table.first_day, field)?;
            previous = Some((*codes, dictionary));
            let pages = pages.into_iter().map(Ok);
            let compressed = Compressor::new(pages, OPTIONS.compression, Vec::new());
            Ok(DynStreamingIterator::new(compressed.map_err(encoding_failed)))
        });
        let pages: Vec<PolarsResult<_>> = pages.collect();
        writer.write(rows as u64, DynIter::new(pages.into_iter()))?;
        from += rows;
    }
    writer.end(None)?;
    Ok(writer.into_inner())
}

fn encoding_failed(error: ParquetError) -> PolarsError {
    PolarsError::ComputeError(error.to_string().into())
}

/// Approximate size of a row in a file of many rows.
const BYTES_A_ROW: usize = 22;

fn schema() -> ArrowSchema {
    let fields = COLUMNS.map(|(name, _, meaning)| {
        let dtype = match meaning {
            Meaning::Device => ArrowDataType::Utf8View,
            Meaning::Time { .. } => ArrowDataType::Timestamp(TimeUnit::Microsecond, None),
            Meaning::Int => ArrowDataType::Int64,
            Meaning::Decimal { .. } => ArrowDataType::Float64,
        };
        Field::new(name.into(), dtype, IS_NULLABLE)
    });
    ArrowSchema::from_iter(fields)
}

/// The codes of a row group as a dictionary and indices.
struct Dictionary {
    /// The distinct codes, in ascending order.
    occurring: Vec<u16>,
    /// The body of the rows' page: indices into `occurring`.
    page: Vec<u8>,
    rows: usize,
}

impl Dictionary {
    fn of(codes: &[u16]) -> Dictionary {
        let codes_below = codes.iter().max().map_or(0, |&most| most as usize + 1);
        let mut index = vec![0u16; codes_below];
        for &code in codes {
            index[code as usize] = 1;
        }
        let mut occurring = Vec::new();
        for (code, index) in index.iter_mut().enumerate().filter(|(_, index)| **index == 1) {
            *index = occurring.len() as u16;
            occurring.push(code as u16);
        }
        let mut page = Vec::with_capacity(2 * codes.len() + 64);
        write_def_levels(&mut page, IS_NULLABLE, None, codes.len(), OPTIONS.version)
            .expect("writing to a Vec cannot fail");
        write_indices(codes, &index, occurring.len(), &mut page);
        Dictionary { occurring, page, rows: codes.len() }
    }

    /// The dictionary page and the page of the rows.
    fn pages(
        &self,
        meaning: Meaning,
        first_day: i32,
        field: &ParquetType,
    ) -> PolarsResult<Vec<Page>> {
        // Each value once, from which polars creates the dictionary page and the statistics.
        let values = self.values(meaning, first_day);
        let dtype =
            ArrowDataType::Dictionary(IntegerType::UInt16, values.dtype().clone().into(), false);
        let keys = PrimitiveArray::from_vec((0..self.occurring.len() as u16).collect());
        let each = DictionaryArray::try_new(dtype, keys, values)?.boxed();
        let column =
            array_to_columns(each, field.clone(), OPTIONS, &[Encoding::RleDictionary])?.remove(0);
        let mut pages = Vec::with_capacity(2);
        for page in column {
            pages.push(match page? {
                Page::Data(page) => {
                    let DataPageHeader::V1(mut header) = page.header().clone() else {
                        unreachable!("the options request version 1")
                    };
                    header.num_values = self.rows as i32;
                    let ParquetType::PrimitiveType(primitive_type) = field.clone() else {
                        unreachable!("no column is nested")
                    };
                    let descriptor =
                        Descriptor { primitive_type, max_def_level: 0, max_rep_level: 0 };
                    let buffer = CowBuffer::Owned(self.page.clone());
                    let header = DataPageHeader::V1(header);
                    Page::Data(DataPage::new(header, buffer, descriptor, self.rows))
                }
                dictionary => dictionary,
            });
        }
        Ok(pages)
    }

    fn values(&self, meaning: Meaning, first_day: i32) -> Box<dyn Array> {
        let codes = self.occurring.iter().map(|&code| i64::from(code));
        match meaning {
            Meaning::Device => {
                let names: Vec<String> = codes.map(device_id).collect();
                Utf8ViewArray::from_slice_values(names).boxed()
            }
            Meaning::Time { minutes_later } => {
                let first = i64::from(first_day) * 24 * 60 + minutes_later;
                let minutes =
                    codes.map(|code| first + code * i64::from(crate::sensor::SEGMENT_MINUTES));
                let times = Int64Array::from_vec(minutes.map(|m| m * MINUTE_US).collect());
                times.to(ArrowDataType::Timestamp(TimeUnit::Microsecond, None)).boxed()
            }
            Meaning::Int => Int64Array::from_vec(codes.collect()).boxed(),
            Meaning::Decimal { scale } => {
                Float64Array::from_vec(codes.map(|code| code as f64 / scale).collect()).boxed()
            }
        }
    }
}

/// Appends the indices of `codes` to `page`, in Parquet's hybrid of run-length and bit-packed encoding:
/// <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.
///
/// Random indices become one bit-packed run. Codes that rarely change become run-length runs.
fn write_indices(codes: &[u16], index: &[u16], occurring: usize, page: &mut Vec<u8>) {
    let width = usize::BITS - occurring.saturating_sub(1).leading_zeros();
    page.push(width as u8);
    let changes = codes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if 16 * changes < codes.len() {
        for run in codes.chunk_by(|a, b| a == b) {
            write_varint(page, (run.len() as u64) << 1);
            let value = u32::from(index[run[0] as usize]).to_le_bytes();
            page.extend_from_slice(&value[..width.div_ceil(8) as usize]);
        }
        return;
    }
    // Groups of eight. The last group is padded with zeros.
    let groups = codes.len().div_ceil(8);
    write_varint(page, (groups as u64) << 1 | 1);
    let end = page.len() + groups * width as usize;
    let (mut bits, mut held) = (0u64, 0);
    for &code in codes {
        bits |= u64::from(index[code as usize]) << held;
        held += width;
        if held >= 32 {
            page.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            held -= 32;
        }
    }
    page.extend_from_slice(&bits.to_le_bytes()[..held.div_ceil(8) as usize]);
    page.resize(end, 0);
}

/// Writes an unsigned LEB128 number: groups of seven bits, the lowest first.
fn write_varint(page: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        page.push(number as u8 | 0x80);
        number >>= 7;
    }
    page.push(number as u8);
}

/// Formats 12 as `DEV-00012`.
pub fn device_id(number: i64) -> String {
    format!("DEV-{number:05}")
}

//! Codes as a Parquet file.
//!
//! Each row group has a dictionary of the values that occur in it, in their order, and numbers into it.
//! So the statistics are exact, and nothing has to be looked up: a code's place is known. The numbers
//! are random bits and compress to nothing less; snappy passes over such bytes quickly.

use polars::prelude::PolarsResult;
use polars_arrow::array::{
    Array, DictionaryArray, Float64Array, Int64Array, PrimitiveArray, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field, IntegerType, TimeUnit};
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, StatisticsOptions, Version, WriteOptions,
    row_group_iter,
};

use crate::SensorTable;
use crate::columns::{COLUMNS, Codes, Columns, Meaning};

const MINUTE_US: i64 = 60_000_000;

/// The rows of `columns`, from `start` on, `count` of them, as the bytes of a Parquet file.
///
/// # Errors
///
/// polars' error where it cannot encode them.
pub fn parquet(
    table: &SensorTable,
    columns: &Columns,
    start: usize,
    count: usize,
) -> PolarsResult<Vec<u8>> {
    let options = WriteOptions {
        statistics: StatisticsOptions { distinct_count: false, ..StatisticsOptions::full() },
        version: Version::V1,
        compression: CompressionOptions::Snappy,
        data_page_size: None,
    };
    let schema = schema();
    let encodings: Vec<_> = COLUMNS.iter().map(|_| vec![Encoding::RleDictionary]).collect();
    let bytes = Vec::with_capacity(count * BYTES_A_ROW);
    let mut writer = FileWriter::try_new(bytes, schema.clone(), options)?;
    let fields = writer.parquet_schema().fields().to_vec();
    let mut from = start;
    while from < start + count {
        let rows = table.row_group_rows.min(start + count - from);
        let arrays = row_group(table, columns, from, rows)?;
        let batch = RecordBatchT::new(rows, schema.clone().into(), arrays);
        let group = row_group_iter(batch, encodings.clone().into(), fields.clone(), options);
        writer.write(rows as u64, group)?;
        from += rows;
    }
    writer.end(None)?;
    Ok(writer.into_inner())
}

/// What a row takes in a file of many rows, about.
const BYTES_A_ROW: usize = 22;

fn schema() -> ArrowSchema {
    let fields = COLUMNS.map(|(name, _, meaning)| {
        let dtype = match meaning {
            Meaning::Device => ArrowDataType::Utf8View,
            Meaning::Time { .. } => ArrowDataType::Timestamp(TimeUnit::Microsecond, None),
            Meaning::Int => ArrowDataType::Int64,
            Meaning::Decimal { .. } => ArrowDataType::Float64,
        };
        Field::new(name.into(), dtype, true)
    });
    ArrowSchema::from_iter(fields)
}

fn row_group(
    table: &SensorTable,
    columns: &Columns,
    start: usize,
    rows: usize,
) -> PolarsResult<Vec<Box<dyn Array>>> {
    let mut arrays: Vec<Box<dyn Array>> = Vec::with_capacity(COLUMNS.len());
    let mut last: Option<(Codes, Dictionary)> = None;
    for (_, codes, meaning) in COLUMNS {
        // Start and end of a segment have the same codes.
        let dictionary = match last.take() {
            Some((of, dictionary)) if of == codes => dictionary,
            _ => Dictionary::of(&columns.codes(codes)[start..start + rows]),
        };
        arrays.push(dictionary.array(meaning, table.first_day)?);
        last = Some((codes, dictionary));
    }
    Ok(arrays)
}

/// Codes as numbers into the codes that occur.
struct Dictionary {
    /// The codes that occur, upwards.
    occurring: Vec<u16>,
    /// For each row, where its code is among them.
    keys: PrimitiveArray<u16>,
}

impl Dictionary {
    fn of(codes: &[u16]) -> Dictionary {
        let codes_below = codes.iter().max().map_or(0, |&most| most as usize + 1);
        let mut place = vec![0u16; codes_below];
        for &code in codes {
            place[code as usize] = 1;
        }
        let mut occurring = Vec::new();
        for (code, place) in place.iter_mut().enumerate().filter(|(_, place)| **place == 1) {
            *place = occurring.len() as u16;
            occurring.push(code as u16);
        }
        let keys: Vec<u16> = codes.iter().map(|&code| place[code as usize]).collect();
        Dictionary { occurring, keys: PrimitiveArray::from_vec(keys) }
    }

    fn array(&self, meaning: Meaning, first_day: i32) -> PolarsResult<Box<dyn Array>> {
        let codes = self.occurring.iter().map(|&code| i64::from(code));
        let values: Box<dyn Array> = match meaning {
            Meaning::Device => {
                let names: Vec<String> = codes.map(device_id).collect();
                Utf8ViewArray::from_slice_values(names).boxed()
            }
            Meaning::Time { minutes_later } => {
                let first = i64::from(first_day) * 24 * 60 + minutes_later;
                let minutes = codes.map(|code| first + code * i64::from(crate::SEGMENT_MINUTES));
                let times = Int64Array::from_vec(minutes.map(|m| m * MINUTE_US).collect());
                times.to(ArrowDataType::Timestamp(TimeUnit::Microsecond, None)).boxed()
            }
            Meaning::Int => Int64Array::from_vec(codes.collect()).boxed(),
            Meaning::Decimal { scale } => {
                Float64Array::from_vec(codes.map(|code| code as f64 / scale).collect()).boxed()
            }
        };
        let dtype =
            ArrowDataType::Dictionary(IntegerType::UInt16, Box::new(values.dtype().clone()), false);
        Ok(DictionaryArray::try_new(dtype, self.keys.clone(), values)?.boxed())
    }
}

/// `DEV-00012` for 12.
pub fn device_id(number: i64) -> String {
    format!("DEV-{number:05}")
}

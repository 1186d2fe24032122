//! Reads Parquet files that may be damaged. polars panics on some of them.

use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use polars::prelude::*;

use crate::error::{Error, Result};

/// Reads a whole Parquet file in this process.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened, [`Error::DamagedFile`] if it is not valid Parquet.
pub fn decode_parquet(path: &Path) -> Result<DataFrame> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let damaged = |reason: String| Error::DamagedFile { file: path.to_owned(), reason };
    let frame = without_panic(|| ParquetReader::new(file).finish());
    let frame = frame.map_err(|error| damaged(error.to_string()))?;
    // polars does not compare the number of rows with the footer.
    match frame.columns().iter().find(|column| column.len() != frame.height()) {
        Some(column) => Err(damaged(format!(
            "column {} has {} rows, and the footer {}",
            column.name(),
            column.len(),
            frame.height()
        ))),
        None => Ok(frame),
    }
}

/// Returns the number of rows in a Parquet file, from its footer.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be opened, [`Error::DamagedFile`] if it has no valid footer.
pub fn footer_rows(file: &Path) -> Result<usize> {
    let handle = File::open(file).map_err(Error::io("open", file))?;
    without_panic(|| {
        let mut reader = ParquetReader::new(handle);
        reader.schema()?;
        reader.num_rows()
    })
    .map_err(|error| Error::DamagedFile { file: file.to_owned(), reason: error.to_string() })
}

/// Returns the result of `read`, and an error instead of a panic: polars panics on some damaged
/// files.
///
/// The panic's message becomes the error and is not printed. An interrupt still unwinds.
pub fn without_panic<T>(read: impl FnOnce() -> PolarsResult<T>) -> Result<T, PolarsError> {
    thread_local!(static SILENT: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                others(info);
            }
        }));
    });
    let was_silent = SILENT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    SILENT.set(was_silent);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        if text.contains("__POLARS_ABORT_") {
            panic::resume_unwind(payload);
        }
        Err(polars_err!(ComputeError: "parquet: polars panicked ({text})"))
    })
}

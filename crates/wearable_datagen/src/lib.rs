//! Generates the synthetic wearable dataset as Parquet files.
//!
//! [`tables`] declares the three tables. [`users`] generates the users and their physiology,
//! [`sleep_diary`] their nights, [`sensor`] the five-minute segments that their devices record.
//! [`generate_dataset`] writes all of it into a directory.
//!
//! ```
//! use wearable_datagen::{GenerateOptions, Size, generate_dataset};
//!
//! # fn main() -> wearable_datagen::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let options = GenerateOptions::new(Size::Rows(1_000), folder.path());
//! let generated = generate_dataset(&options)?;
//! assert_eq!((generated.sensor_rows, generated.users), (1_000, 50));
//! # Ok(())
//! # }
//! ```
//!
//! This crate is compiled with full optimisation, and does not depend on notebooks.

#![warn(missing_docs)]

pub mod error;
pub mod generate;
pub mod metadata;
pub mod options;
pub mod sensor;
pub mod sleep_diary;
pub mod tables;
pub mod users;

pub use dataset_writer::{WrittenFile, free_bytes};
pub use error::{Error, Result};
pub use generate::{Generated, Progress, generate_dataset, generate_dataset_with_progress};
pub use metadata::Metadata;
pub use options::{GenerateOptions, Size};
pub use sensor::Layout;

/// Rounds half away from zero to `decimals` places.
pub(crate) fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

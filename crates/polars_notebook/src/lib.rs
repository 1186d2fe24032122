//! Shows polars frames, plans and charts in the cells of a Rust notebook, and writes results.
//!
//! # Show a frame in a cell
//!
//! The evcxr kernel calls [`EvcxrDisplay::evcxr_display`] for the last expression of a cell.
//!
//! ```
//! use polars::prelude::*;
//! use polars_notebook::{EvcxrDisplay, ensure, head};
//!
//! # fn main() -> polars_notebook::Result<()> {
//! let frame = df!["city" => ["Oslo", "Rome"], "degrees" => [4.5, 15.0]]?;
//! ensure(frame.height() == 2, "there are two cities")?;
//! head(&frame, 1).evcxr_display();
//! # Ok(())
//! # }
//! ```
//!
//! # Chart a frame
//!
//! ```
//! use polars::prelude::*;
//! use polars_notebook::Chart;
//!
//! # fn main() -> polars_notebook::Result<()> {
//! let frame = df!["city" => ["Oslo", "Rome"], "degrees" => [4.5, 15.0]]?;
//! let plot = Chart::bar(&frame, "city", "degrees").title("Mean temperature").plot()?;
//! assert!(plot.to_json().contains("Oslo"));
//! # Ok(())
//! # }
//! ```
//!
//! # Write a result
//!
//! A file appears under its name only when it is complete.
//!
//! ```
//! use polars::prelude::*;
//! use polars_notebook::files::{sink_parquet, scan_parquet_files};
//!
//! # fn main() -> polars_notebook::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("result.parquet");
//! sink_parquet(&df!["x" => [1, 2, 3]]?.lazy(), &path)?;
//! assert_eq!(scan_parquet_files(&path)?.collect()?.height(), 3);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod chart;
pub mod compare;
pub mod display;
pub mod ensure;
pub mod error;
pub mod exercise;
pub mod files;
pub mod interrupt;
mod platform;
pub mod progress;
pub mod queries;

pub use chart::Chart;
pub use compare::{frames_close, frames_equal};
pub use display::{EvcxrDisplay, head};
pub use ensure::ensure;
pub use error::{Error, Result};
pub use exercise::{Exercise, not_attempted};
pub use queries::{collect_all, set_sorted};

//! Replaces files and directories of a dataset completely or not at all.
//!
//! - [`FileStaging`] writes one result next to its target and renames it when it is complete.
//! - [`DatasetStaging`] does the same for a dataset of several files and directories. It holds a lock,
//!   checks the free space, and recovers from a writer that was killed.
//! - [`Checksums`] has a checksum of a whole Parquet file and one of its footer.
//!
//! ```
//! use dataset_writer::FileStaging;
//!
//! # fn main() -> dataset_writer::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let target = folder.path().join("result.txt");
//! let staging = FileStaging::next_to(&target)?;
//! std::fs::write(staging.path(), "complete").unwrap();
//! assert!(!target.exists());
//! staging.finish_file()?;
//! assert_eq!(std::fs::read_to_string(&target).unwrap(), "complete");
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod checksum;
mod dataset;
mod error;
mod path;
mod platform;
mod staging;
mod swap;

pub use checksum::{Checksums, file_checksum, footer_checksum};
pub use dataset::{DatasetFormat, DatasetStaging, Entry, WrittenFile, free_bytes, recover_dataset};
pub use error::{Error, IoError, Result, io_hint};
pub use path::{megabytes, short_path};
pub use staging::{FileStaging, recover};

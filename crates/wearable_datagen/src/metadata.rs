//! `generation_metadata.yaml`: the options of a dataset, and its files with their checksums. The
//! generator writes it, and scans read it.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use chrono::{DateTime, Local};

use dataset_writer::{Checksums, IoError, megabytes};

use crate::error::Result;
use crate::generate::Generated;
use crate::options::{GenerateOptions, Size};
use crate::tables::METADATA_FILE;

/// The text of the metadata file.
pub(crate) fn yaml(
    options: &GenerateOptions,
    started: DateTime<Local>,
    generated: &Generated,
) -> String {
    let preset = match options.size {
        Size::Small => "small",
        Size::Large => "large",
        Size::Rows(_) => "rows",
    };
    let mut text = format!(
        "generated_at: {}\nsize: {preset}\nseed: {}\nchunk_rows: {}\nrow_group_rows: {}\nlayout: {}\ntarget_sensor_rows: {}\nactual_sensor_rows: {}\nusers: {}\ndays: {}\noutputs:\n",
        started.to_rfc3339(),
        options.seed,
        options.chunk_rows,
        options.row_group_rows,
        options.layout,
        options.size.rows(),
        generated.sensor_rows,
        generated.users,
        generated.days,
    );
    for file in &generated.files {
        let path = file.path.strip_prefix(&options.output_dir).unwrap_or(&file.path);
        let (path, megabytes) = (path.display(), megabytes(file.bytes));
        let Checksums { file: crc32, footer } = file.crc32;
        text += &format!(
            "  - path: {path}\n    size_mb: {megabytes:.3}\n    crc32: {crc32:08x}\n    footer_crc32: {footer:08x}\n"
        );
    }
    text
}

/// The part of the metadata that scans use. None for missing entries.
#[derive(Debug, Default)]
pub struct Metadata {
    /// Number of users.
    pub users: Option<u64>,
    /// Number of rows of sensor_hrv.
    pub sensor_rows: Option<u64>,
    /// Checksums (whole file, footer) by path, relative to the dataset's directory.
    files: HashMap<String, (Option<u32>, Option<u32>)>,
}

impl Metadata {
    /// Reads the metadata of the dataset in `data`. None if it has no metadata.
    pub fn read(data: &Path) -> Result<Option<Metadata>> {
        let path = data.join(METADATA_FILE);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IoError::at("read", &path)(error).into()),
            Ok(bytes) => Ok(Some(Metadata::parse(&String::from_utf8_lossy(&bytes)))),
        }
    }

    fn parse(text: &str) -> Metadata {
        let mut metadata = Metadata::default();
        let mut path = String::new();
        let hexadecimal = |value: &str| u32::from_str_radix(value, 16).ok();
        for line in text.lines() {
            let Some((key, value)) = line.trim_start().split_once(": ") else { continue };
            match key {
                "users" => metadata.users = value.parse().ok(),
                "actual_sensor_rows" => metadata.sensor_rows = value.parse().ok(),
                "- path" => {
                    path = value.to_owned();
                    metadata.files.insert(path.clone(), (None, None));
                }
                "crc32" => metadata.files.entry(path.clone()).or_default().0 = hexadecimal(value),
                "footer_crc32" => {
                    metadata.files.entry(path.clone()).or_default().1 = hexadecimal(value);
                }
                _ => {}
            }
        }
        metadata
    }

    /// Paths of the listed files, relative to the dataset's directory.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The checksum of the whole file at `path`, relative to the dataset's directory.
    pub fn file_checksum(&self, path: &Path) -> Option<u32> {
        self.files.get(path.to_str()?)?.0
    }

    /// The checksum of the footer of the file at `path`.
    pub fn footer_checksum(&self, path: &Path) -> Option<u32> {
        self.files.get(path.to_str()?)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_write_and_read() {
        let text = "users: 50\nactual_sensor_rows: 7\noutputs:\n  - path: sensor_hrv/part-00000.parquet\n    size_mb: 0.001\n    crc32: 0000abcd\n    footer_crc32: 12345678\n  - path: a\n";
        let metadata = Metadata::parse(text);
        assert_eq!((metadata.users, metadata.sensor_rows), (Some(50), Some(7)));
        let part = Path::new("sensor_hrv/part-00000.parquet");
        assert_eq!(
            (metadata.file_checksum(part), metadata.footer_checksum(part)),
            (Some(0xabcd), Some(0x1234_5678))
        );
        assert_eq!((metadata.paths().count(), metadata.file_checksum(Path::new("a"))), (2, None));
    }
}

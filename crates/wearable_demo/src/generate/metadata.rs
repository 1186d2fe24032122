//! `generation_metadata.yaml`: what a dataset is and how it was made, and its files with their
//! checksums. Written by the generator, and read by what looks at a dataset.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Local};

use super::options::{GenerateOptions, Size};
use super::write::{Generated, megabytes};
use crate::error::{Error, Result};
use crate::interrupt;

/// Name of the file.
pub(crate) const METADATA: &str = "generation_metadata.yaml";

/// At a Parquet file's end: the footer's length in 4 bytes, and `PAR1`.
const TAIL: u64 = 8;

/// Checksums of a file: CRC-32, as gzip and zip have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Of all its bytes.
    pub whole: u32,
    /// Of its footer, which says what is where, and is all that a look at a dataset reads.
    pub footer: u32,
}

impl Checksums {
    /// Of a Parquet file's bytes.
    pub(super) fn of(bytes: &[u8]) -> Checksums {
        let footer = &bytes[bytes.len() - footer_bytes(bytes).min(bytes.len() as u64) as usize..];
        Checksums { whole: crc32fast::hash(bytes), footer: crc32fast::hash(footer) }
    }
}

/// Bytes of the footer with the tail that `end`, the file's last bytes, has.
fn footer_bytes(end: &[u8]) -> u64 {
    let length = end
        .last_chunk::<8>()
        .map_or(0, |tail| u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    u64::from(length) + TAIL
}

/// The checksum of a file's footer, of its whole where the footer would be longer than that.
pub(crate) fn footer_checksum(path: &Path) -> Result<u32> {
    let read = || {
        let mut file = File::open(path)?;
        let all = file.metadata()?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(all.saturating_sub(TAIL)))?;
        file.read_to_end(&mut tail)?;
        file.seek(SeekFrom::Start(all.saturating_sub(footer_bytes(&tail))))?;
        checksum(file)
    };
    read().map_err(Error::io("read", path))
}

/// The checksum of a whole file.
pub(crate) fn whole_checksum(path: &Path) -> Result<u32> {
    File::open(path).and_then(checksum).map_err(Error::io("read", path))
}

fn checksum(mut file: File) -> std::io::Result<u32> {
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 16]);
    loop {
        interrupt::check();
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The file's text.
pub(super) fn yaml(
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
        let Checksums { whole, footer } = file.crc32;
        text += &format!(
            "  - path: {path}\n    size_mb: {megabytes:.3}\n    crc32: {whole:08x}\n    footer_crc32: {footer:08x}\n"
        );
    }
    text
}

/// What is read of the file; None for what it does not have.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub users: Option<u64>,
    pub sensor_rows: Option<u64>,
    /// Checksums by the files' paths in the dataset's directory.
    files: HashMap<String, (Option<u32>, Option<u32>)>,
}

impl Metadata {
    /// That of the dataset in `data`; None where it has none.
    pub(crate) fn read(data: &Path) -> Result<Option<Metadata>> {
        let path = data.join(METADATA);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
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

    /// Paths of the files that it names, in the dataset's directory.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The checksum of the file at `path` in the dataset's directory.
    pub(crate) fn whole(&self, path: &Path) -> Option<u32> {
        self.files.get(path.to_str()?)?.0
    }

    /// The checksum of its footer.
    pub(crate) fn footer(&self, path: &Path) -> Option<u32> {
        self.files.get(path.to_str()?)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = "users: 50\nactual_sensor_rows: 7\noutputs:\n  - path: sensor_hrv/part-00000.parquet\n    size_mb: 0.001\n    crc32: 0000abcd\n    footer_crc32: 12345678\n  - path: a\n";
        let metadata = Metadata::parse(text);
        assert_eq!((metadata.users, metadata.sensor_rows), (Some(50), Some(7)));
        let part = Path::new("sensor_hrv/part-00000.parquet");
        assert_eq!(
            (metadata.whole(part), metadata.footer(part)),
            (Some(0xabcd), Some(0x1234_5678))
        );
        assert_eq!((metadata.paths().count(), metadata.whole(Path::new("a"))), (2, None));
    }

    #[test]
    fn a_footer_is_as_long_as_the_tail_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let bytes = b"PAR1 pages and pages FOOTER\x06\x00\x00\x00PAR1";
        fs::write(&path, bytes).unwrap();
        let of = Checksums::of(bytes);
        assert_eq!(footer_checksum(&path).unwrap(), of.footer);
        assert_eq!(of.footer, crc32fast::hash(b"FOOTER\x06\x00\x00\x00PAR1"));
        assert_eq!(whole_checksum(&path).unwrap(), of.whole);
        // A tail that says more than there is, and files without one.
        for bytes in [&b"xx\xff\xff\xff\xffPAR1"[..], b"abc", b""] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(footer_checksum(&path).unwrap(), crc32fast::hash(bytes));
        }
    }
}

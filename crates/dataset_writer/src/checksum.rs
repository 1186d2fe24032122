//! Checksums of Parquet files and their footers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use polars_error::abort::try_raise_polars_abort;

use crate::error::{Error, Result};

/// Size of a Parquet file's tail: the footer's length in 4 bytes, and `PAR1`.
const TAIL: u64 = 8;

/// Checksums of a file (CRC-32, as in gzip and zip).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Checksum of the whole file.
    pub file: u32,
    /// Checksum of the footer. A scan compares it, because it reads only footers.
    pub footer: u32,
}

impl Checksums {
    /// Computes the checksums of a Parquet file's bytes.
    pub fn of(bytes: &[u8]) -> Checksums {
        let footer = &bytes[bytes.len() - footer_bytes(bytes).min(bytes.len() as u64) as usize..];
        Checksums { file: crc32fast::hash(bytes), footer: crc32fast::hash(footer) }
    }
}

/// The size of the footer with its tail, from the file's last bytes.
fn footer_bytes(end: &[u8]) -> u64 {
    let length = end
        .last_chunk::<8>()
        .map_or(0, |tail| u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    u64::from(length) + TAIL
}

/// Computes the checksum of a file's footer, or of the whole file if the footer's length is invalid.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read.
pub fn footer_checksum(path: &Path) -> Result<u32> {
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

/// Computes the checksum of a whole file.
///
/// # Errors
///
/// [`Error::Io`] if the file cannot be read.
pub fn file_checksum(path: &Path) -> Result<u32> {
    File::open(path).and_then(checksum).map_err(Error::io("read", path))
}

fn checksum(mut file: File) -> std::io::Result<u32> {
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 16]);
    loop {
        try_raise_polars_abort();
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn footer_has_the_length_in_the_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let bytes = b"PAR1 pages and pages FOOTER\x06\x00\x00\x00PAR1";
        fs::write(&path, bytes).unwrap();
        let of = Checksums::of(bytes);
        assert_eq!(footer_checksum(&path).unwrap(), of.footer);
        assert_eq!(of.footer, crc32fast::hash(b"FOOTER\x06\x00\x00\x00PAR1"));
        assert_eq!(file_checksum(&path).unwrap(), of.file);
        // A tail with a length beyond the file, and files without a tail.
        for bytes in [&b"xx\xff\xff\xff\xffPAR1"[..], b"abc", b""] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(footer_checksum(&path).unwrap(), crc32fast::hash(bytes));
        }
    }
}

//! Readers return a frame or an error for Parquet files with any damaged byte.

use std::fs;
use std::path::Path;

use polars_notebook::Error;
use polars_profile::Error::DamagedFile;
use wearable_demo::prelude::*;

/// A frame with the types of results, in one row group and in several.
fn files(folder: &Path) -> [Vec<u8>; 2] {
    let n = 200i64;
    let text = |x: i64| ["", "a", "ü", "a longer text than fits into a view"][x as usize % 4];
    let frame = df![
        "whole" => (0..n).collect::<Vec<_>>(),
        "float" => (0..n).map(|x| (x % 7 != 0).then_some(x as f64 / 3.0)).collect::<Vec<_>>(),
        "text" => (0..n).map(text).collect::<Vec<_>>(),
        "flag" => (0..n).map(|x| x % 3 == 0).collect::<Vec<_>>(),
        "list" => (0..n).map(|x| Series::new("".into(), vec![x; x as usize % 3])).collect::<Vec<_>>(),
    ]
    .unwrap();
    let date = frame.column("whole").unwrap().cast(&DataType::Date).unwrap();
    let frame = frame.hstack(&[date.with_name("date".into())]).unwrap();
    [None, Some(60)].map(|rows| {
        let file = folder.join("whole.parquet");
        sink_parquet_with(&frame.clone().lazy(), &file, rows).unwrap();
        fs::read(&file).unwrap()
    })
}

/// The position of a byte in the first file. With its last bit flipped, polars 0.55.2 allocates more
/// memory than there is, and aborts.
const ABORTS_POLARS: usize = 841;

/// Flips bits in every `step`th byte.
fn flip(step: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    let mut damaged = 0;
    for whole in files(folder.path()) {
        for at in (0..whole.len()).step_by(step).chain([ABORTS_POLARS]) {
            for bits in [0xff, 0x01, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= bits;
                fs::write(&path, bytes).unwrap();
                match read_parquet(&path) {
                    Ok(frame) => {
                        assert!(frame.columns().iter().all(|c| c.len() == frame.height()), "{at}");
                    }
                    Err(Error::Profile(DamagedFile { file, .. })) => {
                        assert_eq!(file, path, "{at}");
                        damaged += 1;
                    }
                    Err(error) => panic!("byte {at} ^ {bits:x}: {error}"),
                }
            }
        }
    }
    assert!(damaged > 0);
}

#[test]
fn damaged_byte_is_an_error_or_another_value() {
    flip(331);
}

#[test]
#[ignore = "takes half an hour; every byte of the sample above"]
fn any_damaged_byte_is_an_error_or_another_value() {
    flip(1);
}

#[test]
fn truncated_and_foreign_files_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.parquet");
    let [whole, _] = files(folder.path());
    let cut = [0, 1, 4, 8, 12, whole.len() / 2, whole.len() - 9, whole.len() - 1];
    let mut contents: Vec<Vec<u8>> = cut.iter().map(|at| whole[..*at].to_vec()).collect();
    contents.push(b"PAR1PAR1".to_vec());
    contents.push(b"x,y\n1,2\n".to_vec());
    // Footer lengths that are larger than the file, or negative.
    for length in [u32::MAX, i32::MAX as u32, whole.len() as u32] {
        let mut bytes = whole.clone();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        contents.push(bytes);
    }
    for bytes in contents {
        fs::write(&path, &bytes).unwrap();
        let error = read_parquet(&path).unwrap_err();
        assert!(
            matches!(&error, Error::Profile(DamagedFile { file, .. }) if *file == path),
            "{error}"
        );
        let error = scan_parquet_files(&path).err().unwrap();
        assert!(
            matches!(&error, Error::Profile(DamagedFile { file, .. }) if *file == path),
            "{error}"
        );
    }
    for path in [folder.path(), &folder.path().join("missing")] {
        let error = read_parquet(path).unwrap_err();
        assert!(matches!(error, Error::Io(..)), "{error}");
    }
}

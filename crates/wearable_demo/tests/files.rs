//! Results in files and directories: replacing, refusing, and failures.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dataset_writer::Error::NotReplaceable;
use polars_notebook::{Error, Result};
use wearable_demo::prelude::*;

fn rows(n: i64) -> LazyFrame {
    let keys: Vec<i64> = (0..n).map(|x| x % 3).collect();
    let values: Vec<i64> = (0..n).collect();
    df!["key" => keys, "value" => values].unwrap().lazy()
}

/// All files below `dir` with their contents.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => files.extend(contents(&path)),
            false => files.push((path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    files.sort();
    files
}

fn scanned(directory: &Path) -> DataFrame {
    let frame = scan_parquet_files(directory).unwrap().collect().unwrap();
    frame.select(["key", "value"]).unwrap().sort(["value"], Default::default()).unwrap()
}

#[test]
fn partitioned_dataset_is_replaced_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["data", "new", "old", "replaced", "with=equals", "Ünïcode [*]", "with space"] {
        let data = dir.path().join("new").join(name);
        for n in [7, 4, 0, 9, 0, 0, 5] {
            sink_partitioned(&rows(n), &data, "key").unwrap();
            assert!(frames_equal(&scanned(&data), &rows(n).collect().unwrap()), "{name}: {n} rows");
        }
        // A query may read the dataset that it replaces.
        let larger = scan_parquet_files(&data).unwrap().filter(col("value").gt(lit(2)));
        sink_partitioned(&larger, &data, "key").unwrap();
        assert_eq!(scanned(&data).height(), 2);
    }
    assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 7);
}

#[test]
fn query_without_rows_keeps_names_and_types() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let query = rows(9).select([
        lit("2024-01-01").cast(DataType::Date).alias("date"),
        col("value"),
        lit("text").alias("text"),
    ]);
    for query in [query.clone(), query.filter(lit(false))] {
        sink_partitioned(&query, &data, "date").unwrap();
        let expected = query.collect().unwrap().select(["value", "text", "date"]).unwrap();
        assert!(frames_equal(&scan_parquet_files(&data).unwrap().collect().unwrap(), &expected));
    }
}

#[test]
fn other_directories_and_files_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    sink_partitioned(&rows(5), &at("dataset"), "key").unwrap();
    let make = |name: &str, file: &str, content: &str| {
        let file = at(name).join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    };
    make("notes", "todo.txt", "keep");
    make("parquet", "mine.parquet", "keep");
    make("hidden", ".git/config", "keep");
    make("mixed", "key=1/00000000.parquet", "keep");
    make("mixed", "README", "keep");
    make("below", "key=1/notes.txt", "keep");
    make("plain_folder", "key=1/2024/x.parquet", "keep");
    make("", "file", "keep");
    fs::create_dir(at("one_file")).unwrap();
    write_parquet(&rows(3).collect().unwrap(), &at("one_file/00000000.parquet")).unwrap();
    symlink(at("dataset"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let before = contents(dir.path());
    let refused = [
        "notes",
        "parquet",
        "hidden",
        "mixed",
        "below",
        "plain_folder",
        "file",
        "one_file",
        "link",
        "dangling",
        "",
        ".",
        "..",
        "dataset/.",
        "dataset/..",
        "dataset/key=1/..",
    ];
    for name in refused {
        for n in [5, 0] {
            let target = PathBuf::from(format!("{}/{name}", dir.path().display()));
            let error = sink_partitioned(&rows(n), &target, "key").unwrap_err();
            assert!(matches!(error, Error::Write(NotReplaceable { .. })), "{name}: {error}");
            assert_eq!(contents(dir.path()), before, "{name}");
        }
    }
    for target in ["", ".", "..", "/", "./", "../", "/.", "/.."] {
        let error = sink_partitioned(&rows(5), Path::new(target), "key").unwrap_err();
        assert!(matches!(error, Error::Write(NotReplaceable { .. })), "{target}: {error}");
    }
    // The working directory is never replaced, even if it is empty.
    let cwd = std::env::current_dir().unwrap();
    let error = sink_partitioned(&rows(5), &cwd, "key").unwrap_err();
    assert!(matches!(error, Error::Write(NotReplaceable { .. })), "{error}");
    // An empty directory may be replaced.
    fs::create_dir(at("empty")).unwrap();
    sink_partitioned(&rows(5), &PathBuf::from(format!("{}/", at("empty").display())), "key")
        .unwrap();
    assert_eq!(scanned(&at("empty")).height(), 5);
}

#[test]
fn partition_values_are_read_as_they_were_written_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let write = |key: Series| -> Result<DataFrame> {
        let values: Vec<i64> = (0..key.len() as i64).collect();
        let key = key.with_name("key".into()).into_column();
        let frame = DataFrame::new(key.len(), vec![Column::new("value".into(), values), key])?;
        sink_partitioned(&frame.clone().lazy(), &data, "key")?;
        let read = scan_parquet_files(&data)?.collect()?.sort(["value"], Default::default())?;
        assert!(frames_equal(&read, &frame), "{read} {frame}");
        Ok(read)
    };
    let texts = |texts: &[Option<&str>]| Series::new("".into(), texts);
    let odd =
        ["a/b", "a=b", "..", ".", " ", "%2F", "ü", "a:b", "line\nend", "\u{1}", "x\\y", "[a]"];
    for text in odd {
        write(texts(&[Some(text), Some("plain"), None])).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    write(texts(&odd.map(Some))).unwrap();
    write(Series::new("".into(), [1.5, -2.0, 1e300, f64::INFINITY, f64::NAN])).unwrap();
    write(Series::new("".into(), [Some(true), None, Some(false)])).unwrap();
    write(Series::new("".into(), [Some(i64::MIN), None])).unwrap();
    let days = Series::new("".into(), [Some(19_000i32), None]).cast(&DataType::Date).unwrap();
    write(days).unwrap();
    // If the next dataset is refused, the old one stays.
    let before = contents(&data);
    let refused = [
        texts(&[Some("007"), Some("1")]),
        texts(&[Some("true")]),
        texts(&[Some("2024-01-01")]),
        texts(&[Some("a"), Some("")]),
        texts(&[Some("a"), Some("__HIVE_DEFAULT_PARTITION__")]),
        texts(&[None, Some("a"), Some("__HIVE_DEFAULT_PARTITION__")]),
        texts(&[Some("a"), Some("b*")]),
        texts(&[Some("*")]),
        Series::new("".into(), [1i32, 2]),
        Series::full_null("".into(), 2, &DataType::Int64),
        Series::new("".into(), [Series::new("".into(), [1i64])]),
        texts(&[Some("a")]).cast(&DataType::Binary).unwrap(),
    ];
    for key in refused {
        let error = write(key.clone()).unwrap_err();
        assert!(matches!(error, Error::NotPartitionable { .. }), "{key}: {error}");
        assert_eq!(contents(&data), before, "{key}");
    }
    for column in ["nowhere", "../escape", "a=b", "", "star*"] {
        let query = rows(3).with_column(col("key").alias(column.replace("nowhere", "other")));
        let error = sink_partitioned(&query, &data, column).unwrap_err();
        assert!(matches!(error, Error::NotPartitionable { .. }), "{column}: {error}");
    }
    let error = sink_partitioned(&rows(3).select([col("key")]), &data, "key").unwrap_err();
    assert!(matches!(error, Error::NotPartitionable { .. }), "{error}");
    assert_eq!(contents(&data), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn failing_query_leaves_the_old_result() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file.parquet"));
    sink_partitioned(&rows(5), &data, "key").unwrap();
    sink_parquet(&rows(5), &file).unwrap();
    let before = contents(dir.path());
    // The query fails while it runs, because its file is damaged or missing.
    let source = dir.path().join("source.parquet");
    write_parquet(&rows(5).collect().unwrap(), &source).unwrap();
    let query = scan_parquet_files(&source).unwrap();
    fs::write(&source, "damaged").unwrap();
    assert!(sink_partitioned(&query, &data, "key").is_err());
    assert!(sink_parquet(&query, &file).is_err());
    fs::remove_file(&source).unwrap();
    assert!(sink_partitioned(&query, &data, "key").is_err());
    assert!(sink_parquet(&query, &file).is_err());
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn file_is_written_only_over_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let frame = rows(3).collect().unwrap();
    type Writer<'a> = &'a dyn Fn(&Path) -> Result<()>;
    let writers: [(&str, Writer); 3] = [
        ("write_parquet", &|path| write_parquet(&frame, path)),
        ("write_csv", &|path| write_csv(&frame, path)),
        ("sink_parquet", &|path| sink_parquet(&rows(3), path).map(drop)),
    ];
    fs::create_dir_all(at("directory/with")).unwrap();
    fs::write(at("directory/with/file"), "keep").unwrap();
    fs::create_dir(at("empty")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("directory"), at("to_directory")).unwrap();
    let before = contents(dir.path());
    for (writer, write) in writers {
        let names = ["directory", "empty", "dangling", "to_directory", "new/", ".", "..", ""];
        for name in names {
            let target = PathBuf::from(format!("{}/{name}", dir.path().display()));
            let error = write(&target).unwrap_err();
            assert!(
                matches!(error, Error::Write(NotReplaceable { .. })),
                "{writer} {name}: {error}"
            );
        }
        let error = write(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, Error::Write(NotReplaceable { .. })), "{writer}: {error}");
        for target in [at("missing/file"), at("directory/with/file/below")] {
            let error = write(&target).unwrap_err();
            assert!(
                matches!(error, Error::Io(_) | Error::Write(dataset_writer::Error::Io(_))),
                "{writer}: {error}"
            );
        }
        assert_eq!(contents(dir.path()), before, "{writer}");
    }
    for (writer, write) in writers {
        fs::write(at("file"), "old").unwrap();
        symlink("file", at("link")).unwrap();
        write(&at("link")).unwrap();
        // The target of the link is written, and the link stays.
        assert!(at("link").is_symlink() && fs::read(at("file")).unwrap().len() > 3, "{writer}");
        fs::remove_file(at("link")).unwrap();
        fs::remove_file(at("file")).unwrap();
        write(&at("new")).unwrap();
        let mode = |path: &Path| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata().unwrap().permissions().mode()
        };
        fs::write(at("plain"), "").unwrap();
        assert_eq!(mode(&at("new")), mode(&at("plain")), "{writer}: has the default permissions");
        fs::remove_file(at("new")).unwrap();
        fs::remove_file(at("plain")).unwrap();
        assert_eq!(contents(dir.path()), before, "{writer}");
    }
}

/// polars accepts only paths in UTF-8. The writers of frames accept any path.
#[test]
fn names_that_are_not_utf8_are_written_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    write_csv(&rows(3).collect().unwrap(), &odd).unwrap();
    write_parquet(&rows(3).collect().unwrap(), &odd).unwrap();
    assert_eq!(read_parquet(&odd).unwrap().height(), 3);
    let before = contents(dir.path());
    assert!(matches!(sink_parquet(&rows(3), &odd), Err(Error::Polars(_))));
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"\xfe"));
    assert!(matches!(sink_partitioned(&rows(3), &odd, "key"), Err(Error::Polars(_))));
    assert_eq!(contents(dir.path()), before);
}

const CHILD: &str = "WEARABLE_TEST_WRITES_INTO";

/// Not a test: the process that `killed_writer_leaves_the_old_or_the_new_result` kills.
#[test]
fn writer_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    for n in (0..).cycle() {
        let rows = rows(if n % 2 == 0 { 3_000 } else { 2_000 });
        sink_partitioned(&rows, &dir.join("data"), "key").unwrap();
        sink_parquet(&rows, &dir.join("file.parquet")).unwrap();
    }
}

#[test]
fn killed_writer_leaves_the_old_or_the_new_result() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file.parquet"));
    sink_partitioned(&rows(2_000), &data, "key").unwrap();
    sink_parquet(&rows(2_000), &file).unwrap();
    for kill in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_that_is_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + 37 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        for n in [scanned(&data).height(), read_parquet(&file).unwrap().height()] {
            assert!(n == 2_000 || n == 3_000, "{n} rows");
        }
    }
    // The next writer removes the staging directories of killed ones.
    sink_parquet(&rows(2_000), &file).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["data", "file.parquet"]);
}

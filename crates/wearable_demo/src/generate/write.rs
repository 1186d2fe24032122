//! Tables into Parquet files, and those into their places.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, NaiveDate};
use polars::prelude::*;

use super::metadata::{self, Checksums, METADATA};
use super::options::GenerateOptions;
use crate::error::{Error, Result, nearest_that_exists};
use crate::paths::short;
use crate::tables::{DAYS, TABLES};

const ROW_GROUP_ROWS: usize = 100_000;

/// A file of a generated dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksums.
    pub crc32: Checksums,
}

/// What [`generate_dataset`](crate::generate_dataset) made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Rows of sensor_hrv.
    pub sensor_rows: u64,
    /// Rows of user_profile.
    pub users: usize,
    /// Days in sleep_diary.
    pub days: u32,
    /// Every Parquet file.
    pub files: Vec<WrittenFile>,
    /// The metadata file.
    pub metadata: PathBuf,
}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        write!(
            f,
            "{} sensor rows, {} users, {} days in {} Parquet files, {:.1} MB",
            self.sensor_rows,
            self.users,
            self.days,
            self.files.len(),
            megabytes(bytes)
        )
    }
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A directory beside the dataset in which a new one grows. Dropped before
/// [`finish`](Staging::finish), it takes what it holds with it.
///
/// It is called `.generating-…`; what it replaces waits in its `old` until all is in place, and
/// then `old` becomes `replaced`. So whoever finds such a directory of a killed process knows
/// whether to put the old dataset back.
pub(super) struct Staging {
    output_dir: PathBuf,
    pub(super) dir: PathBuf,
    made: MadeDirectories,
    /// The output directory, locked against other generators as long as this lives.
    _lock: File,
}

const PREFIX: &str = ".generating-";

impl Staging {
    /// For a dataset of at most `bytes`.
    pub(super) fn create(output_dir: &Path, bytes: u64) -> Result<Staging> {
        check_place(output_dir)?;
        let made = MadeDirectories::create(output_dir)?;
        let nanoseconds = Local::now().timestamp_nanos_opt().unwrap_or_default();
        let name = format!("{PREFIX}{}-{nanoseconds:x}", std::process::id());
        let staging = Staging {
            output_dir: output_dir.to_owned(),
            dir: output_dir.join(name),
            made,
            _lock: lock(output_dir)?.ok_or_else(|| Error::Busy { dir: output_dir.to_owned() })?,
        };
        recover(output_dir)?;
        for entry in entries() {
            check_replaceable(&output_dir.join(entry))?;
        }
        let free = free_bytes(output_dir)?;
        if free < bytes {
            return Err(Error::NoRoom {
                dir: output_dir.to_owned(),
                needed_mb: bytes.div_ceil(1_000_000),
                free_mb: free / 1_000_000,
            });
        }
        fs::create_dir(&staging.dir).map_err(Error::io("create", &staging.dir))?;
        Ok(staging)
    }

    /// Writes `frame` to `location`, a path under the dataset's directory.
    pub(super) fn write(&self, location: &str, frame: &mut DataFrame) -> Result<WrittenFile> {
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes)
            .with_compression(ParquetCompression::Snappy)
            .with_row_group_size(Some(ROW_GROUP_ROWS))
            .finish(frame)
            .map_err(Error::polars(format!("encode {location}")))?;
        self.write_bytes(location, &bytes)
    }

    /// Writes a file at `location`, a path under the dataset's directory, to the disk itself. By any
    /// thread, each file once.
    pub(super) fn write_bytes(&self, location: &str, bytes: &[u8]) -> Result<WrittenFile> {
        let path = self.dir.join(location);
        // Not the staging directory itself: where that has vanished, somebody wanted it away.
        let mut folder = self.dir.clone();
        for name in Path::new(location).parent().into_iter().flat_map(Path::iter) {
            folder.push(name);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &folder)(error));
                }
                _ => {}
            }
        }
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))?;
        Ok(WrittenFile {
            path: self.output_dir.join(location),
            bytes: bytes.len() as u64,
            crc32: Checksums::of(bytes),
        })
    }

    /// A new directory for temporary files. What is left in it goes with the staging directory, also
    /// if the process is killed.
    pub(super) fn temporary_directory(&self) -> Result<PathBuf> {
        let directory = self.dir.join("temporary");
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// Writes the metadata and moves everything into place.
    pub(super) fn finish(
        mut self,
        options: &GenerateOptions,
        started: DateTime<Local>,
        sensor_rows: u64,
        users: usize,
        files: Vec<WrittenFile>,
    ) -> Result<Generated> {
        let generated = Generated {
            sensor_rows,
            users,
            days: DAYS,
            files,
            metadata: self.output_dir.join(METADATA),
        };
        self.write_bytes(METADATA, metadata::yaml(options, started, &generated).as_bytes())?;
        sync_directories(&self.dir)?;
        self.put_into_place()?;
        self.made.0.clear();
        sync_directory(&self.output_dir)?;
        Ok(generated)
    }

    /// Swaps the old dataset for the new one, all of it or nothing.
    fn put_into_place(&self) -> Result<()> {
        swap(&self.dir, &self.dir.join(OLD), &self.output_dir, entries())
    }
}

/// Moves `entries` from the directory `new` into the directory `place`, all of them or none.
///
/// Replaced entries wait in the directory `old`, which must not exist before. After the last move,
/// it is renamed to `replaced`, so [`restore`] can tell a swap that was killed from a complete one.
pub(crate) fn swap(
    new: &Path,
    old: &Path,
    place: &Path,
    entries: impl Iterator<Item = impl AsRef<Path>> + Clone,
) -> Result<()> {
    fs::create_dir(old).map_err(Error::io("create", old))?;
    let mut moves = Vec::new();
    for entry in entries.clone() {
        let replaced = place.join(&entry);
        if replaced.symlink_metadata().is_ok() {
            moves.push((replaced, old.join(&entry)));
        }
    }
    for entry in entries {
        moves.push((new.join(&entry), place.join(&entry)));
    }
    moves.push((old.to_owned(), old.with_file_name("replaced")));
    for (done, (from, to)) in moves.iter().enumerate() {
        if let Err(error) = fs::rename(from, to) {
            for (from, to) in moves[..done].iter().rev() {
                // Entries that cannot be moved back stay in `old`, for `restore`.
                let _ = fs::rename(to, from);
            }
            return Err(Error::io("move a dataset into the place of", to)(error));
        }
    }
    Ok(())
}

/// Undoes a [`swap`] of a process that was killed.
pub(crate) fn restore(new: &Path, old: &Path, place: &Path) -> Result<()> {
    for entry in fs::read_dir(old).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let replaced = place.join(&name);
        if replaced.symlink_metadata().is_ok() {
            fs::rename(&replaced, new.join(&name)).map_err(Error::io("restore", &replaced))?;
        }
        fs::rename(entry.path(), &replaced).map_err(Error::io("restore", &replaced))?;
    }
    Ok(())
}

/// Where a staging directory keeps the entries that a [`swap`] has replaced so far.
const OLD: &str = "old";

/// What a dataset consists of in its directory; the metadata come last.
fn entries() -> impl Iterator<Item = &'static str> + Clone {
    let tables = TABLES.iter().filter_map(|table| table.location.split('/').next());
    tables.chain([METADATA])
}

/// Bytes that this user may still write to the disk that `directory` is on, or would be made on.
///
/// # Errors
///
/// [`Error::Io`] where the operating system does not tell.
pub fn free_bytes(directory: &Path) -> Result<u64> {
    let absolute = std::path::absolute(directory).map_err(Error::io("read", directory))?;
    let there = nearest_that_exists(&absolute);
    fs4::available_space(there).map_err(Error::io("read", there))
}

/// The lock of a dataset's directory; None where another process holds it.
fn lock(output_dir: &Path) -> Result<Option<File>> {
    let lock = File::open(output_dir).map_err(Error::io("open", output_dir))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", output_dir)(error)),
    }
}

/// Has the names in a directory on the disk, and not only what they name.
fn sync_directory(directory: &Path) -> Result<()> {
    let handle = File::open(directory).map_err(Error::io("open", directory))?;
    // Some file systems know nothing of it.
    match handle.sync_all() {
        Err(error) if error.kind() != ErrorKind::InvalidInput => {
            Err(Error::io("write", directory)(error))
        }
        _ => Ok(()),
    }
}

/// [`sync_directory`] for all directories below `directory`, and then for itself.
fn sync_directories(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))?.flatten() {
        if entry.path().is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(directory)
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Never the only copy of an old dataset; the next generator puts that back.
        let old_is_back = fs::remove_dir(self.dir.join(OLD));
        if old_is_back.is_ok() || !self.dir.join(OLD).exists() {
            // A failure to remove the rest changes nothing.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Directories that were made for a dataset. Those that are still empty when this is dropped are
/// removed.
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    /// Makes `directory`, and those above it that are not there.
    fn create(directory: &Path) -> Result<MadeDirectories> {
        let mut made = MadeDirectories(Vec::new());
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => made.0.push(path.to_owned()),
                // As `new` once `new/..` was made.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        }
        match directory.metadata().map_err(Error::io("read", directory))?.is_dir() {
            true => Ok(made),
            false => Err(Error::io("create", directory)(ErrorKind::AlreadyExists.into())),
        }
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Refuses a directory in which a dataset would be lost or spoil another one.
fn check_place(output_dir: &Path) -> Result<()> {
    let refuse =
        |value, allowed| Err(Error::InvalidOption { option: "output_dir", value, allowed });
    if output_dir.as_os_str().is_empty() {
        return refuse("empty".to_owned(), "the path of a directory");
    }
    // Its real path, as far as it is there.
    let absolute = std::path::absolute(output_dir).map_err(Error::io("read", output_dir))?;
    let there = absolute.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let Some((path, real)) = there else { return Ok(()) };
    let real = real.join(absolute.strip_prefix(path).unwrap_or(Path::new("")));
    let is_inside = |dataset: &Path| {
        dataset.join(METADATA).is_file()
            && real.strip_prefix(dataset).is_ok_and(|below| entries().any(|e| below.starts_with(e)))
    };
    match real.ancestors().skip(1).any(is_inside) {
        true => refuse(output_dir.display().to_string(), "outside the tables of another dataset"),
        false => Ok(()),
    }
}

/// Puts a dataset back that a killed process had begun to replace, if there is one and nobody is at
/// work on it: for readers.
pub(crate) fn recover_killed(output_dir: &Path) -> Result<()> {
    let is_left = |entry: fs::DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && entry.path().join(OLD).is_dir()
    };
    let left = fs::read_dir(output_dir).is_ok_and(|entries| entries.flatten().any(is_left));
    match left {
        true => lock(output_dir)?.map_or(Ok(()), |_lock| recover(output_dir)),
        false => Ok(()),
    }
}

/// Removes staging directories of processes that were killed, after putting back what the last of
/// their moves took away. The caller holds the lock, so no living process has one.
fn recover(output_dir: &Path) -> Result<()> {
    let found = fs::read_dir(output_dir).map_err(Error::io("read", output_dir))?;
    for entry in found.flatten() {
        let stale = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !stale.is_dir() {
            continue;
        }
        restore(&stale, &stale.join(OLD), output_dir)?;
        fs::remove_dir_all(&stale).map_err(Error::io("remove", &stale))?;
    }
    Ok(())
}

/// Whether a file or directory is nothing, or something that a generator wrote.
fn check_replaceable(place: &Path) -> Result<()> {
    let in_the_way = |problem: &str| {
        Err(Error::InTheWay { path: place.to_owned(), problem: problem.to_owned() })
    };
    let kind = match place.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("read", place))?.file_type(),
    };
    let is_directory = TABLES.iter().any(|table| {
        let directory = table.location.split_once('/').map(|(directory, _)| directory);
        directory.is_some_and(|directory| place.ends_with(directory))
    });
    if kind.is_symlink() {
        return in_the_way("is a symbolic link");
    }
    if kind.is_dir() != is_directory {
        return in_the_way(if is_directory { "is not a directory" } else { "is not a file" });
    }
    if is_directory && let Some(name) = other_than_parts(place)? {
        return in_the_way(&format!("holds {name}, which is no part of a dataset"));
    }
    Ok(())
}

/// What is in a directory of parts, or in one of its dates' folders, and no part.
fn other_than_parts(directory: &Path) -> Result<Option<String>> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let number = name.strip_prefix("part-").and_then(|n| n.strip_suffix(".parquet"));
        let is_part = number.is_some_and(|n| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit()));
        let is_date = name.strip_prefix("date=").is_some_and(|d| d.parse::<NaiveDate>().is_ok());
        if is_directory && is_date {
            if let Some(below) = other_than_parts(&entry.path())? {
                return Ok(Some(format!("{name}/{below}")));
            }
        } else if is_directory || !is_part {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// Shows a written file as `data/user_profile.parquet (0.1 MB)`.
impl fmt::Display for WrittenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1} MB)", short(&self.path), megabytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(dir: &Path) -> Vec<(String, String)> {
        let read = |entry: &str| fs::read_to_string(dir.join(entry)).unwrap_or_default();
        let entries = ["user_profile.parquet", "sleep_diary.parquet", METADATA];
        let mut found: Vec<_> = entries.iter().map(|e| (e.to_string(), read(e))).collect();
        for part in fs::read_dir(dir.join("sensor_hrv")).unwrap().flatten() {
            let name = part.file_name().into_string().unwrap();
            found.push((name, fs::read_to_string(part.path()).unwrap()));
        }
        found
    }

    /// A dataset of text files, in `dir`.
    fn fake(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("sensor_hrv")).unwrap();
        for entry in ["user_profile.parquet", "sleep_diary.parquet", METADATA] {
            fs::write(dir.join(entry), text).unwrap();
        }
        fs::write(dir.join("sensor_hrv/part-00000.parquet"), text).unwrap();
    }

    /// Wherever among the moves one fails, the old dataset is back afterwards, all of it.
    #[test]
    fn a_move_that_fails_is_undone() {
        for missing in entries() {
            let dir = tempfile::tempdir().unwrap();
            fake(dir.path(), "old");
            let before = contents(dir.path());
            let staging = Staging::create(dir.path(), 0).unwrap();
            fake(&staging.dir, "new");
            let gone = staging.dir.join(missing);
            if gone.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) }.unwrap();
            assert!(matches!(staging.put_into_place(), Err(Error::Io { .. })));
            drop(staging);
            assert_eq!(contents(dir.path()), before, "{missing}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        }
    }

    /// A process killed after any number of its moves: the next generator puts the old dataset
    /// back, or, after the last move, keeps the new one.
    #[test]
    fn moves_that_a_killed_process_did_not_finish_are_undone() {
        let moves = 2 * entries().count() + 1;
        for done in 0..=moves {
            let dir = tempfile::tempdir().unwrap();
            fake(dir.path(), "old");
            let stale = dir.path().join(".generating-1-1");
            fake(&stale, "new");
            let old = stale.join(OLD);
            fs::create_dir(&old).unwrap();
            let out = entries().map(|e| (dir.path().join(e), old.join(e)));
            let into = entries().map(|e| (stale.join(e), dir.path().join(e)));
            let last = [(old.clone(), stale.join("replaced"))];
            for (from, to) in out.chain(into).chain(last).take(done) {
                fs::rename(from, to).unwrap();
            }
            drop(Staging::create(dir.path(), 0).unwrap());
            let expected = if done == moves { "new" } else { "old" };
            assert!(contents(dir.path()).iter().all(|(_, text)| text == expected), "{done} moves");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "{done} moves");
        }
    }
}

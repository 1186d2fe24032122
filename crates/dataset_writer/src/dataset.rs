//! A dataset of several files and directories in one directory, replaced completely or not at all.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::checksum::Checksums;
use crate::error::{Error, Result, nearest_existing};
use crate::path::{megabytes, short_path};
use crate::swap::{restore, swap};

/// A file or directory of a dataset.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name in the dataset's directory.
    pub name: &'static str,
    /// Whether it is a directory of parts, `part-00000.parquet`, …
    pub is_directory: bool,
}

/// The names in a dataset's directory.
#[derive(Clone, Copy, Debug)]
pub struct DatasetFormat {
    /// Its files and directories. The last one is the metadata file, which marks a directory as a
    /// dataset.
    pub entries: &'static [Entry],
    /// Whether a directory with this name may contain parts, next to those in an entry.
    pub is_partition: fn(&str) -> bool,
}

impl DatasetFormat {
    fn names(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.entries.iter().map(|entry| entry.name)
    }

    fn metadata(&self) -> &'static str {
        self.entries.last().map_or("", |entry| entry.name)
    }
}

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

/// A directory beside the dataset in which a new one grows. Dropped before
/// `finish`, it takes what it holds with it.
///
/// It is called `.generating-…`; what it replaces waits in its `old` until all is in place, and
/// then `old` becomes `replaced`. So whoever finds such a directory of a killed process knows
/// whether to put the old dataset back.
pub struct DatasetStaging {
    format: DatasetFormat,
    output_dir: PathBuf,
    dir: PathBuf,
    made: MadeDirectories,
    /// The output directory, locked against other generators as long as this lives.
    _lock: File,
}

const PREFIX: &str = ".generating-";

impl DatasetStaging {
    /// For a dataset of at most `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDirectory`] for a directory that is empty or inside another dataset,
    /// [`Error::Busy`] where another process writes there, [`Error::NotADataset`] where something
    /// else has the name of an entry, [`Error::NoRoom`] where the disk is too full, [`Error::Io`]
    /// where the operating system refuses an operation.
    pub fn create(format: DatasetFormat, output_dir: &Path, bytes: u64) -> Result<DatasetStaging> {
        check_place(&format, output_dir)?;
        let made = MadeDirectories::create(output_dir)?;
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}-{nanoseconds:x}", std::process::id());
        let staging = DatasetStaging {
            format,
            output_dir: output_dir.to_owned(),
            dir: output_dir.join(name),
            made,
            _lock: lock(output_dir)?.ok_or_else(|| Error::Busy { dir: output_dir.to_owned() })?,
        };
        recover(output_dir)?;
        for entry in format.entries {
            check_replaceable(&format, entry, &output_dir.join(entry.name))?;
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

    /// Writes a file at `location`, a path under the dataset's directory, and syncs it to the disk. Any
    /// thread may call it, once for each file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write_bytes(&self, location: &str, bytes: &[u8]) -> Result<WrittenFile> {
        let path = self.dir.join(location);
        // Never the staging directory itself: if it has vanished, it was removed on purpose.
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

    /// A new directory for temporary files. Files that remain in it are removed with the
    /// staging directory, also if the process is killed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn temporary_directory(&self) -> Result<PathBuf> {
        let directory = self.dir.join("temporary");
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// The staging directory itself.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes the metadata file and moves all entries into place. Returns the metadata file's path.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the old dataset is complete then.
    pub fn finish(mut self, metadata: &[u8]) -> Result<PathBuf> {
        let name = self.format.metadata();
        self.write_bytes(name, metadata)?;
        sync_directories(&self.dir)?;
        self.put_into_place()?;
        self.made.0.clear();
        sync_directory(&self.output_dir)?;
        Ok(self.output_dir.join(name))
    }

    /// Swaps the old dataset for the new one, all of it or nothing.
    fn put_into_place(&self) -> Result<()> {
        swap(&self.dir, &self.dir.join(OLD), &self.output_dir, self.format.names())
    }
}

/// Where a staging directory keeps the entries that a [`swap`] has replaced so far.
const OLD: &str = "old";

/// Bytes that this user may still write to the disk that `directory` is on, or would be made on.
///
/// # Errors
///
/// [`Error::Io`] where the operating system does not report it.
pub fn free_bytes(directory: &Path) -> Result<u64> {
    let absolute = std::path::absolute(directory).map_err(Error::io("read", directory))?;
    let there = nearest_existing(&absolute);
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

impl Drop for DatasetStaging {
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
fn check_place(format: &DatasetFormat, output_dir: &Path) -> Result<()> {
    let refuse = |value, allowed| Err(Error::InvalidDirectory { value, allowed });
    if output_dir.as_os_str().is_empty() {
        return refuse("empty".to_owned(), "the path of a directory");
    }
    // Its real path, as far as it is there.
    let absolute = std::path::absolute(output_dir).map_err(Error::io("read", output_dir))?;
    let there = absolute.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let Some((path, real)) = there else { return Ok(()) };
    let real = real.join(absolute.strip_prefix(path).unwrap_or(Path::new("")));
    let is_inside = |dataset: &Path| {
        dataset.join(format.metadata()).is_file()
            && real
                .strip_prefix(dataset)
                .is_ok_and(|below| format.names().any(|e| below.starts_with(e)))
    };
    match real.ancestors().skip(1).any(is_inside) {
        true => refuse(output_dir.display().to_string(), "outside the tables of another dataset"),
        false => Ok(()),
    }
}

/// Restores a dataset that a killed process had begun to replace, unless another process holds the
/// dataset's lock. Readers call this first.
///
/// # Errors
///
/// [`Error::Io`].
pub fn recover_dataset(output_dir: &Path) -> Result<()> {
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

/// Whether `place` is missing, or is an entry that an earlier writer wrote.
fn check_replaceable(format: &DatasetFormat, entry: &Entry, place: &Path) -> Result<()> {
    let refuse = |problem: &str| {
        Err(Error::NotADataset { path: place.to_owned(), problem: problem.to_owned() })
    };
    let kind = match place.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("read", place))?.file_type(),
    };
    if kind.is_symlink() {
        return refuse("is a symbolic link");
    }
    if kind.is_dir() != entry.is_directory {
        return refuse(if entry.is_directory { "is not a directory" } else { "is not a file" });
    }
    if entry.is_directory
        && let Some(name) = other_than_parts(format, place)?
    {
        return refuse(&format!("holds {name}, which is no part of a dataset"));
    }
    Ok(())
}

/// A name in a directory of parts, or in one of its partitions, that is not a part.
fn other_than_parts(format: &DatasetFormat, directory: &Path) -> Result<Option<String>> {
    for entry in fs::read_dir(directory).map_err(Error::io("read", directory))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let number = name.strip_prefix("part-").and_then(|n| n.strip_suffix(".parquet"));
        let is_part = number.is_some_and(|n| n.len() == 5 && n.bytes().all(|b| b.is_ascii_digit()));
        if is_directory && (format.is_partition)(&name) {
            if let Some(below) = other_than_parts(format, &entry.path())? {
                return Ok(Some(format!("{name}/{below}")));
            }
        } else if is_directory || !is_part {
            return Ok(Some(name.into_owned()));
        }
    }
    Ok(None)
}

/// Shows a written file as `data/table.parquet (0.1 MB)`.
impl fmt::Display for WrittenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1} MB)", short_path(&self.path), megabytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: DatasetFormat = DatasetFormat {
        entries: &[
            Entry { name: "a.parquet", is_directory: false },
            Entry { name: "b.parquet", is_directory: false },
            Entry { name: "parts", is_directory: true },
            Entry { name: "metadata.yaml", is_directory: false },
        ],
        is_partition: |name| name.contains('='),
    };

    fn contents(dir: &Path) -> Vec<(String, String)> {
        let read = |entry: &str| fs::read_to_string(dir.join(entry)).unwrap_or_default();
        let entries = ["a.parquet", "b.parquet", "metadata.yaml"];
        let mut found: Vec<_> = entries.iter().map(|e| (e.to_string(), read(e))).collect();
        for part in fs::read_dir(dir.join("parts")).unwrap().flatten() {
            let name = part.file_name().into_string().unwrap();
            found.push((name, fs::read_to_string(part.path()).unwrap()));
        }
        found
    }

    /// A dataset of text files, in `dir`.
    fn fake(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("parts")).unwrap();
        for entry in ["a.parquet", "b.parquet", "metadata.yaml"] {
            fs::write(dir.join(entry), text).unwrap();
        }
        fs::write(dir.join("parts/part-00000.parquet"), text).unwrap();
    }

    /// Wherever among the moves one fails, the old dataset is back afterwards, all of it.
    #[test]
    fn a_move_that_fails_is_undone() {
        for missing in FORMAT.names() {
            let dir = tempfile::tempdir().unwrap();
            fake(dir.path(), "old");
            let before = contents(dir.path());
            let staging = DatasetStaging::create(FORMAT, dir.path(), 0).unwrap();
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
        let moves = 2 * FORMAT.names().count() + 1;
        for done in 0..=moves {
            let dir = tempfile::tempdir().unwrap();
            fake(dir.path(), "old");
            let stale = dir.path().join(".generating-1-1");
            fake(&stale, "new");
            let old = stale.join(OLD);
            fs::create_dir(&old).unwrap();
            let out = FORMAT.names().map(|e| (dir.path().join(e), old.join(e)));
            let into = FORMAT.names().map(|e| (stale.join(e), dir.path().join(e)));
            let last = [(old.clone(), stale.join("replaced"))];
            for (from, to) in out.chain(into).chain(last).take(done) {
                fs::rename(from, to).unwrap();
            }
            drop(DatasetStaging::create(FORMAT, dir.path(), 0).unwrap());
            let expected = if done == moves { "new" } else { "old" };
            assert!(contents(dir.path()).iter().all(|(_, text)| text == expected), "{done} moves");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "{done} moves");
        }
    }
}

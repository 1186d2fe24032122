//! Replaces a dataset of several files and directories in one directory completely or not at all.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::checksum::Checksums;
use crate::error::{Error, Result, nearest_existing};
use crate::path::{megabytes, short_path};
use crate::platform;
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
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its checksums.
    pub crc32: Checksums,
}

/// The staging directory of a dataset, inside the dataset's directory. Dropping it before
/// [`finish`](DatasetStaging::finish) deletes its contents.
///
/// Its name is `.generating-…`. [`finish`](DatasetStaging::finish) moves replaced entries into `old`.
/// After the last move it renames `old` to `replaced`. A remaining `old` therefore means that the swap was
/// interrupted, and the next process restores it.
pub struct DatasetStaging {
    format: DatasetFormat,
    output_dir: PathBuf,
    dir: PathBuf,
    created: CreatedDirectories,
    /// The output directory, locked against other generators until this is dropped.
    _lock: File,
}

const PREFIX: &str = ".generating-";

impl DatasetStaging {
    /// Creates a staging directory for a dataset of at most `bytes`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDirectory`] if the path is empty or inside another dataset, [`Error::Busy`] if
    /// another process is writing there, [`Error::WouldOverwrite`] if something else has the name of an
    /// entry, [`Error::NotEnoughSpace`] if the disk has too little free space, [`Error::Io`] if the operating
    /// system refuses an operation.
    pub fn create(format: DatasetFormat, output_dir: &Path, bytes: u64) -> Result<DatasetStaging> {
        check_place(&format, output_dir)?;
        let created = CreatedDirectories::create(output_dir)?;
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}-{nanoseconds:x}", std::process::id());
        let staging = DatasetStaging {
            format,
            output_dir: output_dir.to_owned(),
            dir: output_dir.join(name),
            created,
            _lock: lock(output_dir)?.ok_or_else(|| Error::Busy { dir: output_dir.to_owned() })?,
        };
        recover(output_dir)?;
        for entry in format.entries {
            check_replaceable(&format, entry, &output_dir.join(entry.name))?;
        }
        let free = free_bytes(output_dir)?;
        if free < bytes {
            return Err(Error::NotEnoughSpace {
                dir: output_dir.to_owned(),
                needed_mb: bytes.div_ceil(1_000_000),
                free_mb: free / 1_000_000,
            });
        }
        fs::create_dir(&staging.dir).map_err(Error::io("create", &staging.dir))?;
        Ok(staging)
    }

    /// Writes a file at `location`, a path relative to the dataset's directory, and syncs it to the disk.
    /// Threads may call it at the same time for different files.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn write_bytes(&self, location: &str, bytes: &[u8]) -> Result<WrittenFile> {
        let path = self.dir.join(location);
        // Never create the staging directory again: if it is missing, the user has removed it.
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
        file.write_all(bytes)
            .and_then(|()| platform::sync(&file))
            .map_err(Error::io("write", &path))?;
        Ok(WrittenFile {
            path: self.output_dir.join(location),
            bytes: bytes.len() as u64,
            crc32: Checksums::of(bytes),
        })
    }

    /// Creates a directory for temporary files. It is deleted with the staging directory. If the process
    /// is killed, the next generator deletes both.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn temporary_directory(&self) -> Result<PathBuf> {
        let directory = self.dir.join("temporary");
        fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// The path of the staging directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes the metadata file and moves all entries into place. Returns the metadata file's path.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]. The old dataset is then complete.
    pub fn finish(mut self, metadata: &[u8]) -> Result<PathBuf> {
        let name = self.format.metadata();
        self.write_bytes(name, metadata)?;
        sync_directories(&self.dir)?;
        self.put_into_place()?;
        self.created.0.clear();
        sync_directory(&self.output_dir)?;
        Ok(self.output_dir.join(name))
    }

    /// Replaces the old dataset by the new one, completely or not at all.
    fn put_into_place(&self) -> Result<()> {
        swap(&self.dir, &self.dir.join(OLD), &self.output_dir, self.format.names())
    }
}

/// The directory for entries that a [`swap`] has replaced so far.
const OLD: &str = "old";

/// Free bytes for this user on the disk of `directory`, which need not exist.
///
/// # Errors
///
/// [`Error::Io`] if the operating system does not report it.
pub fn free_bytes(directory: &Path) -> Result<u64> {
    let absolute = std::path::absolute(directory).map_err(Error::io("read", directory))?;
    let there = nearest_existing(&absolute);
    fs4::available_space(there).map_err(Error::io("read", there))
}

/// Locks a dataset's directory. None if another process holds the lock.
fn lock(output_dir: &Path) -> Result<Option<File>> {
    let lock = File::open(output_dir).map_err(Error::io("open", output_dir))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", output_dir)(error)),
    }
}

/// Syncs the names in a directory to the disk; syncing a file does not sync its name.
fn sync_directory(directory: &Path) -> Result<()> {
    let handle = File::open(directory).map_err(Error::io("open", directory))?;
    platform::sync_directory(&handle).map_err(Error::io("write", directory))
}

/// Calls [`sync_directory`] for all directories below `directory`, and then for itself.
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
        // If `old` is not empty, it has the only copy of the old dataset. The next generator or reader
        // restores it.
        let old_is_back = fs::remove_dir(self.dir.join(OLD));
        if old_is_back.is_ok() || !self.dir.join(OLD).exists() {
            // If this fails, the next generator removes the rest.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Directories created for a dataset. Dropping this removes those that are still empty.
struct CreatedDirectories(Vec<PathBuf>);

impl CreatedDirectories {
    /// Creates `directory` and its missing parents.
    fn create(directory: &Path) -> Result<CreatedDirectories> {
        let mut created = CreatedDirectories(Vec::new());
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => created.0.push(path.to_owned()),
                // For `new/..`, once `new` exists.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
                Err(error) => return Err(Error::io("create", path)(error)),
            }
        }
        match directory.metadata().map_err(Error::io("read", directory))?.is_dir() {
            true => Ok(created),
            false => Err(Error::io("create", directory)(ErrorKind::AlreadyExists.into())),
        }
    }
}

impl Drop for CreatedDirectories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Refuses a directory inside the tables of another dataset.
fn check_place(format: &DatasetFormat, output_dir: &Path) -> Result<()> {
    let refuse = |value, allowed| Err(Error::InvalidDirectory { value, allowed });
    if output_dir.as_os_str().is_empty() {
        return refuse("empty".to_owned(), "the path of a directory");
    }
    // The real path of the part that exists.
    let absolute = std::path::absolute(output_dir).map_err(Error::io("read", output_dir))?;
    let existing = absolute.ancestors().find_map(|path| Some((path, path.canonicalize().ok()?)));
    let Some((path, real)) = existing else { return Ok(()) };
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

/// Restores a dataset that a killed process was replacing, unless another process holds the dataset's
/// lock. Readers call this first.
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

/// Undoes unfinished moves of killed processes, and removes their staging directories. The caller holds
/// the lock, so no running process uses one.
fn recover(output_dir: &Path) -> Result<()> {
    let entries = fs::read_dir(output_dir).map_err(Error::io("read", output_dir))?;
    for entry in entries.flatten() {
        let stale = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !stale.is_dir() {
            continue;
        }
        restore(&stale, &stale.join(OLD), output_dir)?;
        fs::remove_dir_all(&stale).map_err(Error::io("remove", &stale))?;
    }
    Ok(())
}

/// Checks that `place` is missing, or is an entry of an earlier dataset.
fn check_replaceable(format: &DatasetFormat, entry: &Entry, place: &Path) -> Result<()> {
    let refuse = |problem: &str| {
        Err(Error::WouldOverwrite { path: place.to_owned(), problem: problem.to_owned() })
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
        return refuse(&format!("contains {name}, which is not part of a dataset"));
    }
    Ok(())
}

/// Finds a name in a directory of parts, or in one of its partitions, that is not a part.
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
        let mut contents: Vec<_> = entries.iter().map(|e| (e.to_string(), read(e))).collect();
        for part in fs::read_dir(dir.join("parts")).unwrap().flatten() {
            let name = part.file_name().into_string().unwrap();
            contents.push((name, fs::read_to_string(part.path()).unwrap()));
        }
        contents
    }

    /// Writes a dataset of text files into `dir`.
    fn fake(dir: &Path, text: &str) {
        fs::create_dir_all(dir.join("parts")).unwrap();
        for entry in ["a.parquet", "b.parquet", "metadata.yaml"] {
            fs::write(dir.join(entry), text).unwrap();
        }
        fs::write(dir.join("parts/part-00000.parquet"), text).unwrap();
    }

    /// Whichever move fails, the old dataset is complete afterwards.
    #[test]
    fn failed_move_is_undone() {
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

    /// If a process is killed between moves, the next generator restores the old dataset. After the last
    /// move, it keeps the new one.
    #[test]
    fn unfinished_moves_of_a_killed_process_are_undone() {
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

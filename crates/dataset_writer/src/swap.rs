//! A swap of directory entries that is complete or undone.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

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

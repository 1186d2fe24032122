//! A swap of directory entries that is completed or undone.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Moves all `entries`, or none, from the directory `new` into the directory `place`.
///
/// Replaced entries are kept in the directory `old`, which must not exist before. The last move renames
/// it to `replaced`, so [`restore`] can distinguish an unfinished swap from a complete one.
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
            return Err(Error::io("move the new dataset to", to)(error));
        }
    }
    Ok(())
}

/// Undoes an unfinished [`swap`] of a killed process.
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

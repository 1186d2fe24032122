"""The error that every command reports in one line, with the user's next step."""

import errno


class UserError(Exception):
    """Something the user can mend; the message says what it is and how."""


# What the user can do about an error of the operating system.
FIXES = {
    errno.EACCES: "Check the owner with `ls -ld`, or choose another folder",
    errno.EPERM: "Check the owner with `ls -ld`, or choose another folder",
    errno.EROFS: "Choose another folder",
    errno.ENOSPC: "Free some space (./justw clean removes what runs left)",
    errno.EDQUOT: "Free some space (./justw clean removes what runs left)",
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.ENOTDIR: "Delete or rename the file in the folder's place",
    errno.EIO: "Check the disk",
    errno.ELOOP: "Delete the symbolic link",
    errno.ESTALE: "Try again: another machine has changed the file",
    errno.ENOLCK: "Choose a folder on another file system: this one has no locks",
}


def os_error_message(error: OSError) -> str:
    """An error of the operating system with its file and what to do about it, in a line."""
    file = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{file}. {FIXES[error.errno]}"

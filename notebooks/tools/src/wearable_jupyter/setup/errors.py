"""The error that every command reports in one line, with the user's next step."""

import errno


class UserError(Exception):
    """An error that the user can fix; the message contains the fix."""


# Fixes for errors of the operating system.
FIXES = {
    errno.EACCES: "Check the owner with `ls -ld`, or choose another directory",
    errno.EPERM: "Check the owner with `ls -ld`, or choose another directory",
    errno.EROFS: "Choose another directory",
    errno.ENOSPC: "Free some disk space; ./justw clean deletes generated files",
    errno.EDQUOT: "Free some disk space; ./justw clean deletes generated files",
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.ENOTDIR: "Delete or rename the file that has the directory's name",
    errno.EIO: "Check the disk",
    errno.ELOOP: "Delete the symbolic link",
    errno.ESTALE: "Try again, because another machine changed the file",
    errno.ENOLCK: "Choose a directory on another file system: this file system has no locks",
}


def os_error_message(error: OSError) -> str:
    """One line for an error of the operating system: the error, the file and the fix."""
    file = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{file}. {FIXES[error.errno]}"

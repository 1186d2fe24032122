"""Decide whether files of a cache can be used, or whether another user could have changed them.

A program or a compiled library from a cache runs as the user who loads it. So `find_fault` checks
everything in a cache before use: the evcxr binary, compiled dependencies, wheels, and the caches of
uv and pip. Uses the standard library only, because `venv.py` runs before any package is
installed.
"""

import grp
import os
import pwd
import shlex
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT_USER = 0
# Linux follows at most this number in one path.
MAX_SYMLINKS = 40
# Sources of accounts that can be listed completely. A directory service often cannot list them.
LOCAL_ACCOUNTS = {"files", "compat", "systemd", "altfiles", "extrausers", "db"}


class Fault(NamedTuple):
    """Why files cannot be used: the first path with a fault, the reason, and the fix."""

    path: str
    reason: str
    fix: str
    # Whether another user can change it.
    is_open: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self.reason}. Fix: {self.fix}"

    def with_advice(self, folder: Path) -> str:
        """The fault, with advice for a folder that another user may have changed already."""
        if not self.is_open:
            return str(self)
        return (
            f"{self}. Code in this directory would run as you, so setup does not use it. "
            f"If another user may have changed it, delete it: rm -rf {shlex.quote(str(folder))}"
        )


def find_fault(
    path: Path, *, contents: bool = True, writable: bool = False, complete: bool = False
) -> Fault | None:
    """Find a reason why another user could change `path`, or why this user cannot read it.

    Covers the path, everything below it (unless `contents` is false), every directory above it,
    and the same for the target of each symbolic link. Root and this user may own these files, and
    no other user may write to them. A directory above may be sticky, as /tmp is, because there only
    the owner can replace an entry. A path that does not exist has no fault of its own.

    With `writable`, this user must be able to write to each folder. With `complete`, no symbolic
    link may be broken.
    """
    top = os.path.join(os.getcwd(), path)
    check = _Check(top, contents, writable, complete)
    try:
        check.everything(top)
    except _FaultFound as found:
        return found.fault
    return None


def prepare_folder(folder: Path, *, readable: bool) -> str | None:
    """Create a cache if it does not exist. Return why it cannot be used, with a fix, or None."""
    other = "or set WEARABLE_CACHE_DIR to another directory"
    try:
        make_directory(folder, readable=readable)
    except OSError as error:
        at = error.filename or folder
        return f"{at} could not be created: {error.strerror}. Check its directory, {other}"
    if (fault := find_fault(folder, contents=False, writable=True)) is not None:
        return f"{fault}, {other}"
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        return f"Programs cannot run in {folder}, which is mounted noexec. Fix: remount it, {other}"
    return None


def make_directory(path: Path, *, readable: bool) -> None:
    """Create a directory and its parents so that only this user can write to them.

    With `readable`, every user can read them. The umask changes neither.
    """
    if not path.is_dir():
        make_directory(path.parent, readable=readable)
        with suppress(FileExistsError):
            path.mkdir(mode=0o755)
            protect(path, readable=readable)


def protect(path: Path, *, readable: bool) -> None:
    """Revoke write permission from other users, in a whole tree of this user.

    With `readable`, every user gets read permission, which a umask of 077 denies.
    """
    _protect(str(path), os.lstat(path), readable)


def _protect(path: str, status: os.stat_result, readable: bool) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return
    is_directory = stat.S_ISDIR(status.st_mode)
    wanted = mode & ~0o022 if is_directory else mode & 0o755
    if readable:
        wanted |= 0o555 if is_directory or mode & stat.S_IXUSR else 0o444
    if wanted != mode:
        os.chmod(path, wanted)
    if is_directory:
        with os.scandir(path) as entries:
            for entry in entries:
                _protect(entry.path, entry.stat(follow_symlinks=False), readable)


class _FaultFound(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _Check:
    """The state of one call of `find_fault`, with the directories that it has checked."""

    def __init__(self, top: str, contents: bool, writable: bool, complete: bool) -> None:
        self.top = top
        self.with_contents, self.writable, self.complete = contents, writable, complete
        self.owners, self.user = trusted_owners(), user_name(os.geteuid())
        self.resolved: dict[str, str] = {}
        self.scanned: set[str] = set()

    def everything(self, path: str) -> None:
        """Check `path`, the directories above it, and what is below it."""
        real = self.resolve(path)
        try:
            status = os.lstat(real)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.unreadable(os.path.dirname(real), error) from error
        self.entry(real, status)
        if stat.S_ISDIR(status.st_mode) and self.with_contents:
            self.contents(real)

    def contents(self, folder: str) -> None:
        """Check everything in a directory."""
        if folder in self.scanned:
            return
        self.scanned.add(folder)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.content(entry)
        except FileNotFoundError:
            return  # deleted meanwhile, so nothing uses it
        except OSError as error:
            raise self.unreadable(folder, error) from error

    def content(self, entry: os.DirEntry) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(status.st_mode):
            self.everything(entry.path)
            if self.complete and not os.path.exists(entry.path):
                reason = f"is a broken link to {os.path.realpath(entry.path)}"
                fix = f"rm -rf {shlex.quote(self.top)}"
                raise _FaultFound(Fault(entry.path, reason, fix))
            return
        self.entry(entry.path, status)
        if stat.S_ISDIR(status.st_mode):
            self.contents(entry.path)

    def resolve(self, path: str) -> str:
        """Follow all symbolic links of an absolute path, and check each directory on the way."""
        folder, name = os.path.split(path)
        if not name:
            self.entry(path, os.lstat(path), above=True)
            return path
        if folder not in self.resolved:
            self.resolved[folder] = self.resolve(folder)
        current, names, followed = self.resolved[folder], [name], 0
        while names:
            name = names.pop()
            if name in ("", ".", ".."):
                current = os.path.dirname(current) if name == ".." else current
                continue
            following = os.path.join(current, name)
            try:
                status = os.lstat(following)
            except FileNotFoundError:
                if followed and os.path.isdir(current):
                    # Another user could create the missing target of the link.
                    self.entry(current, os.lstat(current))
                return os.path.join(following, *reversed(names))
            except OSError as error:
                raise self.unreadable(current, error) from error
            if stat.S_ISLNK(status.st_mode):
                self.owner(following, status)
                followed += 1
                if followed > MAX_SYMLINKS:
                    raise _FaultFound(Fault(following, "is a circular link", remove(following)))
                target = os.readlink(following)
                names += reversed(target.split("/"))
                current = "/" if target.startswith("/") else current
                continue
            # The caller checks the last component more strictly.
            if names or stat.S_ISDIR(status.st_mode):
                self.entry(following, status, above=True)
            current = following
        return current

    def entry(self, path: str, status: os.stat_result, *, above: bool = False) -> None:
        """Raise if another user can change a file, or the entries of a directory."""
        self.owner(path, status)
        mode = status.st_mode
        if not (above or mode & stat.S_IROTH or os.access(path, os.R_OK)):
            raise _FaultFound(Fault(path, "cannot be read", self.readable(path)))
        if above and mode & stat.S_ISVTX:
            return
        if self.writable and not above and stat.S_ISDIR(mode) and not os.access(path, os.W_OK):
            whole = self.top if path.startswith(f"{self.top}/") else path
            reason = f"belongs to {user_name(status.st_uid)}, and you cannot write there"
            raise _FaultFound(
                Fault(path, reason, f"sudo chown -hR {self.user} {shlex.quote(whole)}")
            )
        # uv makes its empty lock files writable for all users; nothing reads them.
        if stat.S_ISREG(mode) and path.endswith(".lock") and status.st_size == 0:
            return
        if mode & stat.S_IWOTH:
            who = "every user"
        elif mode & stat.S_IWGRP and not is_private(path, status.st_gid):
            who = f"the group {group_name(status.st_gid)}"
        else:
            return
        inside = path != self.top and path.startswith(f"{self.top}/")
        fix = ("chmod", "-R", "go-w", self.top) if inside else ("chmod", "go-w", path)
        raise _FaultFound(Fault(path, f"can be changed by {who}", shlex.join(fix), is_open=True))

    def owner(self, path: str, status: os.stat_result) -> None:
        if status.st_uid in self.owners:
            return
        name = user_name(status.st_uid)
        whole = self.top if path.startswith(f"{self.top}/") else path
        reason = f"belongs to {name}, who can change it"
        fix = f"sudo chown -hR {self.user} {shlex.quote(whole)}, or delete it"
        raise _FaultFound(Fault(path, reason, fix, is_open=True))

    def unreadable(self, path: str, error: OSError) -> _FaultFound:
        return _FaultFound(Fault(path, f"cannot be read ({error.strerror})", self.readable(path)))

    def readable(self, path: str) -> str:
        whole = self.top if path.startswith(f"{self.top}/") else path
        return f"chmod -R a+rX {shlex.quote(whole)}, by its owner"


def trusted_owners() -> set[int]:
    """Root, this user, and the owner of `/`, which is a mapped root in some containers."""
    return {ROOT_USER, os.geteuid(), os.stat("/").st_uid}


def is_private(path: str, group: int) -> bool:
    """Whether a group with write permission has no members but root and this user.

    Ubuntu and Fedora create such a group for each user and set the umask to 002. An access control
    list can let others write through the group bits, so such a file counts as not private.
    """
    try:
        if "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False):
            return False
    except (OSError, AttributeError):
        pass  # a file system, or a platform, without such lists
    return has_only_us(group, os.geteuid())


@cache
def has_only_us(group: int, user: int) -> bool:
    """Whether all members of a group are root or `user`; false if that is uncertain."""
    try:
        entry, name = grp.getgrgid(group), user_name(user)
    except KeyError:
        return False
    # If accounts cannot be listed, compare names, as pam_umask does.
    if entry.gr_name != name and not accounts_are_local():
        return False
    allowed = {user_name(ROOT_USER), name}
    members = {*entry.gr_mem, *(one.pw_name for one in pwd.getpwall() if one.pw_gid == group)}
    return bool(members) and members <= allowed


def accounts_are_local() -> bool:
    """Whether all accounts are local, so that they can be listed."""
    try:
        lines = Path("/etc/nsswitch.conf").read_text().splitlines()
    except OSError:
        return True
    found = [line.split(":", 1)[1].split("#")[0] for line in lines if line.startswith("passwd:")]
    return all(word in LOCAL_ACCOUNTS or word[0] == "[" for line in found for word in line.split())


def user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def remove(path: str) -> str:
    return f"rm {shlex.quote(path)}"

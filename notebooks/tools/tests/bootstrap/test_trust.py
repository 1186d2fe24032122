"""Files of a cache are used only if no other user can change them.

Each case runs as real users: `VICTIM` is about to use a cache, and `ATTACKER` tries to change it.
The check must find each attack that succeeds, and must accept a cache that resists.
"""

import grp
import os
import pwd
import shutil
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from users import ATTACKER, IS_ROOT, REASON, VICTIM, run_as

from wearable_jupyter.bootstrap import trust

FILE = "debug/deps/liba.rlib"
NAME = "home/cache/dependencies-1"

pytestmark = pytest.mark.skipif(not IS_ROOT, reason=REASON)


@pytest.fixture
def base():
    """A folder that all users can reach, with a cache of the victim's."""
    folder = Path(tempfile.mkdtemp(prefix="trust-", dir="/tmp"))
    folder.chmod(0o755)
    file = folder / NAME / FILE
    file.parent.mkdir(parents=True)
    file.write_text("compiled")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, VICTIM, VICTIM)
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


def find(path: Path) -> str:
    return run_as(VICTIM, lambda: trust.find_fault(path))


def change(base: Path) -> bool:
    """Whether the attacker can change the victim's cache in any way."""
    cache = base / NAME

    def attack() -> list[str]:
        done = []
        for file in cache.rglob("*.rlib"):
            with suppress(OSError), file.open("a") as opened:
                opened.write("evil")
                done.append(f"wrote {file}")
        folders = [base, cache.parent.parent, cache.parent, cache, *cache.rglob("*")]
        folders += [folder.resolve() for folder in folders] + list(base.glob("elsewhere*"))
        for folder in filter(Path.is_dir, folders):
            if folder != base:  # a new file there does no harm
                with suppress(OSError):
                    (folder / "planted").write_text("evil")
                    done.append(f"planted in {folder}")
            for entry in list(folder.iterdir()):
                with suppress(OSError):
                    entry.rename(entry.with_name("moved"))
                    done.append(f"moved {entry}")
                    break
        return done

    done = run_as(ATTACKER, attack)
    assert done.startswith("["), done
    return done != "[]"


def elsewhere(base: Path, mode: int, owner: int = VICTIM, name: str = "elsewhere") -> Path:
    """Another folder with a file, the target of links."""
    folder = base / name
    folder.mkdir()
    (folder / "liba.rlib").write_text("compiled")
    os.chown(folder / "liba.rlib", owner, owner)
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    return folder


def link(base: Path, target: Path | str, name: str = FILE, owner: int = VICTIM) -> None:
    path = base / NAME / name
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)


def access_list(path: Path) -> None:
    """An access control list that lets the attacker write, in a group without other members."""
    os.chown(path, 0, 0)
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (2, 6, ATTACKER), (4, 4, none), (16, 6, none), (32, 4, none)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError:
        pytest.skip("this file system has no access control lists")


def chmod(name: str, mode: int, owner: int = VICTIM, group: int = VICTIM):
    def prepare(base: Path) -> None:
        path = base / name
        os.chown(path, owner, group)
        path.chmod(mode)

    return prepare


def through_a_chain(base: Path) -> None:
    """A link to a link in a folder that others can write to. The final target is safe."""
    first = elsewhere(base, 0o755)
    second = elsewhere(base, 0o777, name="elsewhere2")
    (second / "linked").symlink_to(first / "liba.rlib")
    os.chown(second / "linked", VICTIM, VICTIM, follow_symlinks=False)
    link(base, second / "linked")


def in_a_sticky_folder(base: Path) -> None:
    """Like /tmp: another user has created a file with the name that the victim uses."""
    shutil.move(base / "home", base / "kept")
    (base / "home").symlink_to(base / "kept")
    os.chown(base / "home", ATTACKER, ATTACKER, follow_symlinks=False)
    base.chmod(0o1777)


ATTACKS = {
    "file": chmod(f"{NAME}/{FILE}", 0o666),
    "file of the attacker's group": chmod(f"{NAME}/{FILE}", 0o664, group=ATTACKER),
    "file of the attacker": chmod(f"{NAME}/{FILE}", 0o644, owner=ATTACKER),
    "file of the attacker, not writable": chmod(f"{NAME}/{FILE}", 0o444, owner=ATTACKER),
    "folder": chmod(NAME, 0o777),
    "folder of the attacker": chmod(NAME, 0o755, owner=ATTACKER),
    "folder of the attacker's group": chmod(NAME, 0o2775, group=ATTACKER),
    "sticky folder": chmod(NAME, 0o1777),
    "subfolder": chmod(f"{NAME}/debug/deps", 0o777),
    "subfolder of the attacker": chmod(f"{NAME}/debug", 0o755, owner=ATTACKER),
    "parent": chmod("home/cache", 0o777),
    "parent's parent": chmod("home", 0o777),
    "parent's parent of the attacker": chmod("home", 0o755, owner=ATTACKER),
    "parent's parent's parent": chmod(".", 0o775, group=ATTACKER),
    "link to a folder": lambda base: link(base, elsewhere(base, 0o777), "debug/linked"),
    "link to a file in a folder": lambda base: link(base, elsewhere(base, 0o777) / "liba.rlib"),
    "relative link": lambda base: link(
        base, "../../../../../elsewhere/liba.rlib" if elsewhere(base, 0o777) else ""
    ),
    "link to the attacker's": lambda base: link(
        base, elsewhere(base, 0o755, ATTACKER) / "liba.rlib"
    ),
    "link to nothing yet": lambda base: link(base, elsewhere(base, 0o777) / "not yet"),
    "link to nothing yet in a sticky folder": lambda base: link(
        base, elsewhere(base, 0o1777) / "not yet"
    ),
    "chain of links": through_a_chain,
    "link in a sticky folder": in_a_sticky_folder,
    "access control list": lambda base: access_list(base / NAME / FILE),
}
SAFE = {
    "as it is": lambda base: None,
    "of root": chmod(NAME, 0o755, owner=0, group=0),
    "of the group of root": chmod(NAME, 0o775, owner=0, group=0),
    "in a sticky folder": chmod(".", 0o1777),
    "link to a safe folder": lambda base: link(base, elsewhere(base, 0o755), "debug/linked"),
    "link to a safe file": lambda base: link(base, elsewhere(base, 0o755) / "liba.rlib"),
    "link in a circle": lambda base: link(base, base / NAME / "debug", "debug/deps/again"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_files_writable_by_others_are_rejected(base, attack):
    ATTACKS[attack](base)
    found = find(base / NAME)
    assert "can be changed" in found or "who can change it" in found or "circle" in found, found
    assert ". Fix: " in found and str(base) in found
    if attack != "file of the attacker, not writable":  # its owner can make it writable
        assert change(base), "the attack itself did not work"


def test_parent_of_a_link_is_the_targets_parent(base):
    """The target's parent is checked, not the parent in the text of the path."""
    (elsewhere(base, 0o777) / "deep").mkdir(mode=0o755)
    (base / "home/link").symlink_to(base / "elsewhere/deep")
    for path in (base / "elsewhere/deep", base / "home/link"):
        os.chown(path, VICTIM, VICTIM, follow_symlinks=False)
    assert "elsewhere can be changed by every user" in find(base / "home/link/../liba.rlib")
    (base / "elsewhere").chmod(0o755)
    assert find(base / "home/link/../liba.rlib") == "None"
    assert find(base / "home/link/../../home/cache/..") == "None"


@pytest.mark.parametrize("state", SAFE)
def test_files_writable_by_their_owner_only_are_used(base, state):
    SAFE[state](base)
    assert find(base / NAME) == "None"
    assert not change(base)


def test_only_an_empty_lock_may_be_written_by_others(base):
    lock = base / NAME / "debug/wheel.lock"
    lock.touch()
    os.chown(lock, VICTIM, VICTIM)
    lock.chmod(0o666)
    assert find(base / NAME) == "None"
    lock.write_text("not empty")
    assert "wheel.lock can be changed by every user" in find(base / NAME)


def test_fix_is_a_command_that_works(base):
    quoted = base / NAME / "debug/with a 'quote'"
    quoted.mkdir()
    os.chown(quoted, VICTIM, VICTIM)
    quoted.chmod(0o777)
    (base / NAME).chmod(0o777)
    while (found := find(base / NAME)) != "None":
        command = found.split("Fix: ")[1]
        assert run_as(VICTIM, lambda command=command: os.system(command)) == "0"
    assert not change(base)


def test_unreadable_files_are_reported(base):
    """An administrator with the umask 077 leaves such files."""
    for name in ("home/cache", NAME, f"{NAME}/{FILE}", f"{NAME}/debug/deps"):
        path = base / name
        os.chown(path, 0, 0)
        before = path.stat().st_mode
        path.chmod(0o600 if path.is_file() else 0o700)
        found = find(base / NAME)
        assert "cannot be read" in found and "chmod -R a+rX" in found, (name, found)
        path.chmod(before)
    assert find(base / NAME) == "None"


def test_missing_path_has_no_fault(base):
    assert find(base / "home/nothing/here") == "None"
    (base / "home").chmod(0o777)
    assert "can be changed by every user" in find(base / "home/nothing/here")


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_files_of_this_project_are_trusted_for_any_umask(base, umask, readable):
    cache = base / "home/made/deeper/cache"

    def work():
        os.umask(umask)
        trust.make_directory(cache, readable=readable)
        (cache / "folder").mkdir()
        program, text = cache / "folder/program", cache / "folder/text"
        program.touch()
        program.chmod(program.stat().st_mode | 0o4700)
        text.touch()
        (cache / "folder/link").symlink_to(base / "home")
        trust.protect(cache, readable=readable)
        modes = [oct(path.stat().st_mode & 0o7777) for path in (cache, program, text)]
        return trust.find_fault(cache) or " ".join(modes)

    private = umask == 0o077 and not readable
    folder, text = (0o700, 0o600) if private else (0o755, 0o644)
    modes = [int(mode, 8) for mode in run_as(VICTIM, work).split()]
    assert [modes[0], modes[2]] == [folder, text]
    assert modes[1] & 0o7022 == 0 and modes[1] & 0o700 == 0o700
    assert modes[1] & 0o055 == 0o055 or not readable
    assert (base / "home").stat().st_mode & 0o777 == 0o755


@pytest.fixture
def accounts(monkeypatch):
    """Accounts of another machine: users with their primary group, and members of groups."""

    def set_up(users: dict[str, tuple[int, int]], groups: dict[str, tuple[int, list[str]]]):
        people = [
            SimpleNamespace(pw_name=name, pw_uid=ids[0], pw_gid=ids[1])
            for name, ids in {"root": (0, 0), **users}.items()
        ]
        entries = [
            SimpleNamespace(gr_name=name, gr_gid=gid, gr_mem=members)
            for name, (gid, members) in groups.items()
        ]

        def look_up(listed, key):
            def get(number):
                return {getattr(one, key): one for one in listed}[number]

            return get

        monkeypatch.setattr(pwd, "getpwall", lambda: people)
        monkeypatch.setattr(pwd, "getpwuid", look_up(people, "pw_uid"))
        monkeypatch.setattr(grp, "getgrgid", look_up(entries, "gr_gid"))
        trust.has_only_us.cache_clear()

    yield set_up
    trust.has_only_us.cache_clear()


@pytest.mark.parametrize(
    ("groups", "others", "local", "private"),
    [
        ({"ann": (1000, [])}, {}, True, True),
        ({"ann": (1000, ["ann", "root"])}, {}, True, True),
        ({"ann": (1000, ["bob"])}, {"bob": (1001, 1001)}, True, False),
        ({"ann": (1000, [])}, {"bob": (1001, 1000)}, True, False),
        ({"users": (1000, [])}, {}, True, True),
        ({"users": (1000, [])}, {"bob": (1001, 1000)}, True, False),
        # A directory service may not list all members.
        ({"domain users": (1000, [])}, {}, False, False),
        ({"ann": (1000, [])}, {}, False, True),
        ({}, {}, True, False),
        # The process runs with a group that it was started with.
        ({"ann": (1000, [])}, {"ann": (1000, 100)}, True, False),
    ],
)
def test_only_a_group_without_others_may_write(
    accounts, monkeypatch, groups, others, local, private
):
    accounts({"ann": (1000, 1000), **others}, groups)
    monkeypatch.setattr(trust, "accounts_are_local", lambda: local)
    assert trust.has_only_us(1000, 1000) is private

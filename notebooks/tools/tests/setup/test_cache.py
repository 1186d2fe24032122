"""Files in a cache are used, and written, only if no other user can change them, for any umask."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from users import IS_ROOT, REASON, VICTIM, run_as

from wearable_jupyter import doctor
from wearable_jupyter.bootstrap import trust, venv
from wearable_jupyter.kernel import directories, template
from wearable_jupyter.setup import (
    artifact_cache,
    build,
    caches,
    entry_point,
    links,
    offline_bundle,
    paths,
    venvs,
)
from wearable_jupyter.setup.errors import UserError


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The paths of a user's own cache and of a shared one. Neither exists yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.delenv("WEARABLE_CACHE_DIR", raising=False)
    monkeypatch.setattr(caches, "SHARED_CACHE", tmp_path / "shared")
    caches.is_refused.cache_clear()
    yield caches.cache_directory(), caches.SHARED_CACHE
    caches.is_refused.cache_clear()


def make_kernel(cache: Path, ran: Path) -> Path:
    """A kernel's program in a cache. It creates a file when it runs."""
    program = cache / caches.own_evcxr().relative_to(caches.cache_directory())
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    return program


def open_to_others(path: Path) -> None:
    path.chmod(0o777)


def test_kernel_writable_by_others_is_never_run(folders, tmp_path):
    ran = tmp_path / "ran"
    program = make_kernel(folders[0], ran)
    assert caches.evcxr() == program and build.starts(program) and ran.exists()
    ran.unlink()
    for path in (program, program.parent, program.parent.parent, folders[0], folders[0].parent):
        mode = path.stat().st_mode
        open_to_others(path)
        for use in (
            caches.evcxr,
            doctor.kernel_binary,
            build.install_kernel,
            directories.prepare,
        ):
            with pytest.raises(UserError, match="can be changed by every user"):
                use()
        path.chmod(mode)
    assert caches.evcxr() == program and not ran.exists()


def test_shared_kernel_writable_by_others_is_ignored(folders, tmp_path, capsys):
    program = make_kernel(folders[1], tmp_path / "ran")
    assert caches.evcxr() == program
    open_to_others(folders[1])
    caches.is_refused.cache_clear()
    assert caches.evcxr() == caches.evcxr() == caches.own_evcxr()
    stderr = capsys.readouterr().err
    assert stderr.count("Ignoring the shared cache") == 1
    assert f"{folders[1]} can be changed by every user. Fix: chmod go-w {folders[1]}" in stderr


@pytest.fixture
def dependencies(monkeypatch):
    """Compiled dependencies in the user's own cache, with a link like one to a shared cache."""
    compiled = caches.compiled_dependencies()
    for part in build.compiled_parts():
        (compiled / part / "deps").mkdir(parents=True)
    file = compiled / "debug/deps/liba.rlib"
    file.write_text("compiled")
    file.with_name("libb.rlib").symlink_to(file)
    (compiled / artifact_cache.ORIGIN).write_text("{}")
    monkeypatch.setattr(build, "fetch", lambda: None)
    monkeypatch.setattr(build, "has_dependencies", lambda: False)
    monkeypatch.setattr(template, "dependencies_in", lambda folder: None)
    return compiled


USES = [build.provide_dependencies, template.seed, directories.compiled]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__qualname__)
def test_dependencies_writable_by_others_are_not_used(dependencies, use):
    open_to_others(dependencies / "debug/deps/liba.rlib")
    with pytest.raises(UserError, match=r"liba\.rlib can be changed by every user"):
        use()


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__qualname__)
def test_link_to_a_deleted_shared_cache_is_reported(dependencies, use):
    (dependencies / "debug/deps/liba.rlib").unlink()
    with pytest.raises(UserError, match=r"libb\.rlib is a broken link to .*\. Fix: rm -rf"):
        use()


@pytest.mark.parametrize("use", USES[:2], ids=lambda use: use.__qualname__)
def test_incomplete_dependencies_are_reported_without_changes(
    dependencies, use, tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "TARGET", tmp_path / "target")
    monkeypatch.setattr(paths, "TEMPLATE", tmp_path / "target/template")
    (tmp_path / "target/template").mkdir(parents=True)
    shutil.rmtree(dependencies / "debug")
    with pytest.raises(UserError, match=r"is incomplete; debug is missing\. Run: rm -rf"):
        use()
    assert list((tmp_path / "target").rglob("*")) == [tmp_path / "target/template"]


def test_dependencies_deleted_during_setup_are_reported(dependencies, tmp_path, monkeypatch):
    def link(source: Path, target: Path) -> None:
        shutil.rmtree(dependencies)
        os.link(source, target)

    monkeypatch.setattr(links, "link", link)
    with pytest.raises(UserError, match=r"during setup\. Run: ./justw setup"):
        build.link_compiled(dependencies, tmp_path / "linked")


def test_first_safe_cache_is_used(folders, monkeypatch, capsys):
    """The caches contain dependencies that were compiled for other homes."""
    mine = caches.compiled_dependencies().name
    alike = [mine[:-8] + end for end in ("00000001", "00000002")]
    compiled = [cache / name for cache in folders for name in alike]
    for folder in compiled:
        folder.mkdir(parents=True)
        (folder / artifact_cache.ORIGIN).touch()
    for number, folder in enumerate(compiled):
        assert artifact_cache.find_compatible() == folder
        open_to_others(folder)
        caches.is_refused.cache_clear()
        assert artifact_cache.find_compatible() == (compiled[number + 1] if number < 3 else None)
    assert capsys.readouterr().err.count("Ignoring the shared cache") >= 4


def test_packages_writable_by_others_are_not_installed(folders, tmp_path, monkeypatch):
    own = folders[0]
    lock = tmp_path / "lock.txt"
    lock.touch()
    monkeypatch.setattr(paths, "TARGET", tmp_path / "target")
    assert venv.package_cache("uv") == str(own / "uv")
    for name in ("uv", "pip", venv.wheels().name):
        made = own / name / "deep" / "file"
        made.parent.mkdir(parents=True)
        made.touch()
        open_to_others(made)
        if name.startswith("wheels"):
            python = venv.python_version()
            entry = f"{offline_bundle.digest(venv.REQUIREMENTS)} {python}"
            (own / name / venv.WHEEL_INDEX).write_text(entry)
            uses = [venv.wheel_options]
        else:
            uses = [lambda name=name: venv.package_cache(name)]
        if name == "uv":
            uses.append(lambda: venvs.ensure_venv("other", lock))
        for use in uses:
            with pytest.raises(SystemExit, match="deep/file can be changed by every user"):
                use()
        made.chmod(0o644)
        uses[0]()


def test_noexec_cache_is_rejected_before_anything_is_compiled(monkeypatch):
    real = os.statvfs

    def noexec(path):
        found = list(real(path))
        found[8] = os.ST_NOEXEC
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", noexec)
    with pytest.raises(UserError, match="mounted noexec"):
        build.install_kernel()
    with pytest.raises(SystemExit, match="mounted noexec"):
        venv.package_cache("uv")


@pytest.mark.parametrize("chosen", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_cached_files_are_writable_by_their_owner_only(umask, chosen, tmp_path, monkeypatch):
    if chosen:
        monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path / "a" / "b"))
    before = os.umask(umask)
    try:
        with build.locked("part"), build.staging("part") as folder:
            (folder / "part").mkdir()
            (folder / "part" / "file").touch()
            build.move_into_cache(folder / "part", caches.cache_directory() / "part")
    finally:
        os.umask(before)
    file = caches.cache_directory() / "part" / "file"
    assert trust.find_fault(caches.cache_directory()) is None
    modes = [path.stat().st_mode & 0o777 for path in (file, *list(file.parents)[:3])]
    closed = umask == 0o077 and not chosen
    assert modes == ([0o600, 0o700, 0o700, 0o700] if closed else [0o644, 0o755, 0o755, 0o755])


def test_concurrent_result_in_the_cache_is_kept(tmp_path):
    for name in ("staged", "existing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    build.move_into_cache(tmp_path / "staged", tmp_path / "existing")
    assert (tmp_path / "existing" / "file").read_text() == "existing"
    with pytest.raises(FileNotFoundError):
        build.move_into_cache(tmp_path / "staged", tmp_path / "no folder" / "existing")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_files_are_copied_if_links_are_impossible(number, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_text("content")
    monkeypatch.setattr(os, "link", refuse)
    links.link(tmp_path / "file", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "content"
    assert not (tmp_path / "copy").samefile(tmp_path / "file")


def test_copy_never_overwrites_an_existing_file(tmp_path):
    """The file may be linked to a cache."""
    for name in ("cached", "other"):
        (tmp_path / name).write_text(name)
    links.link(tmp_path / "cached", tmp_path / "linked")
    with pytest.raises(FileExistsError):
        links.link(tmp_path / "other", tmp_path / "linked")
    assert (tmp_path / "cached").read_text() == "cached"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_os_error_is_reported_in_one_line(number, capsys):
    def fail():
        raise OSError(number, os.strerror(number), "/some/file")

    assert entry_point.exit_code(fail) == 1
    stderr = capsys.readouterr().err
    expected = f"error: {os.strerror(number)}: /some/file. "
    assert stderr.startswith(expected) and stderr.count("\n") == 1


@pytest.fixture
def home(monkeypatch):
    """A home that belongs to another user."""
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
    own(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    yield folder
    shutil.rmtree(folder)


def own(folder: Path, user: int = VICTIM) -> None:
    os.chown(folder, user, user)
    folder.chmod(0o755)


needs_root = pytest.mark.skipif(not IS_ROOT, reason=REASON)


def take_lock() -> str:
    with build.locked("part"), build.staging("part"):
        return "taken"


@needs_root
def test_lock_file_of_root_still_locks(home):
    cache = home / "cache/wearable_demo"
    cache.mkdir(parents=True)
    own(cache.parent)
    own(cache)
    (cache / ".part.lock").touch(mode=0o644)
    assert run_as(VICTIM, take_lock) == "taken"


@needs_root
@pytest.mark.parametrize(
    "left", ["cache/wearable_demo", "cache/wearable_demo/.part.staging/file", "cache"]
)
def test_files_of_root_in_a_users_cache_are_reported_with_a_fix(home, left):
    """One call of `sudo ./justw` leaves such files."""
    path = home / left
    path.mkdir(parents=True)
    for folder in path.relative_to(home).parents:
        if folder.name:
            own(home / folder)
    if "staging" in left:
        own(path.parent.parent)
        os.chown(path.parent, 0, 0)
    output = run_as(VICTIM, take_lock)
    assert output.startswith("UserError: ") and str(home / "cache") in output, output
    assert "sudo " in output or "could not be created: Permission denied" in output


@needs_root
def test_part_of_uvs_cache_owned_by_root_is_reported(home):
    deep = home / "cache/wearable_demo/uv/wheels/deep"
    deep.mkdir(parents=True)
    for path in (home / "cache", *(home / "cache").rglob("*")):
        own(path)
    os.chown(deep, 0, 0)
    output = run_as(VICTIM, lambda: venv.package_cache("uv"))
    assert f"{deep} belongs to root, and you cannot write there. Fix: sudo chown -hR" in output


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o600])
def test_unreadable_shared_cache_is_ignored_with_a_message(home, mode, monkeypatch):
    """An administrator with the umask 077 has created it."""
    shared = home / "shared"
    monkeypatch.setattr(caches, "SHARED_CACHE", shared)
    program = make_kernel(shared, home / "ran")
    for path in (program, program.parent, program.parent.parent, shared):
        path.chmod(mode if path.is_dir() else mode & 0o600)

    def look() -> str:
        refused = []
        monkeypatch.setattr("builtins.print", lambda text, **_: refused.append(text))
        return f"{caches.evcxr()} {list(caches.in_caches('dependencies-*'))} {refused}"

    output = run_as(VICTIM, look)
    assert output.startswith(f"{home / 'cache'}") and " [] [" in output, output
    assert "cannot be read" in output and "chmod -R a+rX" in output


@needs_root
def test_unwritable_home_is_reported(home):
    home.chmod(0o555)
    output = run_as(VICTIM, take_lock)
    assert (
        "could not be created: Permission denied" in output and "set WEARABLE_CACHE_DIR" in output
    )


def test_comments_do_not_change_the_key(tmp_path, monkeypatch):
    for file in ("Cargo.lock", "Cargo.toml", ".cargo/config.toml", "crates/a/Cargo.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("[profile.dev]\nopt-level = 2\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    key = caches.dependencies_key.__wrapped__("1.95.0")
    for file in ("Cargo.toml", ".cargo/config.toml", "crates/a/Cargo.toml"):
        (tmp_path / file).write_text("# Fast.\n[profile.dev]\nopt-level = 2  # enough\n")
        assert caches.dependencies_key.__wrapped__("1.95.0") == key
        (tmp_path / file).write_text("[profile.dev]\nopt-level = 3\n")
        assert caches.dependencies_key.__wrapped__("1.95.0") != key
        (tmp_path / file).write_text("[profile.dev]\nopt-level = 2\n")


@pytest.mark.parametrize("content", [b"opt-level = ", b"\xff", None])
def test_broken_manifest_is_reported_with_a_fix(tmp_path, content):
    file = tmp_path / "a b" / "Cargo.toml"
    file.parent.mkdir()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"Cargo\.toml could not be read: .*: git checkout '") as e:
        paths.read_toml(file)
    assert "\n" not in str(e.value)

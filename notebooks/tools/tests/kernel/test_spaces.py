"""A clone with a space in its path. evcxr's protocol splits paths at spaces."""

import os

import pytest

from wearable_jupyter.kernel import directories
from wearable_jupyter.setup import paths
from wearable_jupyter.setup.errors import UserError


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    folder = tmp_path / "a clone" / "kernels"
    monkeypatch.setattr(paths, "KERNELS", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("WEARABLE_CACHE_DIR", raising=False)
    return folder


def test_path_without_spaces_is_unchanged(kernels, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "KERNELS", tmp_path / "kernels")
    assert directories.folder() == tmp_path / "kernels"


def test_path_with_a_space_gets_one_link_in_a_private_directory(kernels, tmp_path):
    link = directories.folder()
    assert " " not in str(link) and link.resolve() == kernels.resolve()
    assert link.is_relative_to(tmp_path / "cache") and link.parent.stat().st_mode & 0o777 == 0o700
    assert directories.folder() == link and list(link.parent.iterdir()) == [link]
    link.unlink()
    link.symlink_to("/elsewhere")
    assert directories.folder().resolve() == kernels.resolve()


def test_cache_with_a_space_or_writable_by_others_is_not_used(kernels, monkeypatch, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    assert directories.folder().is_relative_to(runtime)
    folder = runtime / f"wearable_demo-{os.getuid()}"
    folder.chmod(0o777)
    assert not directories.folder().is_relative_to(runtime)


def test_missing_place_for_a_link_is_reported(kernels, monkeypatch):
    monkeypatch.setattr(directories, "is_private", lambda folder: False)
    with pytest.raises(UserError, match=r"contains a space.*Set WEARABLE_CACHE_DIR"):
        directories.folder()

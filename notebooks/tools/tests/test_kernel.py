"""Kernels: each alone in its directory, on the workspace's versions, and gone afterwards."""

import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest

from wearable_jupyter import layout, runner

pytestmark = pytest.mark.usefixtures("nothing_left")

LOAD = f':dep wearable_demo = {{ path = "{layout.ROOT}/crates/wearable_demo" }}'


def packages(lock: str) -> set[tuple[str, str]]:
    """Name and version of every package of a Cargo.lock that comes from a registry."""
    return {(p["name"], p["version"]) for p in tomllib.loads(lock)["package"] if "source" in p}


def test_a_kernel_uses_the_versions_of_the_workspace(notebook):
    show = (
        'println!("{}", std::fs::read_to_string('
        'std::path::Path::new(&std::env::var("EVCXR_TMPDIR").unwrap()).join("Cargo.lock")'
        ").unwrap());"
    )
    result = runner.run(notebook(LOAD, "use wearable_demo::prelude::*;", show))
    assert result.failure is None, result.failure
    used = packages(runner.stream(result.executed.cells[2], "stdout"))
    locked = packages((layout.ROOT / "Cargo.lock").read_text())
    assert ("polars", dict(locked)["polars"]) in used
    assert len(used) > 300
    assert used <= locked


def test_kernels_at_once_do_not_run_each_others_code(notebook):
    """Each cell of each notebook prints something that only it knows."""

    def cells(name: str) -> list[str]:
        return [f'println!("{name} {i}");' for i in range(12)]

    names = ("one", "two", "three")
    paths = [notebook(*cells(name), name=name) for name in names]
    with ThreadPoolExecutor(len(paths)) as pool:
        results = list(pool.map(runner.run, paths))
    for name, result in zip(names, results, strict=True):
        assert result.failure is None, result.failure
        printed = [runner.stream(cell, "stdout") for cell in result.executed.cells]
        assert printed == [f"{name} {i}\n" for i in range(12)]

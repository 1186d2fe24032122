"""The doctor reports each fault with the command that fixes it."""

import shutil
from pathlib import Path

import nbformat
import pytest

from wearable_jupyter import doctor
from wearable_jupyter.runner import smoke, strict_run
from wearable_jupyter.setup import build, caches, dataset, errors, paths, toolchain


def finding(subject: str) -> doctor.Finding:
    return next(f for f in doctor.findings() if f.subject == subject)


def test_every_check_passes_after_setup():
    for found in doctor.findings():
        assert found.ready or found.subject == "data", found


@pytest.mark.parametrize(
    ("subject", "fix"), [("kernel", "./justw setup"), ("dependencies", "./justw setup")]
)
def test_empty_cache_is_reported(subject, fix, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = finding(subject)
    assert not found.ready and fix in found.detail


def test_kernel_binary_that_does_not_start_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    binary = caches.evcxr()
    binary.parent.mkdir(parents=True)
    binary.write_text("not a program")
    binary.chmod(0o755)
    assert "does not start. Run: ./justw setup" in finding("kernel").detail
    assert not build.starts(binary)


def test_incomplete_dependencies_are_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caches.compiled_dependencies().mkdir(parents=True)
    assert "Delete it and run" in finding("dependencies").detail


def test_missing_c_compiler_is_reported(monkeypatch, tmp_path):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "cc" else real(name))
    assert "build-essential" in finding("Rust").detail


def test_missing_toolchain_component_is_reported_and_setup_installs_it(monkeypatch, tmp_path):
    """The doctor only reports it. Setup runs rustup, independent of rustup's settings."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "rustfmt").touch()
    calls = []
    monkeypatch.setattr(toolchain, "sysroot", lambda: tmp_path)
    monkeypatch.setattr(build, "rustup", lambda *arguments: calls.append(arguments))
    assert "lacks clippy, rust-src. Run: ./justw setup" in finding("Rust").detail
    assert not calls
    build.prerequisites()
    (command,) = calls
    assert command[:2] == ("component", "add") and set(command[-2:]) == {"clippy", "rust-src"}


def test_missing_rustup_is_reported(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(errors.UserError, match=r"rustup is needed for `rustup component add x`"):
        build.rustup("component", "add", "x")


def test_dataset_without_a_table_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert finding("data").ready is None
    assert "./justw data small" in finding("data").detail
    (tmp_path / "sensor_hrv").mkdir()
    (tmp_path / "sensor_hrv" / "part-00000.parquet").touch()
    (tmp_path / "user_profile.parquet").touch()
    assert finding("data").ready is False
    (tmp_path / "sleep_diary.parquet").touch()
    assert finding("data").ready


def test_partitioned_dataset_is_found(monkeypatch, tmp_path):
    for name in ("sensor_hrv/date=2024-01-01", "sensor_hrv/date=2024-01-02"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "part-00000.parquet").touch()
    for name in ("user_profile", "sleep_diary"):
        (tmp_path / f"{name}.parquet").touch()
    monkeypatch.setenv("WEARABLE_DATA_DIR", str(tmp_path))
    found = finding("data")
    assert found.ready and "2 sensor parts" in found.detail
    monkeypatch.setattr(dataset, "make", lambda size: pytest.fail("the dataset exists"))
    dataset.ensure()


def test_relative_data_or_output_directory_is_rejected(monkeypatch):
    """Each program would search for it in another working directory."""
    monkeypatch.setenv("WEARABLE_OUTPUT_DIR", "results")
    with pytest.raises(errors.UserError, match="WEARABLE_OUTPUT_DIR must be an absolute path"):
        dataset.ensure()
    monkeypatch.delenv("WEARABLE_OUTPUT_DIR")
    monkeypatch.setenv("WEARABLE_DATA_DIR", "~/data")
    found = finding("data")
    assert found.ready is False and "WEARABLE_DATA_DIR must be an absolute path" in found.detail
    for command in (dataset.ensure, lambda: dataset.make("small")):
        with pytest.raises(errors.UserError, match="but it is '~/data'"):
            command()


def test_directory_of_a_killed_kernel_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "KERNELS", tmp_path)
    (tmp_path / "4194305-1").mkdir()  # larger than any process ID on Linux
    assert "1 directories of killed kernels are left" in finding("kernels").detail


def test_missing_item_that_the_first_use_creates_is_not_a_failure(monkeypatch, capsys):
    created_later = [doctor.Finding("data", None, "no dataset yet")]
    monkeypatch.setattr(doctor, "findings", lambda: created_later)
    assert doctor.report() == 0 and "· data" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "findings", lambda: [doctor.Finding("data", False, "half")])
    assert doctor.report() == 1


def test_kernel_that_cannot_start_is_reported(monkeypatch, tmp_path):
    """Here, its program ends at once."""
    program = tmp_path / "evcxr"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    library = tmp_path / "wearable_demo" / caches.evcxr().relative_to(caches.cache_directory())
    library.parent.mkdir(parents=True)
    library.symlink_to(program)
    for compiled in caches.cache_directory().glob("dependencies-*"):
        (tmp_path / "wearable_demo" / compiled.name).symlink_to(compiled)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(errors.UserError, match="a new kernel does not work"):
        doctor.running_kernel()


def run(printed: str, *failures: tuple[int | None, str]) -> strict_run.Result:
    """Fake a run of the two cells."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("")]
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=printed)]
    return strict_run.Result(Path("smoke.ipynb"), failures=dict(failures), executed=notebook)


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (run("42\n", (1, "thread panicked: a cell that must fail")), None),
        (run("42\n"), "it passed"),
        (run("42\n", (1, "something else")), "something else"),
        (run("", (1, "a cell that must fail")), "printed ''"),
        (run("42\n", (0, "no report")), "no report"),
        (run("42\n", (None, "the kernel died")), "the kernel died"),
    ],
)
def test_smoke_cells_must_pass_and_fail_as_intended(result, fault):
    found = smoke.find_fault(result)
    assert found is None if fault is None else fault in found

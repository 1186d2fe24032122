"""The progress of cargo, from its messages."""

import itertools
import json
import os
import threading
import time

import pytest

from wearable_jupyter.kernel import template
from wearable_jupyter.setup import build, errors, progress

INDEX = "registry+https://github.com/rust-lang/crates.io-index"


def artifact(package: str, kind: str = "lib", fresh: bool = False) -> str:
    target = {"kind": [kind], "name": "any"}
    message = {"reason": "compiler-artifact", "package_id": package, "target": target}
    return json.dumps(message | {"fresh": fresh})


def test_own_crates_are_found_among_output_of_build_scripts(tmp_path):
    """With -vv, cargo prints the output of build scripts between its messages."""
    library = tmp_path / "libours.rlib"
    for made in (library, tmp_path / "libours.so", tmp_path / "libours.d"):
        made.touch()
    ours = {"package_id": f"path+file://{tmp_path}#ours@0.1.0", "filenames": [str(library)]}
    theirs = {"package_id": f"{INDEX}#serde@1.0.228", "filenames": [str(library)]}
    lines = ["[serde 1.0.228] cargo:rustc-cfg=x", json.dumps(theirs), json.dumps(ours)]
    found = template.own_crates("\n".join(lines))
    assert found == [library, tmp_path / "libours.so"]


@pytest.fixture
def seconds(monkeypatch):
    packages = {"polars-ops": 90.0, "serde": 9.0}
    monkeypatch.setattr(progress, "SECONDS", {"each_other": 1.0, "packages": packages})


def test_package_counts_once_and_when_it_is_compiled(seconds):
    task = progress.Task("dependencies", total=3, work=100.0)
    task.read_message(artifact(f"{INDEX}#serde@1.0.228", kind="custom-build"))
    assert not task.done and task.seconds_left() is None
    for line in (
        artifact(f"{INDEX}#serde@1.0.228"),
        artifact(f"{INDEX}#serde@1.0.228"),  # for the host, too
        json.dumps({"reason": "build-script-executed", "package_id": f"{INDEX}#other@1.0.0"}),
        "a line that is no message",
    ):
        task.read_message(line)
    assert str(task) == "dependencies: 1 of 3 packages"
    assert (task.compiled, task.work_done, task.work_left) == (1, 9.0, 91.0)


def test_estimate_uses_the_speed_of_this_machine(seconds):
    task = progress.Task("dependencies", total=3, work=100.0)
    task.started = time.monotonic() - 30
    # A package from an interrupted setup is done, but its time is unknown.
    task.read_message(artifact("path+file:///any/where/plain#1.0.0", fresh=True))
    assert task.compiled == 0 and task.seconds_left() is None
    task.read_message(artifact(f"{INDEX}#serde@1.0.228"))
    assert task.seconds_left() == pytest.approx(90.0 * 30 / 9, rel=0.01)
    with progress.reporting(task):
        assert progress.status_line() == "dependencies: 2 of 3 packages; about 5 min left"
        # No message for two minutes: a large package is being compiled.
        task.started, task.last_artifact = task.started - 120, task.last_artifact - 120
        assert progress.status_line() == "dependencies: 2 of 3 packages; about 3 min left"
    assert not progress.running


def test_estimate_is_for_concurrent_tasks_together(seconds):
    """Each of two tasks has half of the cores, until one of them ends."""
    first, second = (progress.Task(name, total=9, work=100.0) for name in ("first", "second"))
    with progress.reporting(second):
        with progress.reporting(first):
            for task in (first, second):
                task.started = time.monotonic() - 60
                task.read_message(artifact(f"{INDEX}#serde@1.0.228"))
            # 18 of 200 seconds of work took 60 s, so 182 take ten minutes.
            assert progress.status_line().endswith("about 10 min left")
        # 91 seconds of work are left.
        assert progress.status_line() == "second: 1 of 9 packages; about 5 min left"
    with progress.reporting(progress.Task("third", total=9, work=100.0)):
        assert progress.status_line() == "third: 0 of 9 packages"


def test_kernel_and_dependencies_are_compiled_concurrently(monkeypatch):
    both = threading.Barrier(2)
    monkeypatch.setattr(build, "install_kernel", lambda jobs: both.wait(10))
    build.compile_all(lambda jobs: both.wait(10))

    def fail(jobs):
        raise errors.UserError("no compiler")

    # The other one still ends.
    done = []
    monkeypatch.setattr(build, "install_kernel", fail)
    with pytest.raises(errors.UserError, match="no compiler"):
        build.compile_all(lambda jobs: time.sleep(0.1) or done.append("workspace"))
    assert done == ["workspace"]


@pytest.mark.parametrize("programs, cores, most", [(2, 2, 1), (1, 2, 2), (2, 4, 3)])
def test_cargo_runs_only_as_many_compilers_as_it_may(
    programs, cores, most, tmp_path, monkeypatch, capfd
):
    """While another program compiles, cargo leaves it a core."""
    names = [f"p{number}" for number in range(6)]
    (tmp_path / "Cargo.toml").write_text(f"[workspace]\nresolver = '3'\nmembers = {names}\n")
    for name in names:
        (tmp_path / name / "src").mkdir(parents=True)
        (tmp_path / name / "src/lib.rs").touch()
        (tmp_path / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\n')
    wrapper, log = tmp_path / "wrapper.sh", tmp_path / "log"
    wrapper.write_text(
        '#!/bin/sh\ncase "$*" in *--crate-name\\ p*) ;; *) exec "$@" ;; esac\n'
        f'echo 1 >> "{log}"; sleep 0.4; "$@"; result=$?; echo -1 >> "{log}"; exit $result\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setattr(build.platform, "cores", lambda: cores)
    monkeypatch.setattr(build.cargo_configuration, "jobs", lambda *_: None)
    jobs = build.Jobs(programs)
    try:
        build.run_with_progress(
            progress.Task("test", len(names), 1.0),
            jobs,
            "build",
            cwd=tmp_path,
            RUSTC_WRAPPER=str(wrapper),
            CARGO_TARGET_DIR=str(tmp_path / "target"),
        )
    finally:
        jobs.close()
    running = list(itertools.accumulate(map(int, log.read_text().split())))
    assert len(running) == 2 * len(names) and max(running) == most
    assert "jobserver" not in capfd.readouterr().err


def test_users_limit_for_compilers_is_kept(tmp_path, monkeypatch):
    """On a machine with little memory, for example."""
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    monkeypatch.setattr(build.platform, "cores", lambda: 8)
    for setting, tokens in (("", 6), ("jobs = 3", 1), ("jobs = 1", 0), ('jobs = "default"', 6)):
        (tmp_path / "config.toml").write_text(f"[build]\n{setting}\n")
        jobs = build.Jobs(2)
        os.set_blocking(jobs.pipe[0], False)
        try:
            assert len(os.read(jobs.pipe[0], 100) if tokens else b"") == tokens, setting
        finally:
            jobs.close()


@pytest.mark.parametrize(
    "identity, name",
    [
        (f"{INDEX}#polars-ops@0.55.2", "polars-ops"),
        ("path+file:///any/where/plain#0.1.0", "plain"),
        ("path+file:///any/where#called-otherwise@0.1.0", "called-otherwise"),
    ],
)
def test_package_name_is_parsed_from_its_id(identity, name):
    assert progress.package_name(identity) == name

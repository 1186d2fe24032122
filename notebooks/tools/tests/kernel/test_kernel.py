"""Each kernel has its own directory, which is removed at its end, and the workspace's versions."""

import json
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from wearable_jupyter.bench import measure
from wearable_jupyter.kernel import template
from wearable_jupyter.runner import output_tags, strict_run
from wearable_jupyter.setup import caches, errors, paths

pytestmark = pytest.mark.usefixtures("nothing_left")

LOAD = f':dep wearable_demo = {{ path = "{paths.ROOT}/crates/wearable_demo" }}'


SHOW_LOCK = (
    'println!("{}", std::fs::read_to_string('
    'std::path::Path::new(&std::env::var("EVCXR_TMPDIR").unwrap()).join("Cargo.lock")'
    ").unwrap());"
)


def packages(lock: str) -> set[tuple[str, str]]:
    """Name and version of every package of a Cargo.lock that comes from a registry."""
    return {(p["name"], p["version"]) for p in tomllib.loads(lock)["package"] if "source" in p}


def assert_of_the_workspace(lock: str) -> None:
    used = packages(lock)
    locked = packages((paths.ROOT / "Cargo.lock").read_text())
    assert ("polars", dict(locked)["polars"]) in used
    assert len(used) > 300
    assert used <= locked


def test_kernel_uses_the_versions_of_the_workspace(notebook):
    result = strict_run.run(notebook(LOAD, "use wearable_demo::prelude::*;", SHOW_LOCK))
    assert result.failure is None, result.failure
    assert_of_the_workspace(output_tags.stream(result.executed.cells[2], "stdout"))


def test_generation_shows_one_progress_bar(notebook, tmp_path):
    """In the messages during the run, and in the notebook afterwards."""
    generate = f"""
    let options = GenerateOptions::new(Size::Rows(4_000_000), {json.dumps(str(tmp_path / "data"))});
    println!("{{}}", generate_dataset_with_progress(&options, &mut print_progress)?);
    """
    result = strict_run.run(notebook(f"{LOAD}\nuse wearable_demo::prelude::*;", generate))
    assert result.failure is None, result.failure
    bar, outcome = output_tags.stream(result.executed.cells[1], "stdout").splitlines()
    assert bar == f"sensor_hrv {'█' * 30} 100 %, 4,000,000 of 4,000,000 rows"
    assert outcome.startswith("4000000 sensor rows")

    manager, client = start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS))
    texts = []

    def collect(message):
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    try:
        client.execute_interactive(f"{LOAD}\nuse wearable_demo::prelude::*;", timeout=60)
        client.execute_interactive(generate, output_hook=collect, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert len(texts) > 3, f"all at once: {texts}"
    assert "".join(texts).count("\r") == 21 and "".join(texts).count("\n") == 2


def test_kernels_at_once_do_not_run_each_others_code(notebook):
    """Each cell of each notebook prints a different text."""

    def cells(name: str) -> list[str]:
        return [f'println!("{name} {i}");' for i in range(12)]

    names = ("one", "two", "three")
    paths = [notebook(*cells(name), name=name) for name in names]
    with ThreadPoolExecutor(len(paths)) as pool:
        results = list(pool.map(strict_run.run, paths))
    for name, result in zip(names, results, strict=True):
        assert result.failure is None, result.failure
        printed = [output_tags.stream(cell, "stdout") for cell in result.executed.cells]
        assert printed == [f"{name} {i}\n" for i in range(12)]


def test_disconnecting_clients_do_not_end_a_kernel():
    """Jupyter's server does this while a kernel restarts: it sends a request and disconnects."""
    manager = KernelManager(kernel_name="rust")
    manager.start_kernel(cwd=str(paths.NOTEBOOKS))
    client = manager.client()
    try:
        for _ in range(5):
            for connect in (manager.connect_shell, manager.connect_control):
                asking = connect()
                for _ in range(50):
                    client.session.send(asking, "kernel_info_request")
                time.sleep(0.2)
                asking.close(linger=1000)
        client.start_channels()
        client.wait_for_ready(timeout=60)
        assert measure.printed(client, 'println!("still here");') == "still here\n"
        assert manager.is_alive()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_restarted_kernel_replies_on_its_ports():
    manager, client = start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS))
    try:
        for n in range(3):
            manager.restart_kernel(now=n % 2 == 0)
            client.wait_for_ready(timeout=60)
            assert measure.printed(client, f'println!("{n}");') == f"{n}\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_dependency_added_in_one_of_two_kernels(notebook):
    """One kernel adds a package of the lock file; the other, which is running, does not see it.

    All versions stay those of the workspace's lock file, even after a cell before the first `:dep`.
    """
    prelude = "use wearable_demo::prelude::*;"
    adding = notebook(
        'println!("nothing loaded yet");',
        f"{LOAD}\n{prelude}",
        'let before = df!["x" => [1i64]]?;',
        ':dep either = "1"',
        "use either::Either;\nlet side: Either<i32, &str> = Either::Left(before.height() as i32);",
        'println!("{side:?}");',
        SHOW_LOCK,
        name="adding",
    )
    not_adding = notebook(
        f"{LOAD}\n{prelude}",
        *(f'println!("other {i}");' for i in range(10)),
        "use either::Either;",
        name="not_adding",
    )
    with ThreadPoolExecutor(2) as pool:
        added, other = pool.map(strict_run.run, (adding, not_adding))
    assert added.failure is None, added.failure
    assert output_tags.stream(added.executed.cells[5], "stdout") == "Left(1)\n"
    assert_of_the_workspace(output_tags.stream(added.executed.cells[6], "stdout"))
    assert list(other.failures) == [11] and "either" in other.failure
    printed = [output_tags.stream(cell, "stdout") for cell in other.executed.cells[1:11]]
    assert printed == [f"other {i}\n" for i in range(10)]


def test_dependency_that_does_not_compile_is_reported(notebook):
    """cargo cannot create its directory at the first `:dep`."""
    target = 'std::path::Path::new(&std::env::var("EVCXR_TMPDIR").unwrap()).join("target")'
    path = notebook(
        f"{LOAD}\nuse wearable_demo::prelude::*;",
        f'std::fs::rename({target}, {target}.with_extension("aside")).unwrap(); '
        f'std::fs::write({target}, "").unwrap();',
        ':dep either = "1"',
    )
    result = strict_run.run(path)
    assert list(result.failures) == [2]
    assert "error: File exists: " in result.failure
    assert result.failure.count("./justw setup") == 1 and "Traceback" not in result.failure


def test_cell_may_remove_all_environment_variables(notebook):
    remove = "unsafe { std::env::remove_var(name) }"
    path = notebook(
        f"for (name, _) in std::env::vars_os() {{ {remove} }}",
        'println!("{}", std::env::vars_os().count());',
        'panic!("seen")',
    )
    result = strict_run.run(path)
    assert list(result.failures) == [2] and "seen" in result.failure
    assert output_tags.stream(result.executed.cells[1], "stdout") == "0\n"


def test_edit_of_the_library_reaches_the_next_kernel_only():
    source = paths.LIBRARY / "src" / "lib.rs"
    committed = source.read_text()
    cell = f"{LOAD}\nuse wearable_demo::prelude::*;"
    code = 'println!("{}", wearable_demo::edited());'
    running = []

    def start():
        running.append(start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS)))
        client = running[-1][1]
        measure.printed(client, cell)
        return client

    try:
        before = start()
        source.write_text(f"{committed}\n/// For a test.\npub fn edited() -> u32 {{ 7 }}\n")
        assert measure.printed(start(), code) == "7\n"
        measure.printed(before, 'let frame = df!["x" => [1i64, 2]]?;')
        assert measure.printed(before, 'println!("{}", frame.height());') == "2\n"
        with pytest.raises(errors.UserError, match="edited"):
            measure.printed(before, code)
    finally:
        source.write_text(committed)
        for manager, client in running:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def test_dependencies_of_another_lock_are_not_used(monkeypatch):
    monkeypatch.setattr(caches, "dependencies_key", lambda: "0" * 16)
    with pytest.raises(errors.UserError, match=r"not compiled\. Run: \./justw setup"):
        template.build()

"""Unmodified Jupyter clients run the kernel that `./justw install-kernel` installs.

They run in their own virtual environment, with the packages of another JupyterLab and without
ours. A failing cell must fail there, too, with its message.
"""

import json
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient

from wearable_jupyter.kernel import install
from wearable_jupyter.setup import paths
from wearable_jupyter.setup.venvs import ensure_venv

pytestmark = pytest.mark.usefixtures("nothing_left")

HERE = Path(__file__).parent
KILL = 'std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status()?;'
LOAD = f':dep wearable_demo = {{ path = "{paths.LIBRARY}" }}\nuse wearable_demo::prelude::*;'
# The failing code of a cell, and the expected message.
FAILING = {
    "question-mark": ('let n: i32 = "x".parse()?;', "invalid digit found in string"),
    "ensure": (f'{LOAD}\nensure(1 == 2, "one is two")?;', "This does not hold: one is two"),
    "panic": ('panic!("no way");', "no way"),
    "compile-error": ("let n: i32 = true;", "mismatched types"),
    "exit": ("std::process::exit(0);", "exit status: 0"),
    "killed": (KILL, "It was killed"),
}
NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook).execute()
finally:
    nbformat.write(notebook, sys.argv[2])
"""
CLIENTS = {
    "nbclient": ("python", "-c", NBCLIENT, "{notebook}", "{executed}"),
    "nbconvert": (
        *("python", "-m", "nbconvert", "--to", "notebook", "--execute", "{notebook}"),
        *("--output", "{executed}"),
    ),
    "papermill": ("papermill", "{notebook}", "{executed}"),
    "nbmake": ("pytest", "--nbmake", "-p", "no:cacheprovider", "{notebook}"),
}


@pytest.fixture(scope="session")
def other():
    """The `bin` of a virtual environment with its own Jupyter."""
    return ensure_venv("other-jupyter", HERE / "clients.txt")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The kernel, installed for a user whose Jupyter folder belongs to the test."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    install.install()
    return tmp_path / "share" / "kernels" / install.NAME


def write_notebook(path: Path, code: str) -> Path:
    spec = {"name": install.NAME, "display_name": "Rust", "language": "rust"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": spec})
    for source in ('println!("fine");', code, 'println!("after");'):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    nbformat.write(notebook, path)
    return path


# All clients run cells with nbclient, so one other failure shows that they pass failures on.
FAILURES = [(client, kind) for client in CLIENTS for kind in FAILING]
QUICK = [(client, kind) for client, kind in FAILURES if client == "nbclient" or kind == "killed"]


@pytest.mark.parametrize(
    "failures", [QUICK, pytest.param(FAILURES, marks=pytest.mark.long)], ids=["quick", "all"]
)
def test_every_client_stops_at_the_failing_cell(failures, installed, other, tmp_path):
    def run(client: str, kind: str) -> tuple[str, str, subprocess.CompletedProcess, Path]:
        notebook = write_notebook(
            tmp_path / f"{client}_{kind.replace('-', '_')}.ipynb", FAILING[kind][0]
        )
        executed = notebook.with_suffix(".executed.ipynb")
        command = [part.format(notebook=notebook, executed=executed) for part in CLIENTS[client]]
        result = subprocess.run(
            [other / command[0], *command[1:]], capture_output=True, text=True, cwd=tmp_path
        )
        return client, kind, result, executed

    with ThreadPoolExecutor(3) as pool:
        for client, kind, result, executed in pool.map(lambda one: run(*one), failures):
            printed = result.stdout + result.stderr
            assert result.returncode != 0, f"{client} is green on {kind}: {printed}"
            assert FAILING[kind][1] in printed, (client, kind, printed)
            if executed.is_file():
                cells = [c for c in nbformat.read(executed, 4).cells if c.cell_type == "code"]
                shown = ["error" in {o.output_type for o in cell.outputs} for cell in cells]
                assert shown == [False, True, False], (client, kind)
                assert [cell.execution_count for cell in cells] == [1, 2, None]


@pytest.mark.parametrize("client", CLIENTS)
def test_notebook_without_a_fault_passes(installed, other, tmp_path, client):
    notebook = write_notebook(tmp_path / "fine.ipynb", 'eprintln!("a warning"); 1 + 1')
    command = [
        part.format(notebook=notebook, executed=tmp_path / "executed.ipynb")
        for part in CLIENTS[client]
    ]
    result = subprocess.run(
        [other / command[0], *command[1:]], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_editor_without_the_users_path_starts_the_kernel(installed, tmp_path):
    """Like an editor with its own Jupyter client: only from the kernelspec, without a shell."""
    spec = json.loads((installed / "kernel.json").read_text())
    assert spec["language"] == "rust" and all("{" in a or a for a in spec["argv"])
    assert Path(spec["argv"][0]).is_absolute()
    connection = {"transport": "tcp", "ip": "127.0.0.1", "signature_scheme": "hmac-sha256"}
    connection["key"] = "editors-own"
    held = []
    for channel in ("shell", "control", "stdin", "hb", "iopub"):
        held.append(socket.socket())
        held[-1].bind(("127.0.0.1", 0))
        connection[f"{channel}_port"] = held[-1].getsockname()[1]
    for each in held:
        each.close()
    file = tmp_path / "connection.json"
    file.write_text(json.dumps(connection))
    argv = [part.replace("{connection_file}", str(file)) for part in spec["argv"]]
    environment = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
    environment |= {n: os.environ[n] for n in ("CARGO_HOME", "XDG_CACHE_HOME") if n in os.environ}
    kernel = subprocess.Popen(
        argv, cwd=tmp_path, env=environment | {"PATH": "/usr/bin:/bin"}, start_new_session=True
    )
    client = BlockingKernelClient(connection_file=str(file))
    try:
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        printed = []
        reply = client.execute_interactive(
            'println!("from an editor");',
            timeout=60,
            output_hook=lambda m: printed.append(m["content"].get("text")),
        )
        assert reply["content"]["status"] == "ok" and "from an editor\n" in printed
        client.shutdown()
        kernel.wait(30)
    finally:
        client.stop_channels()
        kernel.kill()
        kernel.wait()


def test_kernel_can_be_uninstalled(installed, capsys):
    assert (installed / "kernel.json").is_file()
    install.install(remove=True)
    assert not installed.exists() and "Removed" in capsys.readouterr().out
    install.install(remove=True)
    assert "nothing to remove" in capsys.readouterr().out

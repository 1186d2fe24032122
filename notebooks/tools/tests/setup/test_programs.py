"""The workspace's programs start with any path of clone and toolchain, built by any cargo."""

import json
import os
import subprocess

from wearable_jupyter.bootstrap import command_environment, platform
from wearable_jupyter.setup import build, links, paths, toolchain


def test_program_with_a_wrong_rpath_finds_the_standard_library(tmp_path, monkeypatch, capfd):
    """If clone and toolchain are in one home, rustc's rpath from `deps/` is one folder too deep."""
    here = f"{toolchain.host()}/debug"
    home = tmp_path / "deeper/than/any/clone"
    (home / here).mkdir(parents=True)
    for name in ("generate_demo_data", platform.shared_library(paths.CRATE)):
        links.link(paths.TARGET / here / name, home / here / name)
    program = home / here / "generate_demo_data"
    without = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
    alone = subprocess.run([program, "--help"], env=without, capture_output=True, text=True)
    assert alone.returncode != 0 and "libstd" in alone.stderr

    monkeypatch.setattr(paths, "TARGET", home)
    build.run_binary(program.name, "--help")
    assert "--rows" in capfd.readouterr().out


def artifacts(environment: dict[str, str]) -> dict[str, bool]:
    """The files that `cargo build` creates, and whether each one was up to date."""
    ran = subprocess.run(
        [toolchain.cargo(), "build", "--workspace", "--message-format=json"],
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    messages = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    built = [message for message in messages if message["reason"] == "compiler-artifact"]
    return {name: message["fresh"] for message in built for name in message["filenames"]}


def test_plain_cargo_and_our_commands_build_the_same_files():
    ours = artifacts(toolchain.cargo_environment())
    plain = artifacts(command_environment.tool_environment())
    assert plain == dict.fromkeys(ours, True)

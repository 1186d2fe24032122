"""The commands behind the justfile's recipes, and their arguments."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from . import development, doctor
from .bootstrap.venv import BUNDLE_VARIABLE
from .kernel import install, template
from .runner import commands, smoke
from .runner.strict_run import CELL_SECONDS
from .setup import dataset, offline_bundle


def setup(bundle: str | None, dependencies: bool) -> None:
    # justw has had it taken already, for the Python packages in it.
    if bundle is not None and not os.environ.get(BUNDLE_VARIABLE):
        offline_bundle.install(Path(bundle))
    if dependencies:
        template.prepare_dependencies()
        return
    template.prepare()
    print("Running two cells in a new kernel", flush=True)
    smoke.check_kernel()
    print("Everything is ready: ./justw lab, ./justw run or ./justw test")


def bench(what: str, rounds: int | None) -> None:
    from .bench import generate, measure, queries  # what they need is for development only

    work = {
        "kernel": measure.kernel,
        "lab": measure.lab,
        "queries": queries.queries,
        "generate": generate.generate,
    }
    work[what](*([rounds] if rounds else []))


def cluster(options: list[str]) -> int | None:
    from .cluster import recipe  # seldom wanted

    return recipe.command(options)


def seconds(text: str) -> int:
    """A time limit. Without one, a cell could run forever."""
    number = int(text)
    if number <= 0:
        raise ValueError
    return number


def directory(text: str) -> Path:
    return Path(text).resolve()


def parser() -> argparse.ArgumentParser:
    # No abbreviations: `--upd` must not overwrite what is expected.
    new_parser = partial(argparse.ArgumentParser, allow_abbrev=False)
    commands_parser = new_parser(prog="wearable_jupyter", description=__doc__)
    table = commands_parser.add_subparsers(dest="command", required=True, parser_class=new_parser)

    def command(name: str, work, text: str) -> argparse.ArgumentParser:
        added = table.add_parser(name, help=text)
        added.set_defaults(work=work)
        return added

    def with_notebooks(name: str, work, text: str) -> argparse.ArgumentParser:
        added = command(name, work, text)
        added.add_argument(
            "names",
            nargs="*",
            metavar="notebook",
            help="a path, or the name of one of the project's notebooks; all of those if none",
        )
        added.add_argument(
            "--cell-seconds",
            type=seconds,
            default=CELL_SECONDS,
            dest="limit",
            metavar="SECONDS",
            help=f"a cell's time limit, {CELL_SECONDS} if not given",
        )
        # The recipes pass it, because just changes the directory.
        added.add_argument("--caller", type=directory, default=Path.cwd(), help=argparse.SUPPRESS)
        return added

    ready = command("setup", setup, "install and compile everything")
    ready.add_argument("--from", dest="bundle", metavar="FILE", help="a bundle, instead")
    ready.add_argument(
        "--dependencies",
        action="store_true",
        help="only what other people's packages make, for an image or a cache for many users",
    )
    packed = command(
        "offline-bundle", offline_bundle.create, "write a set-up into one file, for other machines"
    )
    packed.add_argument(
        "--toolchain",
        action="store_true",
        dest="with_toolchain",
        help="with the Rust toolchain",
    )
    command("doctor", doctor.report, "say what is ready and what is not")
    kernel = command(
        "install-kernel", install.install, "install the kernel for the user's other Jupyters"
    )
    kernel.add_argument("--remove", action="store_true", help="take it away again")
    with_notebooks("run", commands.run, "run notebooks, write them and their HTML")
    check = with_notebooks("check", commands.check, "run notebooks, and compare what they show")
    check.add_argument("--update", action="store_true", help="keep what is shown as expected")
    html = with_notebooks("html", commands.to_html, "write notebooks as HTML")
    html.add_argument("--slides", action="store_true", help="slides of reveal.js")
    html.add_argument("--no-code", action="store_true", help="without the cells' code")
    data = command("data", dataset.make, "write a dataset")
    data.add_argument("size", nargs="?", default="small")
    data.add_argument("options", nargs=argparse.REMAINDER, help="the generator's own")
    measured = command("bench", bench, "measure, beside the same in Python")
    measured.add_argument("what", choices=["kernel", "lab", "queries", "generate"])
    measured.add_argument("--rounds", type=int)
    command("fmt", development.fmt, "format everything")
    command("lint", development.lint, "check formats and lints")
    command("test", development.test, "run all tests; options go to pytest")
    command("cluster", cluster, "start a cluster, query it, test it or measure it")
    return commands_parser


# What follows these is another program's.
PASSING_ON = ("test", "cluster")


def main() -> int | None:
    ours = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in PASSING_ON else sys.argv[1:]
    given = vars(parser().parse_args(ours))
    if given.pop("command") in PASSING_ON:
        given["options"] = sys.argv[2:]
    return given.pop("work")(**given)

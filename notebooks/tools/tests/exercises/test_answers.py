"""Starters, wrong answers and solutions of all exercises, in real kernels.

All variants run in one kernel: the given code of a task, then the code and the check of each
variant in a cell.
"""

import re

import nbformat
import pytest

from wearable_jupyter.exercises import notebooks, sources
from wearable_jupyter.runner import output_tags, strict_run
from wearable_jupyter.setup import build, paths

TASKS = sources.tasks()
# Seeds of the datasets. Each takes more than a minute.
SEEDS = [42, pytest.param(7, marks=pytest.mark.long)]


def variants():
    """The cells of all variants, with the text that each must show."""
    for task in TASKS:
        if task.given is not None:
            yield f"given-{task.number}", task.given, None
        for name, code, shown in (
            ("starter", task.starter, rf"○ Exercise {task.number}, .*: not attempted\."),
            *((wrong.name, wrong.code, wrong.feedback.pattern) for wrong in task.wrong),
            ("solution", task.solution, rf"✓ Exercise {task.number}, .*: correct\."),
        ):
            name = f"{task.number}-{re.sub('[^a-z0-9]+', '-', name.lower())}"
            yield name, f"{code}\n{task.check()}", shown
        yield f"hint-{task.number}", f"exercise({task.number})?.hint(1)", rf"Hint 1 of {task.hints}"
        shown = "A solution of exercise"
        yield f"solution-{task.number}", f"exercise({task.number})?.solution()", shown


@pytest.fixture(scope="module", params=SEEDS, ids="seed-{}".format)
def executed(request, tmp_path_factory):
    """The text that each variant shows on a small dataset with this seed, by the cell's id."""
    folder = tmp_path_factory.mktemp("answers")
    options = ("--size", "small", "--seed", str(request.param), "--output-dir", f"{folder}/data")
    build.run_binary("generate_demo_data", *options)
    made = notebooks.notebook(TASKS[:1])
    made.cells = [c for c in made.cells if c.id in ("load-library", "data")]
    made = notebooks.with_library(made, paths.toml_string(paths.LIBRARY))
    made.cells += [notebooks.code(name, code) for name, code, _ in variants()]
    nbformat.write(made, folder / "variants.ipynb")
    result = strict_run.run(
        folder / "variants.ipynb",
        environment={
            "WEARABLE_DATA_DIR": f"{folder}/data",
            "WEARABLE_OUTPUT_DIR": f"{folder}/outputs",
        },
    )
    assert result.failure is None, result.failure
    return {
        cell.id: "".join(output_tags.outputs(cell, "text/plain")) for cell in result.executed.cells
    }


def test_each_answer_gets_its_feedback(executed):
    expected = {name: shown for name, _, shown in variants() if shown}
    different = {
        name: (shown, executed[name])
        for name, shown in expected.items()
        if not re.search(shown, executed[name])
    }
    assert not different
    wrong = [name for task in TASKS for name in task.wrong]
    assert len(TASKS) == 10 and len(wrong) >= 30

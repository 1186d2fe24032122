"""The real nbgrader grades a right, a wrong and an empty submission with this project's kernel.

nbgrader runs in an environment of its own, as on a grader's machine, with the installed kernel.
"""

import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest

from wearable_jupyter.exercises import nbgrader, sources
from wearable_jupyter.kernel import install
from wearable_jupyter.setup.venvs import ensure_venv

pytestmark = pytest.mark.usefixtures("nothing_left")

ASSIGNMENT = "exercises_02a"
TASKS = [task for task in sources.tasks() if task.walkthrough.startswith("02a")]
# The score of each graded cell, by submission and by the cell's id.
SCORES = """
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as gradebook:
    print(json.dumps({
        submission.student.id: {
            grade.name: grade.score for book in submission.notebooks for grade in book.grades
        }
        for submission in gradebook.assignment_submissions(sys.argv[1])
    }))
"""


def answered(cells: list[nbformat.NotebookNode], codes: dict[int, str]) -> None:
    """Write answers into the cells for them."""
    for number, code in codes.items():
        (cell,) = (cell for cell in cells if cell.id == f"task-{number:02}-answer")
        cell.source = code


def test_scores_of_right_wrong_and_empty_submissions(tmp_path, small_data, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "share"))
    monkeypatch.setenv("WEARABLE_DATA_DIR", str(small_data))
    monkeypatch.setenv("WEARABLE_OUTPUT_DIR", str(tmp_path / "outputs"))
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    install.install()
    programs = ensure_venv("nbgrader", Path(__file__).with_name("nbgrader.txt"))
    course = tmp_path / "course"
    nbgrader.write_course(course, tmp_path)

    def run(*command: str) -> str:
        result = subprocess.run(
            [programs / command[0], *command[1:]],
            cwd=course,
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    # Both assignments follow nbgrader's format.
    for name in nbgrader.assignments():
        run("nbgrader", "generate_assignment", name)
    released = course / "release" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    assert "SOLUTION" not in released.read_text()
    submissions = {
        "right": {task.number: task.solution for task in TASKS},
        "wrong": {task.number: task.wrong[0].code for task in TASKS},
        "empty": {},
    }
    for student, codes in submissions.items():
        submitted = nbformat.read(released, 4)
        answered(submitted.cells, codes)
        if student == "wrong":
            # nbgrader restores locked cells.
            for cell in submitted.cells:
                if cell.id.endswith("-check"):
                    cell.source = "1 + 1"
        path = course / "submitted" / student / ASSIGNMENT / released.name
        path.parent.mkdir(parents=True)
        nbformat.write(submitted, path)
    run("nbgrader", "autograde", ASSIGNMENT)

    scores = json.loads(run("python", "-c", SCORES, ASSIGNMENT))
    points = {f"task-{task.number:02}-check": float(task.points) for task in TASKS}
    assert scores == {
        "right": points,
        "wrong": dict.fromkeys(points, 0.0),
        "empty": dict.fromkeys(points, 0.0),
    }
    executed = nbformat.read(course / "autograded" / "wrong" / ASSIGNMENT / released.name, 4)
    shown = {c.id: c.outputs[-1].evalue for c in executed.cells if c.id in points}
    for task in TASKS:
        assert task.wrong[0].feedback.search(shown[f"task-{task.number:02}-check"])

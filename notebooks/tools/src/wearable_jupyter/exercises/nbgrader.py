"""Writes the exercises as a course for nbgrader: assignments with solutions, points, locked cells.

nbgrader removes the code between `BEGIN SOLUTION` and `END SOLUTION` from the students' version.
The cell after an answer is graded: it fails unless the answer is correct. Before grading, nbgrader
restores all cells except the answers.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ..kernel import install
from ..runner import clean
from ..setup import paths
from . import notebooks
from .learner import create_all, own_folder
from .sources import Task

KERNELSPEC = install.SPEC | {"name": install.NAME}
CONFIGURATION = "nbgrader_config.py"
# nbgrader has no text for Rust that replaces a solution.
STUB = "// Your answer:"
CONFIGURATION_TEXT = f'''"""Configuration of nbgrader: see https://nbgrader.readthedocs.io"""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "wearable_demo"
c.ClearSolutions.code_stub = {{"rust": "{STUB}"}}
# Students with another path of the library change the first code cell; grading restores it.
c.LockCells.lock_readonly_cells = False
# The kernel loads the library, and the second cell generates the dataset.
c.ExecutePreprocessor.startup_timeout = 120
c.ExecutePreprocessor.timeout = 300
'''


def graded(cell: NotebookNode, *, points: int | None = None, answer: bool = False) -> NotebookNode:
    """`cell` with nbgrader's metadata: an answer, a cell with points, or a locked cell."""
    cell.metadata["nbgrader"] = {
        "grade": points is not None,
        "grade_id": cell.id,
        "locked": not answer,
        "schema_version": 3,
        "solution": answer,
        "task": False,
    } | ({} if points is None else {"points": points})
    return cell


def task_cells(task: Task) -> list[NotebookNode]:
    """The cells of a task in the instructor's version."""
    text, *code = notebooks.task_cells(task)
    cells = [graded(text)]
    for cell in code:
        if cell.id.endswith("-answer"):
            cell.source = f"{task.starter}\n// BEGIN SOLUTION\n{task.solution}\n// END SOLUTION"
            cells.append(graded(cell, answer=True))
        elif cell.id.endswith("-check"):
            cell.source = f"{task.check('grade')}?"
            cells.append(graded(cell, points=task.points))
        elif cell.id.endswith("-given"):
            cells.append(graded(cell))
        else:
            cells.append(cell)
    return cells


def assignment(tasks: list[Task]) -> NotebookNode:
    """The instructor's version of the notebook of one walkthrough."""
    metadata = {"kernelspec": {k: KERNELSPEC[k] for k in ("display_name", "language", "name")}}
    made = nbformat.v4.new_notebook(metadata=metadata | {"language_info": clean.LANGUAGE})
    made.cells = [graded(cell) for cell in notebooks.setup_cells(tasks)]
    for task in tasks:
        made.cells += task_cells(task)
    return notebooks.with_library(made, paths.toml_string(paths.LIBRARY))


def assignments() -> dict[str, NotebookNode]:
    """The assignments by their names."""
    return {name: assignment(tasks) for name, tasks in notebooks.tasks_by_notebook().items()}


def write_course(folder: Path, caller: Path) -> None:
    """Write the course into `folder`, and print the next step. Keeps existing files."""
    folder = own_folder(folder)
    texts = {folder / CONFIGURATION: CONFIGURATION_TEXT}
    names = []
    for name, made in assignments().items():
        names.append(name)
        texts[folder / "source" / name / f"{name}.ipynb"] = clean.serialized(made)
    create_all(texts)
    print(
        "Install the kernel for nbgrader with `./justw install-kernel`. Then create the students' "
        f"version in {folder}: nbgrader generate_assignment {names[0]}",
        flush=True,
    )

"""The exercise notebooks are generated, and every part of a source is required."""

import re

import nbformat
import pytest

from wearable_jupyter import development
from wearable_jupyter.exercises import nbgrader, notebooks, sources
from wearable_jupyter.setup import errors, paths

TASKS = sources.tasks()
SOURCE = (sources.FOLDER / "03_write_sql.md").read_text()


def test_committed_notebooks_equal_their_sources(monkeypatch):
    development.check_exercises()
    changed = {path: f"{text} " for path, text in notebooks.files().items()}
    monkeypatch.setattr(notebooks, "files", lambda: changed)
    with pytest.raises(errors.UserError, match=r"exercises_02a\.ipynb.*--update-notebooks"):
        development.check_exercises()


def test_library_embeds_every_source():
    text = (paths.LIBRARY / "src" / "exercises.rs").read_text()
    embedded = re.findall(r'include_str!\("\.\./exercises/(.+)"\)', text)
    assert embedded == sorted(path.name for path in sources.FOLDER.glob("[0-9]*.md"))


def test_each_task_has_an_answer_a_check_and_commented_hints():
    made = notebooks.all_notebooks()
    assert list(made) == ["exercises_02a", "exercises_02b"]
    cells = {cell.id: cell.source for each in made.values() for cell in each.cells}
    for task in TASKS:
        name = f"task-{task.number:02}"
        assert f"## {task.number}. {task.title}" in cells[name]
        assert f"let answer_{task.number} = not_attempted();" in cells[f"{name}-answer"]
        assert cells[f"{name}-check"].endswith(f".check(&answer_{task.number})")
        help_lines = cells[f"{name}-help"].splitlines()
        assert len(help_lines) == task.hints + 1
        assert all(line.startswith("// exercise(") for line in help_lines)
        # The expected result and the solution are not in the notebook.
        assert task.solution not in "\n".join(cells.values())


def test_notebook_of_students_has_no_solution_and_locks_all_but_answers():
    for name, made in nbgrader.assignments().items():
        nbformat.validate(made)
        settings = {c.id: c.metadata["nbgrader"] for c in made.cells if "nbgrader" in c.metadata}
        assert all(s["locked"] != s["solution"] for s in settings.values())
        tasks = [t for t in TASKS if notebooks.notebook_name(t.walkthrough) == name]
        assert sum(s.get("points", 0) for s in settings.values()) == sum(t.points for t in tasks)
        for cell in made.cells:
            begin, end = (cell.source.count(f"// {word} SOLUTION") for word in ("BEGIN", "END"))
            is_answer = settings.get(cell.id, {}).get("solution", False)
            assert begin == end == int(is_answer)
            if cell.id == "load-library":
                assert f'path = "{paths.LIBRARY}"' in cell.source


@pytest.mark.parametrize(
    ("part", "other", "reason"),
    [
        ("---\n", "", "two lines `---`"),
        ("points: 2\n", "", "`points` is missing"),
        ("points:", "point:", "unknown settings: point"),
        ("## Starter", "## Start", "unknown section `## Start`"),
        ("## Wrong: the sum", "## Wrong: without WHERE", "same name"),
        ("Feedback: `The SQL", "Feedback: The SQL", "has no line ``Feedback"),
        ("let answer_3 = not", "let answer = not", "`## Starter` does not define `answer_3`"),
        ("let given_3", "let given", "`## Given` does not define `given_3`"),
        ("```rust\nlet answer_3 = given", "```\nlet answer_3 = given", "has no Rust block"),
        ("let key =", "\n\n\n\nlet key =", "more than 10 lines"),
    ],
)
def test_incomplete_source_is_reported(tmp_path, part, other, reason):
    file = tmp_path / "03_write_sql.md"
    file.write_text(SOURCE)
    assert sources.parse(3, file) == next(task for task in TASKS if task.number == 3)
    assert part in SOURCE
    file.write_text(SOURCE.replace(part, other, 1))
    with pytest.raises(errors.UserError, match=r"03_write_sql\.md is not valid") as raised:
        sources.parse(3, file)
    assert reason in str(raised.value)


def test_gap_in_the_numbers_is_reported(tmp_path):
    (tmp_path / "02_write_sql.md").write_text(SOURCE)
    with pytest.raises(errors.UserError, match="must begin with 01"):
        sources.tasks(tmp_path)

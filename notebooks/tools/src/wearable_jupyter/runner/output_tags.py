"""What a cell's tags promise, and whether its outputs keep it."""

from nbformat import NotebookNode

from ..export.charts import MIME as CHART
from .streams import without_colors

# Jupyter's own tag for a cell that is meant to fail.
FAILS = "raises-exception"
# Jupyter's own tag for a cell that does not run.
SKIPPED = "skip-execution"


def outputs(cell: NotebookNode, mime: str) -> list:
    """What the cell shows in `mime`."""
    return [o.data[mime] for o in cell.outputs if "data" in o and mime in o.data]


def stream(cell: NotebookNode, name: str) -> str:
    """What the cell printed to stdout or stderr."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == name)


PROMISES = {
    "shows-table": lambda cell: any("<table" in html for html in outputs(cell, "text/html")),
    "shows-chart": lambda cell: any(chart.get("data") for chart in outputs(cell, CHART)),
    "shows-picture": lambda cell: any("<svg" in html for html in outputs(cell, "text/html")),
    "shows-source": lambda cell: any("```rust" in text for text in outputs(cell, "text/markdown")),
    "shows-text": lambda cell: bool(
        stream(cell, "stdout").strip() or "".join(outputs(cell, "text/plain")).strip()
    ),
}


def fault(cell: NotebookNode) -> str | None:
    """Why an executed cell counts as failed, or None."""
    tags = cell.metadata.get("tags", [])
    errors = [o for o in cell.outputs if o.output_type == "error"]
    if FAILS in tags:
        return None if errors else f"it is tagged to fail ({FAILS}) and does not"
    if errors:
        return "\n".join(
            without_colors("\n".join(e.traceback) or f"{e.ename}: {e.evalue}") for e in errors
        )
    for tag in tags:
        if tag.startswith("shows-") and tag not in PROMISES:
            return f"its tag {tag} is none of {', '.join(PROMISES)}"
        if tag in PROMISES and not PROMISES[tag](cell):
            shown = [m for o in cell.outputs for m in o.get("data", {o.output_type: None})]
            return f"it promises an output ({tag}) and does not show it; it shows: " + (
                ", ".join(shown) or "nothing"
            )
    return None

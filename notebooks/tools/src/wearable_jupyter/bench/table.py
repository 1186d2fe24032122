"""Print measurements as a table and as bars on one scale."""

from dataclasses import dataclass

BAR = 40  # characters of the longest bar


@dataclass
class Row:
    """Seconds of one measurement in Rust and, if measured, in Python.

    `paired` is the median of the ratios per round, if rounds were paired.
    """

    what: str
    rust: float
    python: float | None = None
    paired: float | None = None

    def ratio(self) -> str:
        """Return Rust time divided by Python time as text; empty without a Python time."""
        if self.python is None:
            return ""
        return f"{self.rust / self.python:.1f}" if self.paired is None else f"{self.paired:.2f}"


def show(rows: list[Row]) -> None:
    """Print a table, then bars on one scale."""
    print(f"\n{'seconds':<32}{'Rust':>8}{'Python':>8}{'ratio':>8}")
    for row in rows:
        python = "" if row.python is None else f"{row.python:.2f}"
        print(f"{row.what:<32}{row.rust:>8.2f}{python:>8}{row.ratio():>8}")
    longest = max(max(row.rust, row.python or 0) for row in rows)
    print()
    for row in rows:
        for name, seconds in (("Rust", row.rust), ("Python", row.python)):
            if seconds is not None:
                bar = "█" * max(round(BAR * seconds / longest), 1)
                print(f"{row.what if name == 'Rust' else '':<32}{name:<7}{bar} {seconds:.2f}")

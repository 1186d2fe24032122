"""Maps addresses in a compiled cell to lines of its source, by its DWARF line tables."""

from bisect import bisect_right
from pathlib import Path

from .source_map import Place


def called(compiled: Path, addresses: str) -> Place | None:
    """The position of the innermost of these hexadecimal addresses that is in the cell's source.

    A cell also contains generic code of other sources. None if it has no line tables.
    """
    from elftools.common.exceptions import ELFError  # loading it takes a moment
    from elftools.elf.elffile import ELFFile

    try:
        with compiled.open("rb") as file:
            rows = sorted(table_of(ELFFile(file).get_dwarf_info()))
    except (OSError, ELFError):
        return None
    starts = [row[0] for row in rows]
    for address in addresses.split():
        before = bisect_right(starts, int(address, 16)) - 1
        if before >= 0 and rows[before][1] == "lib.rs":
            return Place(*rows[before][2:])
    return None


def table_of(debug_information):
    """All rows of the line tables: address, file name, line and column."""
    for unit in debug_information.iter_CUs():
        program = debug_information.line_program_for_CU(unit)
        if program is None:
            continue
        # File numbers start at 1 before DWARF 5.
        first = 0 if program["version"] >= 5 else 1
        for entry in program.get_entries():
            if (state := entry.state) is not None:
                name = ""
                if not state.end_sequence:
                    name = program["file_entry"][state.file - first].name.decode()
                yield state.address, name, state.line, state.column

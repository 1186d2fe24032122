"""Maps errors to positions in the cell, and shortens type names."""

import pytest

from wearable_jupyter.kernel import failure
from wearable_jupyter.kernel.source_map import Place, locate, shown

CELL = """\
:dep either = "1"
// what it is for
use either::Either;
fn twice(x: i32) -> i32 {
    check(x)?;
    2 * x
}
let a = 1; let b = twice(a);
check(a)?;
check(b)?;
check(a)?;

match a {
    1 => {
        check(a)?;
    }
    _ => {}
}
a + b"""

# The source that evcxr generates: items first, then the statements, each at the start of a line.
GENERATED = """\
#![allow(unused_imports, unused_mut, dead_code)]
use either::Either;
fn older() {
    check(7)?;
}
fn twice(x: i32) -> i32 {
    check(x)?;
    2 * x
}
mod evcxr_internal_runtime {
}
pub extern "C" fn run_user_code_3(
match kernel_cell::run_catching_panics(3, kernel_cell::run_uninterruptible,
  std::panic::AssertUnwindSafe(||{
let _ = (|| -> std::result::Result<(), EvcxrUserCodeError> {
let a = 1; 
let b = twice(a);
check(a)?;
check(b)?;
check(a)?;

match a {
    1 => {
        check(a)?;
    }
    _ => {}
}
(
a + b
).evcxr_display();
Ok(())})();
"""


@pytest.mark.parametrize(
    ("line", "column", "found"),
    [
        (7, 5, (5, 5)),  # in a function of this cell
        (4, 5, None),  # in a function of an earlier cell
        (16, 9, (8, 9)),
        (17, 9, (8, 20)),  # the second statement of a line
        (18, 1, (9, 1)),
        (20, 1, (11, 1)),  # the same text as two lines above
        (24, 9, (15, 9)),
        (29, 1, (19, 1)),
        (15, 1, None),
        (999, 1, None),
        (0, 0, None),
    ],
)
def test_lines_are_found_in_the_cell(line, column, found):
    assert locate(CELL, GENERATED, Place(line, column)) == (found and Place(*found))


def test_line_is_shown_with_its_column():
    assert shown("a\n\tb?", Place(2, 2), "In[3]") == [
        " --> In[3]:2:2",
        "  |",
        "2 | \tb?",
        "  | \t^",
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wearable_demo::error::Error", "wearable_demo::Error"),
        ("polars_error::PolarsError", "PolarsError"),
        ("std::io::error::Error", "io::Error"),
        ("core::fmt::Error", "fmt::Error"),
        ("core::num::error::ParseIntError", "ParseIntError"),
        ("alloc::boxed::Box<dyn core::error::Error>", "Box<dyn Error>"),
        ("ctx::Error", "Error"),
        ("&str", "&str"),
        ("alloc::string::String", "String"),
    ],
)
def test_type_names_are_short(path, name):
    assert failure.short_type(path) == name

"""The parser splits a cell's text by evcxr's own rules."""

import pytest

from wearable_jupyter.kernel import cell_code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \t\n",
        "\xa0\n\u3000",
        "// a comment",
        "/// a doc comment",
        "//! another\r\n",
        "  // indented",
        "/* one /* nested */ still */",
        "/** doc */ // and more",
        ";;",
        ":dep itoa",
        "  :help",
        "// comment\n\n:dep itoa\r\n:vars\n",
        "!ls",
        ":dep itoa\n/* only a comment */",
        "::",
        "::std::mem::drop(1)",  # evcxr reads it as a command
    ],
)
def test_cell_without_rust_code(text):
    assert not cell_code.read(text).has_rust


@pytest.mark.parametrize(
    "text",
    [
        "1",
        ":dep itoa\n1",
        "!ls\nuse std::fmt;",
        "/* a */ 1",
        "/* a /* b */ */ fn f() {}",
        "\t:help",  # evcxr allows only spaces before a command
        " !ls",
        "1\n:help",
        '"// no comment"',
        "/",
        "#![allow(unused)]",
        "\ufeff",
        "\x1c",
        "}",
        "/// doc\nfn f() {}",
        "\u2028let x = 1;",
    ],
)
def test_cell_with_rust_code(text):
    assert cell_code.read(text).has_rust


def test_commands_precede_the_code():
    read = cell_code.read(':dep a = "1"\n  :offline 0 \n!ls -l\n:offline 1\n1;\n:offline 0')
    assert read.commands == [
        (":dep", 'a = "1"'), (":offline", "0 "), ("!", "ls -l"), (":offline", "1")
    ]  # fmt: skip
    assert read.setting(":offline") == "1" and read.setting(":opt") is None and read.has_shell


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("let = 1;", "pattern"),
        ("let", "pattern"),
        ("let x = 1; let;", "pattern"),
        ("#[a] let = 2;", "pattern"),
        ("'a: loop { break 'a }; let: u8 = 1;", "pattern"),
        ("let c = '{'; let = 1;", "pattern"),
        ("let c = '\\''; let = 1;", "pattern"),
        ('let c = "}\\"{"; let = 1;', "pattern"),
        ('let c = r##"}"#{"##; let = 1;', "pattern"),
        ("/* { */ let = 1;", "pattern"),
        ("extern crate ;", "crate"),
        ("let x = 1; extern crate", "crate"),
        ("}", "delimiter"),
        (" ; } fn f() {", "delimiter"),
        ("/* open", "comment"),
        ("// a\n  /* open /* */", "comment"),
        ("(" * 201 + "1", "nested"),
        ("{[(" * 100 + ")]}" * 100, "nested"),
        (":env =x", "NAME=VALUE"),
        (":build_env   =x", "NAME=VALUE"),
        (":env a\0b=c", "NUL"),
        (":build_env a=\0", "NUL"),
    ],
)
def test_code_that_evcxr_drops_or_panics_at_has_a_fault(text, fault):
    assert fault in cell_code.read(text).fault


@pytest.mark.parametrize(
    "text",
    [
        "let x = 1;",
        "(" * 200 + "1" + ")" * 200,
        "();" * 1000,
        '"' + "(" * 1000 + '"',
        "if let Some(x) = y {}",
        "while let Some(x) = y {}",
        "m!(let = 3);",
        "{ let }",
        'let s = "let = 1;";',
        "// let = 1;\n1",
        "let x = 1; // let = 2",
        "extern crate itoa;",
        "extern crate itoa as other;",
        "fn f<'a>(x: &'a str) -> &'a str { x }",
        "let r#let = 1;",
        "let _ = 'l'; let x = 2;",
        ":env a=b",
        ":env a==",
        '"open',
        'r#"open',
        "'",
        "\\",
    ],
)
def test_valid_text_has_no_fault(text):
    read = cell_code.read(text)
    assert read.fault is None and read.sent == text


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("\tlet 🙂 = 1;", "let 🙂 = 1;"),
        (" let é = 1;\n  let ü = 2;", "let é = 1;\n  let ü = 2;"),
        ("; let é = 1;", "let é = 1;"),
        ("  // ü\r\n\n\tlet é = 1;", "\n\nlet é = 1;"),
        (":dep itoa\n/* a\nb */ let é = 1;", ":dep itoa\n\nlet é = 1;"),
        ("  #[allow(unused)] let é = 1;", "#[allow(unused)] let é = 1;"),
        ("  let e = 1;", "  let e = 1;"),
        ("  fn é() {}", "  fn é() {}"),
        ("  letter(é)", "  letter(é)"),
    ],
)
def test_first_let_is_moved_to_the_start_of_a_line(text, sent):
    read = cell_code.read(text)
    assert read.sent == sent and read.sent.count("\n") == text.count("\n")

"""Code that cells may contain: redefined types, edited `impl` blocks, return, input and output."""

import re

import pytest
from test_failures import Kernel, shown, started, stopped

DROPPED = "The variable `{}` was dropped because its type changed."


@pytest.fixture(scope="module")
def kernel():
    """A kernel without the library."""
    kernel = started()
    yield kernel
    stopped(kernel)


def passes(kernel: Kernel, code: str, stdout: str = "", stderr: str = "") -> None:
    """Run a cell that must pass with exactly this output."""
    ended = kernel.run(code)
    assert (ended.status, ended.errors) == ("ok", [])
    assert (ended.stdout, ended.stderr) == (stdout, stderr)


def fails(kernel: Kernel, code: str, *parts: str) -> None:
    """Run a cell that must fail with these parts in its error."""
    text = shown(kernel.run(code))
    for part in parts:
        assert part in text


REDEFINED = [
    ("plain", "struct A0 { v: i64 }", "struct A0 { v: f64 }", "A0 { v: 1 }"),
    ("text", "struct A1 { v: String }", "struct A1 { v: [usize; 3] }", 'A1 { v: "a".into() }'),
    ("container", "struct A2 { v: i64 }", "struct A2 { v: f64 }", "vec![Some(A2 { v: 1 })]"),
    ("tuple", "struct A3(u8);", "struct A3(i8);", "(1, std::rc::Rc::new(A3(1)))"),
    ("enum", "enum A4 { X(i32), Y }", "enum A4 { X(f32), Y }", "A4::X(1)"),
    ("nested", "struct A5(B5); struct B5(u32);", "struct B5(f32);", "A5(B5(1))"),
    ("generic", "struct A6<T>(T); struct B6(u32);", "struct B6(f32);", "A6(B6(1))"),
    ("alias", "type B7 = u32; struct A7(B7);", "type B7 = f32;", "A7(1)"),
    ("array", "const N8: usize = 2; struct A8([u8; N8]);", "const N8: usize = 3;", "A8([1, 2])"),
    (
        "module",
        "mod m9 { pub struct A(pub u32); }",
        "mod m9 { pub struct A(pub f32); }",
        "m9::A(1)",
    ),
    (
        "object",
        "trait T10 { fn a(&self) -> u8; } struct A10; impl T10 for A10 { fn a(&self) -> u8 { 1 } }",
        "trait T10 { fn b(&self) -> u16 { 2 } fn a(&self) -> u8; }",
        "{ let made: Box<dyn T10> = Box::new(A10); made }",
    ),
    (
        "any",
        "struct A11(u32);",
        "struct A11(f32);",
        "{ let made: Box<dyn std::any::Any> = Box::new(A11(1)); made }",
    ),
    (
        "function",
        "struct A12(u32);",
        "struct A12(f32);",
        "{ let made: Box<dyn Fn(A12) -> u32> = Box::new(|a| a.0); made }",
    ),
]


@pytest.mark.parametrize(
    ("name", "before", "after", "value"), REDEFINED, ids=[case[0] for case in REDEFINED]
)
def test_variable_of_a_redefined_type_is_dropped(kernel, name, before, after, value):
    passes(kernel, f"{before}\nlet {name}_old = {value}; let {name}_other = 5;")
    # No dependency of the variable has changed.
    passes(kernel, f"struct Other{name}; {{ let _kept = &{name}_old; }}")
    passes(kernel, after)
    fails(kernel, f"{{ let _gone = &{name}_old; }}", DROPPED.format(f"{name}_old"))
    passes(kernel, f'println!("{{{name}_other}}");', "5\n")


def test_variable_of_an_unchanged_type_stays(kernel):
    passes(kernel, "struct Kept { v: i64 }\nlet kept = Kept { v: 3 };")
    passes(kernel, "/// A comment\n#[derive(Debug)]\nstruct Kept {\n    v: i64, // another\n}")
    passes(kernel, 'impl Kept { fn v(&self) -> i64 { self.v } }\nprintln!("{}", kept.v());', "3\n")
    passes(kernel, "impl Kept { fn v(&self) -> i64 { self.v + 1 } }")
    passes(kernel, 'println!("{}", kept.v());', "4\n")
    # Change the type, and change it back.
    passes(kernel, "struct Kept { v: u8 }\nimpl Kept { fn v(&self) -> i64 { 0 } }")
    passes(kernel, "struct Kept { v: i64 }")
    passes(kernel, 'println!("{}", kept.v);', "3\n")


def test_cell_that_redefines_a_type_and_its_variable_can_run_again(kernel):
    for field, value in (("i64", "1"), ("f64", "1.5"), ("i64", "2")):
        passes(kernel, f"struct Again {{ v: {field} }}\nlet again = Again {{ v: {value} }};")
        passes(kernel, 'println!("{}", again.v);', f"{value}\n")


def test_edited_impl_replaces_the_earlier_one(kernel):
    passes(kernel, "struct Cat; struct Box2<T>(T);\ntrait Speak { fn speak(&self) -> String; }")
    for word in ("miaow", "purr", "miaow"):
        body = f'{{ fn speak(&self) -> String {{ "{word}".into() }} }}'
        passes(kernel, f"impl Speak for Cat {body}")
        passes(kernel, f'impl Cat {{ fn twice(&self) -> String {{ "{word}".repeat(2) }} }}')
        passes(kernel, 'println!("{} {}", Cat.speak(), Cat.twice());', f"{word} {word * 2}\n")
        passes(kernel, f"impl<T> Speak for Box2<T> where T: Copy {body}")
        passes(kernel, 'println!("{}", Box2(1).speak());', f"{word}\n")
    with_struct = 'struct Cat;\nimpl Speak for Cat { fn speak(&self) -> String { "third".into() } }'
    passes(kernel, with_struct)
    passes(kernel, 'println!("{}", Cat.speak());', "third\n")
    fails(
        kernel,
        "#[derive(Clone)] struct Two;\nimpl Clone for Two { fn clone(&self) -> Two { Two } }",
        "E0119",
    )


@pytest.mark.parametrize(
    "question", ["", 'let _n: i32 = "1".parse()?;\n'], ids=["plain", "question-mark"]
)
def test_return_statement_ends_the_cell(kernel, question):
    passes(kernel, "let stays = 7; let none: Option<i32> = None;")
    for code in (
        "if stays == 7 { return; }",
        "let Some(_x) = none else { return };",
        "return Ok(());",
        "match stays { 7 => return Ok(()), _ => {} }",
        "loop { return; }",
    ):
        passes(kernel, f'{question}let early = 1;\n{code}\nlet late = 2; println!("not here");')
        fails(kernel, 'println!("{early}");', "cannot find value `early`")
        fails(kernel, 'println!("{late}");', "cannot find value `late`")
        passes(kernel, 'println!("{stays}");', "7\n")
    for code, message in (
        ('return Err("one");', "one"),
        ('return Err("two".into());', "two"),
        ('return Err("three")?;', "three"),
        ('fn four() -> Result<(), String> { Err("four".into()) }\nreturn four();', "four"),
    ):
        fails(kernel, question + code, message)
    passes(kernel, "let doubled: Vec<i32> = [1].iter().map(|x| { return x * 2; }).collect();")
    passes(kernel, 'println!("{doubled:?} {stays}");', "[2] 7\n")


def test_output_that_is_not_utf8_is_replaced(kernel):
    write = 'use std::io::Write; std::io::{}().write_all(b"caf\\xe9\\n\\xff")?;'
    passes(kernel, write.format("stdout"), "caf\ufffd\n\ufffd")
    passes(kernel, write.format("stderr"), "", "caf\ufffd\n\ufffd")
    child = r'std::process::Command::new("printf").arg("\\351 \\303\\251\\n").status()?;'
    passes(kernel, child, "\ufffd é\n")
    passes(kernel, 'println!("out"); eprintln!("err");', "out\n", "err\n")
    ended = kernel.run('print!("{}", "x".repeat(2_000_000)); println!();')
    assert (ended.status, len(ended.stdout)) == ("ok", 2_000_001)


def test_stdin_of_a_cell_is_empty(kernel):
    passes(kernel, "let before = 1;")
    read = 'let mut line = String::new(); println!("{}", std::io::stdin().read_line(&mut line)?);'
    passes(kernel, f"{{ {read} }}", "0\n")
    passes(kernel, 'println!("{:?}", std::process::Command::new("cat").output()?.stdout);', "[]\n")
    passes(
        kernel,
        f"std::thread::spawn(|| -> std::io::Result<()> {{ {read} Ok(()) }}).join().unwrap()?;",
        "0\n",
    )
    passes(kernel, 'println!("{before}");', "1\n")


def test_fork_does_not_report_for_its_parent(kernel):
    passes(kernel, 'unsafe extern "C" { fn fork() -> i32; }\nlet forked = unsafe { fork() };')
    passes(kernel, 'println!("{}", forked > 0);', "true\n")


def test_names_are_found_however_they_are_written(kernel):
    passes(kernel, "let r#type = 5; let caf\u00e9 = 6; let e\u0301te = 7;")
    passes(kernel, 'println!("{} {} {}", r#type, cafe\u0301, \u00e9te);', "5 6 7\n")


def test_types_that_evcxr_names_without_their_paths(kernel):
    passes(kernel, "let caught = std::panic::catch_unwind(|| 1);")
    passes(kernel, 'println!("{caught:?}");', "Ok(1)\n")
    passes(kernel, "let shown = Box::new(5) as Box<dyn std::fmt::Debug>;")
    passes(kernel, 'println!("{shown:?}");', "5\n")


@pytest.mark.parametrize(
    "command",
    [
        ":cache 500",
        ":allow_static_linking 0",
        ":build_env RUSTC_WRAPPER=/bin/true",
        ":opt 0",
        ":preserve_vars_on_panic 0",
        ":preserve_vars_on_panic 1",
    ],
)
def test_commands_that_change_compilation_hide_no_failure(kernel, command):
    passes(kernel, f"{command}\nlet fresh = 1;", "", "")
    text = shown(kernel.run('println!("{fresh}"); let _n: i32 = "x".parse()?;'))
    assert re.search(r"ParseIntError: invalid digit", text)

"""How cells end in a real kernel, by the replies that a client receives."""

import re
import time
from typing import NamedTuple

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from wearable_jupyter.runner.streams import without_colors
from wearable_jupyter.setup import paths

LOAD = (
    f':dep wearable_demo = {{ path = "{paths.LIBRARY}" }}\nuse wearable_demo::prelude::*;\n'
    'let frame = df!["x" => [1i64, 2, 3]]?;'
)
RECURSION = """\
fn deep(n: u64) -> u64 { let a = [n; 100]; if n == u64::MAX { 0 } else { deep(n + 1) + a[5] } }
println!("{}", deep(0));"""
KILL = 'std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status()?;'


class Ended(NamedTuple):
    """A cell's reply, and its outputs."""

    status: str
    count: int
    stdout: str
    stderr: str
    errors: list[dict]
    reply: dict


class Kernel(NamedTuple):
    manager: KernelManager
    client: object

    def run(self, code: str, **options) -> Ended:
        return self.wait_for(self.client.execute(code, **options))

    def wait_until(self, request: str, kind: str, **content: str) -> None:
        """Receive messages until the request has one of this kind and content."""
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            found = (message["parent_header"].get("msg_id"), message["msg_type"])
            if found == (request, kind) and content.items() <= message["content"].items():
                return

    def wait_for(self, request: str, seconds: float = 60) -> Ended:
        """Receive the messages of a request until it is idle, and none of other requests."""
        printed, errors = {"stdout": "", "stderr": ""}, []
        while True:
            message = self.client.get_iopub_msg(timeout=seconds)
            content = message["content"]
            if message["parent_header"].get("msg_id") != request:
                assert message["msg_type"] == "status", message
            elif message["msg_type"] == "stream":
                printed[content["name"]] += content["text"]
            elif message["msg_type"] == "error":
                errors.append(content)
            elif content.get("execution_state") == "idle":
                break
        reply = self.client.get_shell_msg(timeout=seconds)
        while reply["msg_type"] == "kernel_info_reply":  # from the start of the kernel
            reply = self.client.get_shell_msg(timeout=seconds)
        assert reply["parent_header"]["msg_id"] == request
        content = reply["content"]
        return Ended(
            content["status"], content.get("execution_count"), *printed.values(), errors, content
        )


def started() -> Kernel:
    return Kernel(*start_new_kernel(kernel_name="rust", cwd=str(paths.NOTEBOOKS)))


def stopped(kernel: Kernel) -> None:
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def bare():
    """A kernel without the library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RUST_BACKTRACE", raising=False)
        kernel = started()
    yield kernel
    stopped(kernel)


@pytest.fixture(scope="module")
def loaded():
    """A kernel with the library, and a frame."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RUST_BACKTRACE", raising=False)
        kernel = started()
    first = kernel.run(LOAD)
    assert (first.status, first.count) == ("ok", 1)
    yield kernel
    stopped(kernel)


def shown(ended: Ended) -> str:
    """The only error of a failed cell, as the user sees it. The reply contains the same error."""
    (error,) = ended.errors
    assert ended.status == "error"
    assert {name: ended.reply[name] for name in error} == error
    return without_colors("\n".join(error["traceback"]))


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        pytest.param(
            'let a = 1;\nlet n: i32 = "x".parse()?;',
            "ParseIntError",
            "ParseIntError: invalid digit found in string\n"
            ' --> In[N]:2:14\n  |\n2 | let n: i32 = "x".parse()?;\n  |              ^',
            id="question-mark",
        ),
        pytest.param(
            '\n  ensure(1 == 2, "one is two")?;\nprintln!("not here");',
            "polars_notebook::Error",
            "polars_notebook::Error: This does not hold: one is two\n"
            ' --> In[N]:2:3\n  |\n2 |   ensure(1 == 2, "one is two")?;\n  |   ^',
            id="ensure",
        ),
        pytest.param(
            'frame.column("y")?;',
            "PolarsError",
            'PolarsError: not found: "y" not found\n'
            ' --> In[N]:1:1\n  |\n1 | frame.column("y")?;\n  | ^',
            id="polars",
        ),
        pytest.param(
            'panic!("no {}", "way");',
            "panic",
            'panic: no way\n --> In[N]:1:1\n  |\n1 | panic!("no {}", "way");\n  | ^',
            id="panic",
        ),
        pytest.param(
            "fn last(v: &[i32]) -> i32 {\n    v[v.len()]\n}\nlet v = vec![1]; last(&v);",
            "panic",
            "panic: index out of bounds: the len is 1 but the index is 1\n"
            " --> In[N]:2:5\n  |\n2 |     v[v.len()]\n  |     ^",
            id="panic-in-a-function",
        ),
        pytest.param(
            'let k = 1;\nframe.column("x")?.i64()?\n    .get(17);',
            "panic",
            "panic: index: 17 out of bounds for len: 3\n"
            " --> In[N]:3:6\n  |\n3 |     .get(17);\n  |      ^\n in polars-core-",
            id="panic-in-polars",
        ),
    ],
)
def test_failure_has_its_type_message_and_line(loaded, code, name, expected):
    ended = loaded.run(code)
    text = shown(ended)
    assert ended.errors[0]["ename"] == name
    assert re.sub(r"In\[\d+\]", "In[N]", text).startswith(expected)
    # No backtrace and no other output on stderr.
    assert len(text.splitlines()) <= len(expected.splitlines()) and not ended.stderr
    assert f"In[{ended.count}]" in text and not ended.stdout
    # Earlier variables are unchanged.
    assert loaded.run('println!("{}", frame.height());').stdout == "3\n"


def test_compile_errors_of_a_cell_become_one_failure(bare):
    text = shown(bare.run('let x: i32 = true;\nlet y: i32 = "a";'))
    assert text.count("mismatched types") == 2 and "In[" in text and "command_" not in text
    assert bare.run("let x: i32 = true;").errors[0]["ename"] == "error[E0308]"


def test_error_outside_of_cells_is_reported(bare):
    assert "closure" in shown(bare.run("let f = |x: i32| x;"))
    assert "no such" in shown(bare.run(":nonsense")).lower() or bare.run(":nonsense").errors


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("std::process::exit(3);", "exit status: 3", id="exit"),
        pytest.param("std::process::exit(0);", "exit status: 0", id="exit-0"),
        pytest.param("std::process::abort();", "It aborted", id="abort"),
        pytest.param(RECURSION, "Its stack overflowed", id="stack"),
        pytest.param(
            "Vec::<u8>::with_capacity(1 << 46);", "a memory allocation failed", id="memory"
        ),
        pytest.param(KILL, "It was killed", id="killed"),
    ],
)
def test_end_of_the_process_is_reported_and_the_kernel_works(bare, code, expected):
    assert bare.run("let kept = 1;").status == "ok"
    ended = bare.run(f'println!("before"); print!("no newline"); {code}')
    text = shown(ended)
    assert ended.errors[0]["ename"] == "ProcessEnded"
    assert expected in text and "All variables are lost" in text
    assert ended.stdout.startswith("before\n")
    assert "cannot find value `kept`" in shown(bare.run('println!("{kept}");'))
    assert bare.run('println!("on");').stdout == "on\n"


def test_output_to_stderr_is_no_failure(bare):
    ended = bare.run('eprintln!("a warning"); eprint!("no newline"); println!("x");')
    assert (ended.status, ended.stdout, ended.stderr) == ("ok", "x\n", "a warning\nno newline")
    assert "1 + 1 = 2" in bare.run("dbg!(1 + 1);").stderr
    # A panic in another thread does not fail the cell.
    ended = bare.run('let c = 7; std::thread::spawn(|| panic!("elsewhere")).join().is_err();')
    assert ended.status == "ok" and "panicked at" in ended.stderr and "elsewhere" in ended.stderr
    assert bare.run('println!("{c}");').stdout == "7\n"


def test_long_and_incomplete_lines_are_complete(bare):
    assert bare.run('print!("no newline");').stdout == "no newline"
    assert bare.run('println!("x"); print!("y"); std::fs::read("/nowhere")?;').stdout == "x\ny"
    assert bare.run('print!("z"); panic!("p");').stdout == "z"
    for shown in ("1 + 1", "(\n1,\n2)", "vec![1]"):
        assert bare.run(f'print!("before"); {shown}').stdout == "before"
    line = "x" * 99
    ended = bare.run(f'for i in 0..20000 {{ eprintln!("{{i:06}} {line}"); }}')
    assert ended.stderr == "".join(f"{i:06} {line}\n" for i in range(20000))
    assert ended.status == "ok"


def test_thread_that_prints_after_its_cell_does_not_delay_the_end(bare):
    spawn = (
        'std::thread::spawn(|| for i in 0..400 { println!("thread {i}"); '
        "std::thread::sleep(std::time::Duration::from_millis(5)); });"
    )
    ended = bare.run(spawn)
    assert ended.status == "ok"
    lines = ended.stdout  # the first lines may come before the cell's end
    for n in range(8):
        ended = bare.run(f'println!("cell {n}");')
        assert ended.status == "ok" and f"cell {n}\n" in ended.stdout
        lines += ended.stdout
    # evcxr forwards the remaining lines when the next cell runs.
    deadline = time.monotonic() + 60
    while "thread 399\n" not in lines and time.monotonic() < deadline:
        lines += bare.run("();").stdout
    assert re.findall(r"thread (\d+)", lines) == [str(i) for i in range(400)]


def test_two_hundred_cells_in_quick_succession_every_third_failing(bare):
    """All are sent at once. Each output belongs to its own cell, and each cell ends as expected."""
    kinds = (
        'print!("out {n}"); eprint!("err {n}");',
        'println!("out {n}"); eprintln!("err {n}");',
        'print!("out {n}"); eprint!("err {n}"); std::fs::read("/nowhere {n}")?;',
    )
    sent = []
    for n in range(200):
        code = kinds[n % 3].replace("{n}", str(n))
        sent.append(bare.client.execute(code, stop_on_error=False))
    first = None
    for n, request in enumerate(sent):
        ended = bare.wait_for(request, 120)
        first = first or ended.count
        assert (ended.stdout.strip(), ended.stderr.strip()) == (f"out {n}", f"err {n}")
        assert ended.status == ("error" if n % 3 == 2 else "ok")
        assert ended.count == first + n
        assert bool(ended.errors) == (n % 3 == 2)


def test_cells_queued_after_a_failed_cell_are_aborted(bare):
    sent = [bare.client.execute(code) for code in ("let r = 1;", 'panic!("p");', "let r = 2;", "1")]
    ended = [bare.wait_for(request) for request in sent]
    assert [each.status for each in ended] == ["ok", "error", "aborted", "aborted"]
    assert bare.run('println!("{r}");').stdout == "1\n"


@pytest.mark.parametrize(("setting", "expected"), [("1", True), ("0", False)])
def test_backtrace_appears_only_if_enabled(monkeypatch, setting, expected):
    monkeypatch.setenv("RUST_BACKTRACE", setting)
    kernel = started()
    try:
        text = shown(kernel.run('panic!("p");'))
        assert ("run_user_code_" in text) == expected and "panic: p\n --> In[1]:1:1" in text
        # The cell has the user's setting, too.
        ended = kernel.run('print!("{}", std::env::var("RUST_BACKTRACE").unwrap());')
        assert ended.stdout == setting
    finally:
        stopped(kernel)


STREAMING = (
    "frame.clone().lazy().join(frame.clone().lazy(), &k, &k, JoinArgs::new(JoinType::Inner))"
    '.select([col("x").sum()]).collect_with_engine(Engine::Streaming)?;'
)


@pytest.mark.parametrize("turns", [4, pytest.param(20, marks=pytest.mark.long)])
def test_interrupt_ends_a_query_and_keeps_variables(turns):
    kernel = started()
    try:
        rows = 'df!["x" => (0..N).collect::<Vec<i64>>(), "k" => vec![1i64; N]]?'
        assert kernel.run(LOAD).status == "ok"
        assert kernel.run(f"let frame = {rows.replace('N', '200_000')};").status == "ok"
        small = rows.replace("N", "6_000")
        prepared = kernel.run(
            f'let k = [col("k")];\nlet small: LazyFrame = {small}.lazy();\n'
            "let joins: Vec<LazyFrame> = (0..500i64).map(|i| small.clone().join(small.clone(), &k, "
            '&k, JoinArgs::new(JoinType::Inner)).select([(col("x") + lit(i)).sum()])).collect();\n'
            "let in_memory: LazyFrame = "
            "concat(joins, UnionArgs { parallel: false, ..Default::default() })?;"
        )
        assert prepared.status == "ok", prepared
        for turn in range(turns):
            query = STREAMING if turn % 2 else "in_memory.clone().collect()?;"
            request = kernel.client.execute(f'println!("begun");\n{query}')
            kernel.wait_until(request, "stream", text="begun\n")
            time.sleep(0.5)  # interrupts the running query
            interrupted = time.monotonic()
            kernel.manager.interrupt_kernel()
            ended = kernel.wait_for(request)
            assert "Interrupted: Variables of earlier cells are unchanged." in shown(ended)
            # On an idle machine, the interrupt takes milliseconds, and the query minutes.
            assert time.monotonic() - interrupted < 20, ended
            assert kernel.run('println!("{}", frame.height());').stdout == "200000\n"

        # An interrupt before the query runs works, too.
        request = kernel.client.execute("let y = frame.height() + 1;")
        kernel.wait_until(request, "status", execution_state="busy")
        kernel.manager.interrupt_kernel()
        ended = kernel.wait_for(request)
        assert "had not started" in shown(ended)
        assert "cannot find value `y`" in shown(kernel.run('println!("{y}");'))
        assert kernel.run('println!("{}", frame.height());').stdout == "200000\n"

        # A cell that cannot be interrupted prints how to end it; the queued cell is aborted.
        sleeping = 'println!("begun");\nstd::thread::sleep(std::time::Duration::from_secs(5));'
        sent = [kernel.client.execute(code) for code in (sleeping, "let z = 1;")]
        kernel.wait_until(sent[0], "stream", text="begun\n")
        kernel.manager.interrupt_kernel()
        ended = [kernel.wait_for(request) for request in sent]
        assert "Interrupt again to kill the process" in ended[0].stderr
        assert [each.status for each in ended] == ["ok", "aborted"]
        request = kernel.client.execute('println!("begun");\nloop { std::hint::spin_loop(); }')
        kernel.wait_until(request, "stream", text="begun\n")
        kernel.manager.interrupt_kernel()
        kernel.wait_until(request, "stream", name="stderr")
        kernel.manager.interrupt_kernel()
        ended = kernel.wait_for(request)
        assert "All variables are lost" in shown(ended) and "Interrupted" in shown(ended)
        assert kernel.run('println!("on");').stdout == "on\n"
    finally:
        stopped(kernel)

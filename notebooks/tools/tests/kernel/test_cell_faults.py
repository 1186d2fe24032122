"""Cells and requests that once broke a kernel now pass or fail, and the kernel works."""

import time

import psutil
import pytest
from test_failures import LOAD, Kernel, shown, started, stopped

from wearable_jupyter.kernel import directories


@pytest.fixture
def kernel():
    kernel = started()
    yield kernel
    stopped(kernel)


@pytest.fixture(scope="module")
def bare():
    kernel = started()
    yield kernel
    stopped(kernel)


def assert_works(kernel: Kernel) -> None:
    assert kernel.run('println!("on");').stdout == "on\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("\tlet 🙂 = 1;", "emoji"),
        ("  // ü\n\tlet aé🙂 = 1;", "emoji"),
        (";\tlet 🙂 = 1;", "emoji"),
        ("let = 1;", "pattern"),
        ("}", "delimiter"),
        ("/* open", "comment"),
        (":env =x", "NAME=VALUE"),
        (":env a\0b=x", "NUL"),
        ("\0", "unknown start of token"),
        ("\ufefflet x = 1;", "unknown start of token"),
        ("(" * 5000, "nested"),
        ("((((", "closing delimiter"),
        ('"open', "unterminated"),
        ("#[derive(Debug)]", "derive"),
        (":dep /nowhere", "/nowhere contains no crate"),
        (':dep a = { path = "/nowhere" }', "/nowhere contains no crate"),
        (":dep é", "invalid unquoted key"),
    ],
)
def test_text_that_evcxr_rejects_fails_only_its_cell(bare, code, expected):
    assert expected in shown(bare.run(code))
    assert_works(bare)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "// only a comment",
        "  // indented",
        "/* a /* b */ */",
        ":vars",
        ":dep",
        "!ls",
        ":type x",
    ],
)
def test_cell_without_rust_code_gets_evcxrs_reply(bare, code):
    ended = bare.run(code)
    assert ended.status == ("error" if code in (":dep", ":type x") else "ok")
    assert_works(bare)


@pytest.mark.parametrize(
    ("code", "evidence"),
    [
        ("1", {"code": True, "began": True, "ended": "ok"}),
        ("fn f() -> i32 { 1 }", {"code": True}),
        ("use std::fmt;", {"code": True}),
        (":vars", {"code": False, "began": False, "ended": None}),
        ('std::fs::read("/nowhere")?;', {"code": True, "began": True, "ended": "failed"}),
        ('panic!("p");', {"code": True, "began": True, "ended": "panicked"}),
        ("let x: u8 = true;", {"code": True, "began": False, "ended": None}),
    ],
)
def test_reply_contains_the_report_of_the_cell(bare, code, evidence):
    request = bare.client.execute(code)
    reply = bare.client.get_shell_msg(timeout=60)
    while reply["parent_header"]["msg_id"] != request:
        reply = bare.client.get_shell_msg(timeout=60)
    assert evidence.items() <= reply["metadata"]["cell"].items()
    while bare.client.get_iopub_msg(timeout=60)["content"].get("execution_state") != "idle":
        pass


@pytest.mark.parametrize(
    "command",
    [":cache 500", ":allow_static_linking 0", ":preserve_vars_on_panic 0", ":opt 1", ":offline 0"],
)
def test_commands_that_change_compilation_hide_no_failure(kernel, command):
    for code in ('panic!("p");', 'std::fs::read("/nowhere")?;'):
        ended = kernel.run(f"{command}\n{code}")
        assert ended.status == "error", ended
        assert kernel.run(code).status == "error"


def test_rustc_wrapper_of_a_cargo_configuration_is_ignored(kernel):
    """Users of sccache have such a file in their home."""
    (directory,) = directories.owned_by(kernel.manager.provisioner.pid)
    (directory / ".cargo").mkdir()
    settings = ("rustc", "rustc-wrapper", "rustc-workspace-wrapper")
    lines = "".join(f'{name} = "/no/{name}"\n' for name in settings)
    (directory / ".cargo/config.toml").write_text(f"[build]\n{lines}")
    loaded = kernel.run(LOAD)
    assert loaded.status == "ok", loaded
    assert "mismatched types" in shown(kernel.run('let n: u8 = "text";'))


def test_warnings_are_not_reported_as_errors(bare):
    assert bare.run("macro_rules! unused { () => { 1 }; }").status == "ok"
    ended = bare.run('let n: u8 = "text";')
    assert ended.reply["evalue"] == "mismatched types"
    text = shown(ended)
    assert "unused" not in text and "never read" not in text


def test_request_with_binary_buffers_runs_normally(bare):
    session, channel = bare.client.session, bare.client.shell_channel
    content = {"code": 'println!("with a buffer");', "silent": False, "store_history": True}
    message = session.msg("execute_request", content)
    session.send(channel.socket, message, buffers=[b"one", b"two"])
    assert bare.wait_for(message["header"]["msg_id"]).stdout == "with a buffer\n"
    assert_works(bare)


def evcxr_of(kernel: Kernel) -> psutil.Process:
    (directory,) = directories.owned_by(kernel.manager.provisioner.pid)
    return psutil.Process(directories.evcxr(directory))


def wait_for_end(kernel: Kernel) -> None:
    deadline = time.monotonic() + 20
    while kernel.manager.is_alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not kernel.manager.is_alive()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("std::thread::sleep(std::time::Duration::from_secs(600));", "signal 9"),
        (":quit", "exit status 0"),
    ],
)
def test_end_of_evcxr_fails_the_cell_and_ends_the_kernel(kernel, code, expected):
    evcxr = evcxr_of(kernel)
    request = kernel.client.execute(code)
    queued = kernel.client.execute("1")
    if code != ":quit":
        time.sleep(3)
        evcxr.kill()
    ended = kernel.wait_for(request)
    assert ended.errors[0]["ename"] == "KernelEnded" and expected in shown(ended)
    assert kernel.wait_for(queued).status == "aborted"
    wait_for_end(kernel)


def test_end_of_evcxr_between_cells_is_reported_under_the_last_cell(kernel):
    assert_works(kernel)
    evcxr_of(kernel).kill()
    message = kernel.client.get_iopub_msg(timeout=20)
    while message["msg_type"] != "stream":
        message = kernel.client.get_iopub_msg(timeout=20)
    assert message["content"]["name"] == "stderr" and "signal 9" in message["content"]["text"]
    wait_for_end(kernel)


def test_shutdown_reports_no_error(kernel):
    assert_works(kernel)
    kernel.client.shutdown()
    wait_for_end(kernel)
    while kernel.client.iopub_channel.msg_ready():
        assert kernel.client.get_iopub_msg()["msg_type"] == "status"


def test_second_interrupt_ends_a_hanging_evcxr(kernel):
    evcxr = evcxr_of(kernel)
    assert_works(kernel)
    evcxr.suspend()
    request = kernel.client.execute("1")
    time.sleep(1)
    kernel.manager.interrupt_kernel()
    time.sleep(2)
    kernel.manager.interrupt_kernel()
    ended = kernel.wait_for(request)
    assert ended.errors[0]["ename"] == "KernelEnded"
    wait_for_end(kernel)


def test_interrupt_ends_a_shell_command_and_its_children(kernel):
    assert kernel.run("let kept = 1;").status == "ok"
    evcxr = evcxr_of(kernel)
    request = kernel.client.execute("!sleep 600")
    time.sleep(2)
    others = [child for child in evcxr.children() if child.exe() != evcxr.exe()]
    assert others
    kernel.manager.interrupt_kernel()
    ended = kernel.wait_for(request)
    assert "Interrupted" in shown(ended)
    _, alive = psutil.wait_procs(others, 10)
    assert not alive
    assert kernel.run('println!("{kept}");').stdout == "1\n"


def test_program_that_outlives_its_cell_does_not_block_the_kernel(bare):
    code = 'std::process::Command::new("sleep").arg("600").spawn()?; std::process::exit(3);'
    ended = bare.run(code)
    assert ended.errors[0]["ename"] == "ProcessEnded" and "exit status: 3" in shown(ended)
    assert_works(bare)


@pytest.mark.long
def test_cell_can_request_input_with_evcxr_input(kernel):
    """Needs a network, because the crate `evcxr_input` is not in the lock file."""
    ended = kernel.run(':dep evcxr_input = "1"')
    assert ended.status == "ok", ended
    request = kernel.client.execute(
        'let name = evcxr_input::get_string("Name?"); println!("{name}");', allow_stdin=True
    )
    input_request = kernel.client.get_stdin_msg(timeout=60)
    assert input_request["content"]["prompt"] == "Name?"
    kernel.client.input("Ada")
    assert kernel.wait_for(request).stdout == "Ada\n"
    ended = kernel.run('println!("[{}]", evcxr_input::get_string("Name?"));', allow_stdin=False)
    assert ended.stdout == "[]\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (':dep nosuchcrate_xyzzy = "1"', "crates.io has no package `nosuchcrate_xyzzy`"),
        (':dep itoa = "99"', "`itoa` has no version that matches `^99`"),
    ],
)
def test_dependency_missing_on_crates_io_is_reported(kernel, code, expected):
    assert expected in shown(kernel.run(code))
    assert_works(kernel)


def test_offline_kernel_reports_the_command_to_go_online(monkeypatch):
    monkeypatch.setenv("WEARABLE_OFFLINE", "1")
    kernel = started()
    try:
        text = shown(kernel.run(':dep nosuchcrate_xyzzy = "1"'))
        assert "`:offline 0`" in text and "retry without" not in text
        assert_works(kernel)
    finally:
        stopped(kernel)

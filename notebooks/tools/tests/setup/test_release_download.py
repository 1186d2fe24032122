"""Bundles from releases: servers on loopback, and no other network.

Most tests replace `offline_bundle.install`, which `test_offline_bundle.py` tests.
"""

import base64
import hashlib
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from wearable_jupyter import command_line
from wearable_jupyter.kernel import template
from wearable_jupyter.setup import (
    bundle_transfer,
    caches,
    dataset,
    entry_point,
    offline_bundle,
    paths,
    release_download,
)
from wearable_jupyter.setup.errors import UserError

# Larger than the buffers of sockets, so that a server that stops has sent only a part.
BUNDLE = os.urandom(3_000_000)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
WORKFLOWS = paths.ROOT / ".github/workflows"


class Handler(BaseHTTPRequestHandler):
    """Sends the server's files, also parts of them, and makes the server's faults."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, path = self.server, urlsplit(self.path).path
        given = self.headers.get("Range")
        server.requests.append((path, given))
        server.headers.append(dict(self.headers))
        if (answer := server.answers.get(path)) is not None:
            status, location = answer
            self.send_response(status)
            self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.files.get(path)
        if content is None:
            self.send_error(404)
            return
        first = int(re.fullmatch("bytes=([0-9]+)-", given)[1]) if given and server.ranges else 0
        if first >= len(content) and first:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        endless = len(content) if path in server.endless else 0
        self.send_header("Content-Length", str(len(content) - first + endless))
        self.end_headers()
        self.send(content[first:], path)

    def send(self, content: bytes, path: str):
        server = self.server
        if path.endswith(".sha256"):
            self.wfile.write(content)
            self.wfile.flush()
            if path in server.endless:
                server.closing.wait()
            return
        server.started.set()
        server.gate.wait()
        sent = server.cuts.pop(0) if server.cuts else len(content)
        with suppress(OSError):  # the client closed the connection
            self.wfile.write(content[:sent])
            self.wfile.flush()
            if sent < len(content) and server.trickles:
                while not server.closing.wait(0.01):
                    self.wfile.write(b"-")
                    self.wfile.flush()
            if sent < len(content) and server.stalls:
                server.closing.wait()
        self.close_connection = True

    def do_CONNECT(self):
        """As a proxy: connect to the named server, and pass bytes on."""
        self.server.requests.append(("CONNECT", self.path))
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as other:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pass_on, args=(other, self.connection), daemon=True)
            back.start()
            pass_on(self.connection, other)
            back.join()
        self.close_connection = True


def pass_on(source: socket.socket, destination: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 16):
            destination.sendall(block)
        destination.shutdown(socket.SHUT_WR)


class Server(ThreadingHTTPServer):
    """A server on loopback with the file of one bundle, its checksum and faults."""

    daemon_threads = True

    def __init__(self, content: bytes | None, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        # Requests, with their ranges, and their headers.
        self.requests: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        # A status and a location by path.
        self.answers: dict[str, tuple[int, str]] = {}
        # The numbers of bytes after which each connection ends, stalls, or sends a byte at a time.
        self.cuts: list[int] = []
        self.stalls = self.trickles = False
        self.ranges = True
        # Paths of files that are longer than what the server sends.
        self.endless: set[str] = set()
        self.gate, self.started, self.closing = (threading.Event() for _ in range(3))
        self.gate.set()
        scheme = "http"
        if certificate is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.address = f"{scheme}://127.0.0.1:{self.server_address[1]}"
        self.url = f"{self.address}/releases/download/bundles"
        self.path = f"/releases/download/bundles/{offline_bundle.name()}"
        if content is not None:
            self.publish(content)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def publish(self, content: bytes) -> None:
        checksum = hashlib.sha256(content).hexdigest()
        self.files[self.path] = content
        self.files[f"{self.path}.sha256"] = f"{checksum}  {offline_bundle.name()}\n".encode()

    def ranges_of_bundle(self) -> list[str | None]:
        return [given for path, given in self.requests if path == self.path]

    def handle_error(self, *_):
        pass  # a client that does not trust the certificate

    def close(self) -> None:
        self.closing.set()
        self.gate.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def start():
    """Start servers, which end with the test."""
    servers = []

    def new(content: bytes | None = BUNDLE, certificate: Path | None = None) -> Server:
        servers.append(Server(content, certificate))
        return servers[-1]

    yield new
    for server in servers:
        server.close()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with empty caches and without settings for a network."""
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    monkeypatch.setattr(caches, "SHARED_CACHE", tmp_path / "none")
    for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(release_download.VARIABLE)
    monkeypatch.delenv(release_download.URL_VARIABLE, raising=False)
    # A clone of the tests' clone has this origin, too.
    monkeypatch.setattr(release_download, "origin", lambda: "")
    monkeypatch.setattr(offline_bundle, "require_zstd", lambda: None)
    return tmp_path


@pytest.fixture
def installed(machine, monkeypatch):
    """The contents of the installed bundles."""
    contents = []
    monkeypatch.setattr(
        offline_bundle, "install", lambda bundle: contents.append(bundle.read_bytes())
    )
    return contents


@pytest.fixture
def provide(installed, monkeypatch, capsys):
    """Look for a bundle on a server, and return what was printed."""

    def run(url: str | None, timeout: float = 60, min_speed: float = 0) -> str:
        if url is not None:
            monkeypatch.setenv(release_download.URL_VARIABLE, url)
        release_download.provide(timeout, min_speed)
        printed = capsys.readouterr()
        assert not printed.err
        return printed.out

    return run


def downloads(machine: Path) -> list[Path]:
    """The files that downloads left in the cache."""
    folder = machine / "cache" / release_download.FOLDER
    return [path for path in folder.rglob("*") if path.is_file()]


def is_one_reason(printed: str) -> bool:
    """Whether the last line, and no other, has the reason to compile."""
    lines = printed.splitlines()
    return [n for n, line in enumerate(lines) if line.startswith("Compiling instead of")] == [
        len(lines) - 1
    ]


def test_bundle_in_the_releases_is_installed(start, provide, installed, machine):
    server = start()
    printed = provide(server.url)
    assert installed == [BUNDLE]
    assert f"and the kernel, 3 MB, from {server.url}/{offline_bundle.name()}\n" in printed
    assert "Compiling instead" not in printed and "./justw setup --compile" in printed
    assert [path for path, _ in server.requests] == [f"{server.path}.sha256", server.path]
    assert not downloads(machine)


@pytest.mark.skipif(
    shutil.which("zstd") is None and "CI" not in os.environ,
    reason="zstd is not installed: sudo apt install zstd",
)
def test_two_processes_download_a_bundle_once(start, machine, monkeypatch):
    """With a real, small bundle and real processes. Afterwards, setup contacts nothing."""
    name = caches.compiled_dependencies().name
    files = {
        f"{name}/debug/deps/liba.rlib": "compiled",
        f"{name}/origin.json": "{}",
        str(caches.own_evcxr().relative_to(caches.cache_directory())): "a program",
    }
    for file, content in files.items():
        (machine / "from" / file).parent.mkdir(parents=True, exist_ok=True)
        (machine / "from" / file).write_text(content)
    packed = machine / "packed.tar.zst"
    given = {file: machine / "from" / file for file in files}
    offline_bundle.pack(given, "2.2", ["3.11"], packed)
    server = start(packed.read_bytes())
    server.gate.clear()
    code = (
        "from wearable_jupyter.setup import caches, entry_point, release_download\n"
        f"caches.SHARED_CACHE = caches.Path({str(machine / 'none')!r})\n"
        "print('code', entry_point.exit_code(release_download.provide))"
    )
    command = [sys.executable, "-I", "-X", "utf8", "-c", code]
    environment = os.environ | {release_download.URL_VARIABLE: server.url}
    options = {"env": environment, "stdout": -1, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **options) as first:
        assert server.started.wait(60)
        with subprocess.Popen(command, **options) as second:
            line = second.stdout.readline()
            assert "Waiting for another process" in line, line + second.communicate()[0]
            server.gate.set()
            assert second.communicate()[0] == "code 0\n"
        printed = first.communicate()[0]
    assert "Installing from wearable-environment-" in printed and printed.endswith("code 0\n")
    for file, content in files.items():
        assert (machine / "cache" / file).read_text() == content
    assert not downloads(machine)
    assert server.ranges_of_bundle() == [None]
    monkeypatch.setenv(release_download.URL_VARIABLE, server.url)
    release_download.provide()
    assert server.ranges_of_bundle() == [None] and len(server.requests) == 2


@pytest.mark.parametrize(
    "status, reason", [(404, "does not exist"), (403, "status 403"), (500, "status 500")]
)
@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_missing_bundle_is_reported(start, provide, installed, status, reason, suffix):
    server = start()
    server.answers[f"{server.path}{suffix}"] = (status, "")
    printed = provide(server.url)
    assert is_one_reason(printed) and reason in printed
    assert f"{server.url}/{offline_bundle.name()}{suffix}" in printed
    assert not installed


@pytest.mark.parametrize("text", [b"", b"<html>", b"0" * 63, b"0" * 1000, b"\xff" * 64])
def test_invalid_checksum_file_is_reported(start, provide, installed, text):
    server = start()
    server.files[f"{server.path}.sha256"] = text
    printed = provide(server.url)
    assert is_one_reason(printed) and "does not contain a SHA-256" in printed
    assert not installed and not server.ranges_of_bundle()


def test_large_checksum_file_is_not_read_to_its_end(start, provide, installed):
    server = start()
    path = f"{server.path}.sha256"
    server.files[path], server.endless = b"0" * 100_000, {path}
    assert "does not contain a SHA-256" in provide(server.url)


def test_broken_download_continues(start, provide, installed):
    server = start()
    server.cuts = [600_000, 400_000]
    printed = provide(server.url)
    assert installed == [BUNDLE]
    assert server.ranges_of_bundle() == [None, "bytes=600000-", "bytes=1000000-"]
    assert printed.count("The connection to 127.0.0.1 broke") == 2
    assert "the last 2 of 3 MB" in printed


def test_later_run_continues_a_broken_download(start, provide, installed, machine):
    server = start()
    server.cuts = [2_000_000, 0]
    printed = provide(server.url)
    assert is_one_reason(printed) and "the connection to 127.0.0.1 failed" in printed
    assert not installed and [path.stat().st_size for path in downloads(machine)] == [2_000_000]
    assert "the last 1 of 3 MB" in provide(server.url)
    assert installed == [BUNDLE]
    assert server.ranges_of_bundle()[2:] == ["bytes=2000000-"]


def test_connections_for_one_download_are_limited(start, provide, installed):
    server = start()
    server.cuts = [1000] * 100
    printed = provide(server.url)
    assert is_one_reason(printed) and "the connection to 127.0.0.1 failed" in printed
    assert len(server.ranges_of_bundle()) == bundle_transfer.ATTEMPTS


def test_server_without_ranges_sends_the_whole_file(start, provide, installed, machine):
    server = start()
    server.cuts, server.ranges = [2_000_000], False
    provide(server.url)
    assert installed == [BUNDLE]
    server.cuts = [2_000_000, 0]
    provide(server.url)
    (part,) = downloads(machine)
    part.write_bytes(b"-" * (len(BUNDLE) + 1))
    provide(server.url)
    assert installed == [BUNDLE, BUNDLE]


def test_another_bundle_is_downloaded_from_its_beginning(start, provide, installed, machine):
    server = start()
    server.cuts = [2_000_000, 0]
    provide(server.url)
    other = os.urandom(len(BUNDLE))
    server.publish(other)
    server.cuts = [1_000_000, 0]
    provide(server.url)
    assert [path.stat().st_size for path in downloads(machine)] == [1_000_000]
    provide(server.url)
    assert installed == [other]
    assert server.ranges_of_bundle()[2:] == [None, *2 * ["bytes=1000000-"]]
    assert not downloads(machine)


def test_wrong_hash_is_rejected(start, provide, installed, machine):
    server = start()
    server.files[server.path] = BUNDLE[:-1] + bytes([BUNDLE[-1] ^ 1])
    printed = provide(server.url)
    assert is_one_reason(printed) and "does not have the SHA-256" in printed
    assert not installed and not downloads(machine)


@pytest.mark.parametrize("size", [len(BUNDLE) - 1000, len(BUNDLE), len(BUNDLE) + 1])
def test_damaged_part_is_deleted(start, provide, installed, machine, size):
    server = start()
    server.cuts = [2_000_000, 0]
    provide(server.url)
    (part,) = downloads(machine)
    part.write_bytes(b"-" * size)
    assert is_one_reason(provide(server.url))
    assert not installed and not downloads(machine)
    provide(server.url)
    assert installed == [BUNDLE]


def test_stalled_connection_ends(start, provide, installed):
    server = start()
    server.cuts, server.stalls = [1000, 0], True
    printed = provide(server.url, timeout=0.3)
    assert is_one_reason(printed) and "timed out" in printed
    assert not installed
    with bundle_transfer.client(httpx.URL(server.url), 0.3) as client:
        assert client.timeout == httpx.Timeout(0.3)


def test_slow_connection_ends(start, provide, installed):
    server = start()
    server.cuts, server.trickles = [0] * 100, True
    printed = provide(server.url, timeout=0.3, min_speed=10_000_000)
    assert is_one_reason(printed) and "kB per second" in printed
    assert not installed


def test_connection_that_is_quick_enough_continues(start, provide, installed):
    """A period ends after each block, because no time is needed for it."""
    blocks = [b"1234"] * 3
    assert list(bundle_transfer.at_speed(iter(blocks), 0, 0)) == blocks


def test_missing_network_is_reported(start, provide, installed, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        printed = provide(f"http://127.0.0.1:{port}")
    assert is_one_reason(printed) and "127.0.0.1 failed: " in printed

    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    printed = provide("https://releases.example/bundles")
    assert is_one_reason(printed) and "Name or service not known" in printed


@pytest.mark.parametrize("host", ["", "a" * 64, "a..b"])
def test_impossible_host_is_reported(provide, installed, host):
    assert is_one_reason(provide(f"https://{host}/bundles"))


def test_proxy_is_used(start, provide, installed, monkeypatch):
    server, proxy = start(), start(None)
    # The proxy has the files itself: it receives the path after the address.
    proxy.files = dict(server.files)
    monkeypatch.setenv("http_proxy", proxy.address)
    provide(server.url)
    assert installed == [BUNDLE] and not server.requests and len(proxy.requests) == 2
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    provide(server.url)
    assert len(installed) == 2 and len(server.requests) == 2


@pytest.mark.parametrize("proxy", ["socks5://user:secret@127.0.0.1:1", "http://user:secret@h:port"])
def test_unsupported_proxy_is_reported(start, provide, installed, monkeypatch, proxy):
    server = start()
    monkeypatch.setenv("ALL_PROXY", proxy)
    printed = provide(server.url)
    assert is_one_reason(printed) and "ALL_PROXY" in printed and "secret" not in printed
    assert not server.requests


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate for 127.0.0.1, with its key, that no machine trusts."""
    if shutil.which("openssl") is None and "CI" not in os.environ:
        pytest.skip("openssl is not installed: sudo apt install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return both


def test_only_a_trusted_certificate_is_accepted(
    start, provide, installed, monkeypatch, certificate
):
    server, proxy = start(certificate=certificate), start(None)
    printed = provide(server.url)
    assert is_one_reason(printed) and "certificate verify failed" in printed
    assert not installed and not server.requests
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    provide(server.url)
    assert installed == [BUNDLE]
    # A proxy forwards TLS without reading it.
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    provide(server.url)
    assert len(installed) == 2
    assert {request for request, _ in proxy.requests} == {"CONNECT"}


def test_redirect_to_http_is_refused(start, provide, installed, monkeypatch, certificate):
    server, plain = start(certificate=certificate), start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for suffix in ("", ".sha256"):
        server.answers = {f"{server.path}{suffix}": (302, f"{plain.address}{server.path}{suffix}")}
        printed = provide(server.url)
        assert is_one_reason(printed) and "does not begin with https://" in printed
    assert not installed and not plain.requests
    # GitHub redirects to another host.
    other = start(certificate=certificate)
    server.answers = {server.path: (302, f"{other.address}{server.path}?signature=secret")}
    assert "secret" not in provide(server.url)
    assert installed == [BUNDLE] and other.ranges_of_bundle() == [None]


@pytest.fixture
def no_names(monkeypatch):
    """Fail if a name is resolved or a connection is made."""

    def fail(*_, **__):
        pytest.fail("contacts the network")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket, "create_connection", fail)


@pytest.mark.parametrize(
    "url",
    [
        "http://releases.example/bundles",
        # A name could be resolved to another machine.
        "http://localhost/bundles",
        "http://127.0.0.1.releases.example/bundles",
        "http://10.0.0.1/bundles",
        "ftp://127.0.0.1/bundles",
        "file:///bundles",
        "bundles",
        "https://user:secret@host:port/",
    ],
)
def test_other_url_is_refused(provide, installed, no_names, url):
    printed = provide(url)
    assert is_one_reason(printed)
    assert "does not begin with https://" in printed or "is not a valid URL" in printed
    assert "secret" not in printed


def test_redirect_from_loopback_to_another_machine_is_refused(start, provide, installed):
    server = start()
    server.answers = {server.path: (302, "http://10.0.0.1/bundle")}
    printed = provide(server.url)
    assert is_one_reason(printed) and "http://10.0.0.1/bundle does not begin with" in printed


def test_endless_redirects_are_reported(start, provide, installed):
    server = start()
    server.answers = {server.path: (302, server.path)}
    assert is_one_reason(provide(server.url))


def test_credentials_are_sent_but_not_printed(start, provide, installed):
    server = start()
    url = server.url.replace("://", "://user:secret@") + "?token=hidden"
    printed = provide(url)
    assert installed == [BUNDLE]
    assert "secret" not in printed and "user" not in printed and "hidden" not in printed
    expected = f"Basic {base64.b64encode(b'user:secret').decode()}"
    assert {headers["Authorization"] for headers in server.headers} == {expected}
    server.answers = {server.path: (404, "")}
    printed = provide(url)
    assert is_one_reason(printed)
    assert "secret" not in printed and "user" not in printed and "hidden" not in printed


def test_full_disk_is_reported(start, provide, installed, machine, monkeypatch):
    """A limit for the size of files makes a write fail, as a full disk does."""
    server = start()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        printed = provide(server.url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_one_reason(printed) and "File too large" in printed
    assert not installed and not downloads(machine)
    # Without enough space, nothing is downloaded.
    usage = shutil.disk_usage(machine)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    printed = provide(server.url)
    assert is_one_reason(printed) and "needs 3 MB, but" in printed and "has 2 MB" in printed
    assert not installed


def test_bundle_that_cannot_be_installed_is_deleted(start, provide, machine, monkeypatch):
    def fail(_):
        raise UserError("the bundle needs glibc 99")

    monkeypatch.setattr(offline_bundle, "install", fail)
    printed = provide(start().url)
    assert is_one_reason(printed) and "the bundle needs glibc 99" in printed
    assert not downloads(machine)


def test_interrupted_installation_needs_no_second_download(
    start, provide, installed, machine, monkeypatch
):
    def interrupt(_):
        raise KeyboardInterrupt

    server, install = start(), offline_bundle.install
    monkeypatch.setattr(offline_bundle, "install", interrupt)
    with pytest.raises(KeyboardInterrupt):
        provide(server.url)
    monkeypatch.setattr(offline_bundle, "install", install)
    provide(server.url)
    assert installed == [BUNDLE] and server.ranges_of_bundle() == [None]
    assert not downloads(machine)


def test_other_users_cannot_read_or_change_a_download(start, provide, installed, machine):
    server = start()
    server.cuts = [2_000_000, 0]
    before = os.umask(0)
    try:
        provide(server.url)
    finally:
        os.umask(before)
    (part,) = downloads(machine)
    assert part.stat().st_mode & 0o777 == 0o600
    for folder in (part.parent, part.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_variable_turns_downloads_off(start, provide, installed, monkeypatch, no_names):
    monkeypatch.setenv(release_download.VARIABLE, "0")
    server = start()
    assert provide(server.url) == ""
    assert not server.requests and not installed


@pytest.mark.parametrize("options", [[], ["--dependencies"]])
def test_option_turns_downloads_off(monkeypatch, options):
    done = []
    for step in ("prerequisites", "compile_all", "build", "seed"):
        monkeypatch.setattr(template, step, lambda *_: None)
    monkeypatch.setattr(command_line.smoke, "check_kernel", lambda: None)
    monkeypatch.setattr(release_download, "provide", lambda: done.append("download"))
    for given, expected in ((["--compile", *options], []), (options, ["download"])):
        monkeypatch.setattr(sys, "argv", ["wearable_jupyter", "setup", *given])
        assert entry_point.exit_code(command_line.main) == 0
        assert done == expected


def test_generator_also_downloads_before_it_compiles(monkeypatch):
    done = []
    monkeypatch.setattr(dataset, "prerequisites", lambda: None)
    for step in ("build_workspace", "run_binary"):
        monkeypatch.setattr(dataset, step, lambda *_, step=step: done.append(step))
    monkeypatch.setattr(release_download, "provide", lambda: done.append("download"))
    dataset.make("small")
    assert done == ["download", "build_workspace", "run_binary"]


def test_nothing_is_downloaded_if_a_cache_has_everything(start, provide, installed, machine):
    program = caches.own_evcxr()
    program.parent.mkdir(parents=True)
    program.write_text("a program")
    assert release_download.is_missing()
    caches.compiled_dependencies().mkdir()
    server = start()
    assert provide(server.url) == "" and not server.requests and not installed
    program.unlink()
    provide(server.url)
    assert installed == [BUNDLE]


def test_part_is_deleted_a_day_after_the_packages_were_compiled(
    start, provide, installed, machine, monkeypatch
):
    server = start()
    server.cuts = [2_000_000, 0]
    provide(server.url)
    monkeypatch.setattr(release_download, "is_missing", lambda: False)
    provide(server.url)
    assert downloads(machine)
    old = time.time() - release_download.KEEP_SECONDS - 60
    os.utime(machine / "cache" / release_download.FOLDER, (old, old))
    provide(server.url)
    assert not downloads(machine)


def test_missing_zstd_is_reported(start, machine, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.setenv("WEARABLE_CACHE_DIR", str(machine / "cache"))
    monkeypatch.setenv("PATH", str(machine))
    monkeypatch.setattr(release_download, "is_missing", lambda: True)
    monkeypatch.delenv(release_download.VARIABLE)
    server = start()
    monkeypatch.setenv(release_download.URL_VARIABLE, server.url)
    release_download.provide()
    printed = capsys.readouterr().out
    assert is_one_reason(printed) and "zstd is not installed" in printed
    assert not server.requests


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/owner/some.name",
        "https://github.com/owner/some.name.git",
        "https://github.com/owner/some.name/",
        "https://github.com/owner/some.name.git/",
        "https://GitHub.com/owner/some.name.git",
        "https://www.github.com/owner/some.name",
        "http://github.com/owner/some.name.git",
        "https://user@github.com/owner/some.name.git",
        "https://user:secret@github.com/owner/some.name.git",
        "https://me@mail.example:secret@github.com/owner/some.name.git",
        "https://github.com:443/owner/some.name",
        "git://github.com/owner/some.name.git",
        "git@github.com:owner/some.name.git",
        "git@github.com:owner/some.name",
        "git@github.com:/owner/some.name.git",
        "github.com:owner/some.name.git",
        "org-123@github.com:owner/some.name.git",
        "ssh://git@github.com/owner/some.name.git",
        "ssh://git@github.com:22/owner/some.name.git",
        "git+ssh://git@github.com/owner/some.name",
        "ssh://git@ssh.github.com:443/owner/some.name.git",
    ],
)
def test_address_of_the_releases_follows_from_the_origin(machine, monkeypatch, url):
    monkeypatch.setattr(release_download, "origin", lambda: url)
    expected = "https://github.com/owner/some.name/releases/download/bundles"
    assert release_download.releases_url() == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/home/user/github.com/owner/name",
        "../github.com/owner/name",
        "file:///srv/github.com/owner/name",
        "https://gitlab.com/owner/name.git",
        "https://github.com.example/owner/name.git",
        "https://notgithub.com/owner/name.git",
        "https://github.com@host.example/owner/name.git",
        "https://host.example/github.com/owner/name.git",
        "https://github.com/owner",
        "https://github.com/owner/name/more",
        "https://github.com/owner/name?query",
        "git@host.example:github.com/owner/name.git",
        "git@gitlab.com:owner/name.git",
        "git@github.com",
    ],
)
def test_other_origin_is_silent(provide, installed, no_names, monkeypatch, url):
    monkeypatch.setattr(release_download, "origin", lambda: url)
    assert provide(None) == ""
    assert not installed


def test_origin_is_read_from_the_clone_only(tmp_path, monkeypatch):
    url = "https://user:secret@github.com/owner/name.git"
    git = ["git", "-C", tmp_path]
    subprocess.run([*git, "init", "--quiet"], check=True)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert release_download.origin() == ""
    subprocess.run([*git, "remote", "add", "origin", url], check=True)
    assert release_download.origin() == url
    # An unpacked archive in another repository is no clone.
    monkeypatch.setattr(paths, "ROOT", tmp_path / "unpacked")
    paths.ROOT.mkdir()
    assert release_download.origin() == ""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert release_download.origin() == ""


def test_workflows_download_no_bundle():
    for file in WORKFLOWS.glob("*.yml"):
        workflow = yaml.safe_load(file.read_text())
        assert workflow["env"][release_download.VARIABLE] == "0", file


def test_release_workflow_publishes_where_setup_looks():
    text = (WORKFLOWS / "release.yml").read_text()
    assert yaml.safe_load(text)["env"]["BUNDLES"] == release_download.RELEASE
    pattern = "wearable-environment-*.tar.zst"
    assert pattern in text and Path(offline_bundle.name()).match(pattern)
    # The checksum has this form.
    assert 'sha256sum "$file" > "$file.sha256"' in text

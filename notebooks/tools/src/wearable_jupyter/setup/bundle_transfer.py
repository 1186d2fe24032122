"""Transfers the bundle of this clone and platform from a folder on a server into a local one."""

import ipaddress
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from . import offline_bundle
from .errors import UserError
from .progress import reporting

# Connections for one download, as long as each of them delivers something.
ATTEMPTS = 5
# The upper limit for the size of a `.sha256` file.
MAX_CHECKSUM_BYTES = 1000


class Download:
    """The progress of a download, in bytes."""

    def __init__(self, start: int, total: int) -> None:
        self.start, self.done, self.total = start, start, total
        self.started = time.monotonic()

    def seconds_left(self) -> float | None:
        """An estimate from the speed so far; None before the first bytes."""
        if self.done == self.start:
            return None
        seconds = time.monotonic() - self.started
        return (self.total - self.done) * seconds / (self.done - self.start)

    def __str__(self) -> str:
        return f"download: {megabytes(self.done)} of {megabytes(self.total)} MB"


def fetch(releases: str, downloads: Path, timeout: float, min_speed: float) -> Path:
    """Download the bundle from the URL `releases`, verify it, and return its path in `downloads`.

    Raises `UserError` with the reason in one line if there is none, or if the connection fails.
    """
    try:
        folder = httpx.URL(releases)
    except httpx.InvalidURL as error:
        # The error's own message may contain a password.
        raise UserError("WEARABLE_RELEASES_URL is not a valid URL") from error
    try:
        with client(folder, timeout) as connection:
            return download(connection, folder, downloads, min_speed)
    # UnicodeError: Python cannot encode the host's name.
    except (httpx.HTTPError, UnicodeError) as error:
        raise UserError(f"the connection to {folder.host} failed: {message(error)}") from error


def message(error: Exception) -> str:
    """An error of the connection in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def client(folder: httpx.URL, timeout: float) -> httpx.Client:
    """An HTTP client that uses the proxy variables and requires https, also after a redirect.

    For tests, it allows http on the loopback interface if `folder` is there. Raises `UserError`
    for a proxy that it does not support.
    """

    def require_https(request: httpx.Request) -> None:
        if request.url.scheme == "https":
            return
        if not (on_loopback(folder) and on_loopback(request.url)):
            raise UserError(f"{printable(request.url)} does not begin with https://")

    try:
        return httpx.Client(
            # Certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR.
            verify=ssl.create_default_context(),
            timeout=timeout,
            follow_redirects=True,
            event_hooks={"request": [require_https]},
            headers={"Accept-Encoding": "identity"},
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        # The error's own message may contain a password.
        raise UserError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not an http:// or https:// URL"
        ) from error


def on_loopback(url: httpx.URL) -> bool:
    """Whether a URL names this machine by its address; a name could be resolved elsewhere."""
    try:
        return url.scheme == "http" and ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return False


def printable(url: httpx.URL) -> str:
    """A URL without credentials: user, password and query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def download(
    connection: httpx.Client, folder: httpx.URL, downloads: Path, min_speed: float
) -> Path:
    """Download the bundle of this clone and platform into `downloads`, and verify its SHA-256.

    Continues the download of an earlier process. Raises `UserError` or `httpx.HTTPError`.
    """
    name = offline_bundle.name()
    address = folder.copy_with(path=f"{folder.path.rstrip('/')}/{name}")
    checksum = read_checksum(connection, address, min_speed)
    # Another checksum means another file, so its folder is not continued but deleted.
    bundle = downloads / checksum / name
    downloads.mkdir(mode=0o700, exist_ok=True)
    for other in downloads.iterdir():
        if other != bundle.parent:
            shutil.rmtree(other)
    bundle.parent.mkdir(mode=0o700, exist_ok=True)
    bundle.touch(mode=0o600)
    if offline_bundle.digest(bundle) == checksum:
        return bundle
    for attempt in range(1, ATTEMPTS + 1):
        before = bundle.stat().st_size
        try:
            transfer(connection, address, bundle, min_speed)
            break
        except httpx.TransportError as error:
            if attempt == ATTEMPTS or bundle.stat().st_size <= before:
                raise
            print(f"The connection to {folder.host} broke: {message(error)}", flush=True)
    if offline_bundle.digest(bundle) != checksum:
        shutil.rmtree(bundle.parent)
        raise UserError(f"{printable(address)} does not have the SHA-256 in {name}.sha256")
    return bundle


def read_checksum(connection: httpx.Client, address: httpx.URL, min_speed: float) -> str:
    """The SHA-256 in the file next to a bundle, as sha256sum writes it."""
    address = address.copy_with(path=f"{address.path}.sha256")
    content = b""
    with connection.stream("GET", address) as response:
        check_status(response, address)
        for block in at_speed(response.iter_raw(), min_speed, connection.timeout.read):
            content += block
            if len(content) > MAX_CHECKSUM_BYTES:
                break
    checksum = re.fullmatch(rb"([0-9a-f]{64})(?: [ *][^\r\n]+)?\s*", content)
    if checksum is None:
        raise UserError(f"{printable(address)} does not contain a SHA-256")
    return checksum[1].decode()


def check_status(response: httpx.Response, address: httpx.URL) -> None:
    """Raise `UserError` if the server does not send the file at `address`."""
    if response.status_code == httpx.codes.NOT_FOUND:
        raise UserError(f"{printable(address)} does not exist")
    if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise UserError(f"{printable(address)}: HTTP status {response.status_code}")


def transfer(connection: httpx.Client, address: httpx.URL, bundle: Path, min_speed: float) -> None:
    """Append to `bundle` what it lacks of the file at `address`.

    Raises `UserError`, `OSError`, or `httpx.TransportError` if the connection breaks.
    """
    start = bundle.stat().st_size
    headers = {"Range": f"bytes={start}-"} if start else {}
    with connection.stream("GET", address, headers=headers) as response:
        if start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # All bytes are here, but their SHA-256 is wrong.
            shutil.rmtree(bundle.parent)
            raise UserError(f"the part of {bundle.name} is damaged")
        check_status(response, address)
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            # The server sends the file from its beginning.
            start = 0
        try:
            progress = Download(start, start + int(response.headers["Content-Length"]))
        except (KeyError, ValueError) as error:
            raise UserError(f"the size of {printable(address)} is unknown") from error
        print_start(progress, address)
        check_space(bundle.parent, progress)
        try:
            with bundle.open("r+b") as file, reporting(progress):
                file.truncate(start)
                file.seek(start)
                for block in at_speed(response.iter_raw(), min_speed, connection.timeout.read):
                    file.write(block)
                    progress.done += len(block)
        except OSError:
            # Compiling needs the space.
            shutil.rmtree(bundle.parent)
            raise


def print_start(progress: Download, address: httpx.URL) -> None:
    """Print what is downloaded, how large it is, and from where."""
    size = f"{megabytes(progress.total)} MB"
    if progress.start:
        size = f"the last {megabytes(progress.total - progress.start)} of {size}"
    print(
        f"Downloading the compiled packages and the kernel, {size}, from {printable(address)}\n"
        "To compile them instead, press Ctrl+C and run: ./justw setup --compile",
        flush=True,
    )


def check_space(folder: Path, progress: Download) -> None:
    """Raise `UserError` if the disk has no space for the rest of the file."""
    free, needed = shutil.disk_usage(folder).free, progress.total - progress.start
    if free < needed:
        raise UserError(
            f"the download needs {megabytes(needed)} MB, but {folder} has {megabytes(free)} MB"
        )


def at_speed(blocks: Iterator[bytes], min_speed: float, seconds: float) -> Iterator[bytes]:
    """Yield the blocks. Raises `httpx.ReadTimeout` if a period had fewer bytes per second."""
    period, received = time.monotonic(), 0
    for block in blocks:
        yield block
        received += len(block)
        passed = time.monotonic() - period
        if passed > seconds:
            if received < min_speed * passed:
                raise httpx.ReadTimeout(f"only {received / passed / 1000:.0f} kB per second")
            period, received = time.monotonic(), 0


def megabytes(size: int) -> str:
    """A number of bytes in MB."""
    return f"{size / 1e6:.0f}"

"""Downloads an offline bundle from the releases of the clone's repository, instead of compiling.

The workflow `release.yml` publishes all bundles in one release, `bundles`. A bundle's file name
contains platform and KEY, so a clone of any age can compute the address of its bundle, and needs no
API. The file next to it, with the suffix `.sha256`, detects damage. It does not prove who built the
bundle, because it comes from the same server. TLS proves that both files come from this server, so
every request and redirect must use https.
"""

import ipaddress
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from ..bootstrap.command_environment import tool_environment
from . import artifact_cache, build, caches, offline_bundle, paths
from .errors import UserError
from .progress import reporting

# "0" turns downloads off.
VARIABLE = "WEARABLE_DOWNLOAD"
# The address of a folder with bundles, instead of the releases of the clone's origin.
URL_VARIABLE = "WEARABLE_RELEASES_URL"
# The tag of the release that has the bundles of all versions; see release.yml.
RELEASE = "bundles"
# The forms of an origin on GitHub, as a URL and as scp writes it. The group is OWNER/NAME.
REPOSITORY = r"([A-Za-z0-9-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?"
ORIGINS = (
    rf"(?:https?|git|(?:git\+)?ssh)://(?:[^/]*@)?(?:www\.|ssh\.)?github\.com(?::\d+)?/{REPOSITORY}",
    rf"(?:[^/:]*@)?(?:ssh\.)?github\.com:/?{REPOSITORY}",
)
# A connection that delivers nothing for this time is broken.
TIMEOUT_SECONDS = 30.0
# A connection with fewer bytes per second is broken, too: compiling would be faster.
MIN_SPEED = 100_000
# Connections for one download, as long as each of them delivers something.
ATTEMPTS = 5
# A folder in the cache for the file that is being downloaded, and its lifetime in seconds.
FOLDER = ".download"
KEEP_SECONDS = 24 * 3600
# The upper limit for the size of a `.sha256` file.
MAX_CHECKSUM_BYTES = 1000


class Unavailable(Exception):
    """There is no usable bundle; the message is the reason, in one line."""


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


def provide(timeout: float = TIMEOUT_SECONDS, min_speed: float = MIN_SPEED) -> None:
    """Download and install a bundle if no cache has the kernel's program and the dependencies.

    If that is impossible, print the reason; the caller then compiles. A connection ends after
    `timeout` seconds without data, or below `min_speed` bytes per second.
    """
    if os.environ.get(VARIABLE) == "0":
        return
    if not is_missing():
        delete_old_download()
        return
    if (releases := releases_url()) is None:
        return
    try:
        offline_bundle.require_zstd()
        with build.locked("download"):
            # Another process may have installed the bundle meanwhile.
            if is_missing():
                install_from(releases, timeout, min_speed)
    except (Unavailable, UserError) as reason:
        print(f"Compiling instead of downloading: {reason}", flush=True)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"Compiling instead of downloading: {place}{error.strerror}", flush=True)


def is_missing() -> bool:
    """Whether setup would compile the kernel's program or the dependencies."""
    if not caches.evcxr().is_file():
        return True
    here = caches.compiled_dependencies().is_dir() or build.has_dependencies()
    return not here and artifact_cache.find_compatible() is None


def delete_old_download() -> None:
    """Delete what an earlier process downloaded, but did not install."""
    folder = caches.cache_directory() / FOLDER
    if folder.is_dir() and time.time() - folder.stat().st_mtime > KEEP_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)


def releases_url() -> str | None:
    """The address of the folder with bundles; None without an origin on GitHub and a variable."""
    if given := os.environ.get(URL_VARIABLE):
        return given
    repository = github_repository(origin())
    return repository and f"https://github.com/{repository}/releases/download/{RELEASE}"


def origin() -> str:
    """The URL from which git cloned this repository; empty if there is none."""
    # In a folder without .git, git would read a repository around it.
    if not (paths.ROOT / ".git").exists():
        return ""
    command = ["git", "remote", "get-url", "origin"]
    options = {"cwd": paths.ROOT, "env": tool_environment(), "capture_output": True, "text": True}
    try:
        return subprocess.run(command, **options).stdout.strip()
    except OSError:
        return ""


def github_repository(url: str) -> str | None:
    """`OWNER/NAME` of a repository on GitHub, without the credentials in its URL."""
    matches = (re.fullmatch(form, url, re.IGNORECASE) for form in ORIGINS)
    return next((match[1] for match in matches if match), None)


def install_from(releases: str, timeout: float, min_speed: float) -> None:
    """Download and install the bundle from a folder.

    Raises `Unavailable` or `UserError` if there is none, or if it cannot be used.
    """
    try:
        folder = httpx.URL(releases)
    except httpx.InvalidURL as error:
        # The error's own message may contain a password.
        raise Unavailable(f"{URL_VARIABLE} is not a valid URL") from error
    try:
        with client(folder, timeout) as connection:
            bundle = download(connection, folder, min_speed)
    # UnicodeError: Python cannot encode the host's name.
    except (httpx.HTTPError, UnicodeError) as error:
        raise Unavailable(f"the connection to {folder.host} failed: {message(error)}") from error
    # An interrupted process keeps the file, and the next process installs it.
    try:
        offline_bundle.install(bundle)
    except (UserError, OSError):
        shutil.rmtree(bundle.parent, ignore_errors=True)
        raise
    shutil.rmtree(bundle.parent.parent, ignore_errors=True)


def message(error: Exception) -> str:
    """An error of the connection in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def client(folder: httpx.URL, timeout: float) -> httpx.Client:
    """An HTTP client that uses the proxy variables and requires https, also after a redirect.

    For tests, it allows http on the loopback interface if `folder` is there. Raises `Unavailable`
    for a proxy that it does not support.
    """

    def require_https(request: httpx.Request) -> None:
        if request.url.scheme == "https":
            return
        if not (on_loopback(folder) and on_loopback(request.url)):
            raise Unavailable(f"{printable(request.url)} does not begin with https://")

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
        raise Unavailable(
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


def download(connection: httpx.Client, folder: httpx.URL, min_speed: float) -> Path:
    """Download the bundle of this clone and platform into the cache, and verify its SHA-256.

    Continues the download of an earlier process. Raises `Unavailable` or `httpx.HTTPError`.
    """
    name = offline_bundle.name()
    address = folder.copy_with(path=f"{folder.path.rstrip('/')}/{name}")
    checksum = read_checksum(connection, address, min_speed)
    # Another checksum means another file, so its folder is not continued but deleted.
    downloads = caches.make_cache() / FOLDER
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
        raise Unavailable(f"{printable(address)} does not have the SHA-256 in {name}.sha256")
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
        raise Unavailable(f"{printable(address)} does not contain a SHA-256")
    return checksum[1].decode()


def check_status(response: httpx.Response, address: httpx.URL) -> None:
    """Raise `Unavailable` if the server does not send the file at `address`."""
    if response.status_code == httpx.codes.NOT_FOUND:
        raise Unavailable(f"{printable(address)} does not exist")
    if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise Unavailable(f"{printable(address)}: HTTP status {response.status_code}")


def transfer(connection: httpx.Client, address: httpx.URL, bundle: Path, min_speed: float) -> None:
    """Append to `bundle` what it lacks of the file at `address`.

    Raises `Unavailable`, `OSError`, or `httpx.TransportError` if the connection breaks.
    """
    start = bundle.stat().st_size
    headers = {"Range": f"bytes={start}-"} if start else {}
    with connection.stream("GET", address, headers=headers) as response:
        if start and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # All bytes are here, but their SHA-256 is wrong.
            shutil.rmtree(bundle.parent)
            raise Unavailable(f"the part of {bundle.name} is damaged")
        check_status(response, address)
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            # The server sends the file from its beginning.
            start = 0
        try:
            progress = Download(start, start + int(response.headers["Content-Length"]))
        except (KeyError, ValueError) as error:
            raise Unavailable(f"the size of {printable(address)} is unknown") from error
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
    """Raise `Unavailable` if the disk has no space for the rest of the file."""
    free, needed = shutil.disk_usage(folder).free, progress.total - progress.start
    if free < needed:
        raise Unavailable(
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

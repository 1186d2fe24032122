"""Downloads an offline bundle from the releases of the clone's repository, instead of compiling.

The workflow `release.yml` publishes all bundles in one release, `bundles`. A bundle's file name
contains platform and KEY, so a clone of any age can compute the address of its bundle, and needs no
API. The file next to it, with the suffix `.sha256`, detects damage. It does not prove who built the
bundle, because it comes from the same server. TLS proves that both files come from this server, so
every request and redirect must use https. `bundle_transfer.py` has the requests.
"""

import os
import re
import shutil
import subprocess
import time

from ..bootstrap.command_environment import tool_environment
from . import artifact_cache, build, caches, offline_bundle, paths
from .errors import UserError

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
# A folder in the cache for the file that is being downloaded, and its lifetime in seconds.
FOLDER = ".download"
KEEP_SECONDS = 24 * 3600


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
    except UserError as reason:
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

    Raises `UserError` if there is none, or if it cannot be used.
    """
    # Loads an HTTP client, which takes a quarter of a second.
    from . import bundle_transfer

    downloads = caches.make_cache() / FOLDER
    bundle = bundle_transfer.fetch(releases, downloads, timeout, min_speed)
    # An interrupted process keeps the file, and the next process installs it.
    try:
        offline_bundle.install(bundle)
    except (UserError, OSError):
        shutil.rmtree(bundle.parent, ignore_errors=True)
        raise
    shutil.rmtree(bundle.parent.parent, ignore_errors=True)

"""Starts Spark and Sail on the loopback interface."""

import json
import re
import secrets
import shutil
import subprocess
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..bootstrap import platform
from ..bootstrap.platform import LOOPBACK
from ..setup import paths
from ..setup.errors import UserError
from ..setup.venvs import ensure_venv
from .processes import Processes, free_port, listens

HERE = Path(__file__).parent
MIN_JAVA = 17
# Memory of each daemon. A Connect server with less does not start.
DAEMON_MB = 700
EXECUTOR_MB = 900
WORKER = "org.apache.spark.deploy.worker.Worker"
START_SECONDS = 120
# Sail counts a worker as lost after this time without a heartbeat; its default is two minutes.
HEARTBEAT_SECONDS = 5


@dataclass(frozen=True)
class Running:
    """The addresses of a running cluster."""

    engine: str
    workers: int
    # The address for clients: sc://HOST:PORT.
    remote: str
    # The web page with the REST interface; Sail has none.
    page: str | None = None
    # Spark only: the token that clients must send, and the master's address for workers.
    token: str | None = None
    master: str | None = None
    # Web pages for users: content and address.
    pages: tuple[tuple[str, str], ...] = ()

    def variables(self) -> dict[str, str]:
        """The environment variables with which a client is authenticated."""
        return {"SPARK_CONNECT_AUTHENTICATE_TOKEN": self.token} if self.token else {}


def java() -> str:
    """Return the path of Java. Raises `UserError` if it is missing, or too old for Spark."""
    program = shutil.which("java")
    install = platform.install_hint("java")
    if program is None:
        raise UserError(f"Spark needs Java {MIN_JAVA} or newer, but java is missing. {install}")
    version_output = subprocess.run([program, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', version_output)
    if version is None or int(version.group(1)) < MIN_JAVA:
        line = (version_output.splitlines() or ["of unknown version"])[0]
        raise UserError(f"Spark needs Java {MIN_JAVA} or newer, but {program} is {line}. {install}")
    return program


def spark(processes: Processes, workers: int, settings: dict[str, str]) -> Running:
    """Start a standalone Spark: a master, workers with one core each, and a Connect server.

    `settings` are additional Spark properties of the Connect server.
    """
    java()
    token = secrets.token_hex(16)
    require_authentication(processes, token)
    master, page, connect, ui = map(free_port, (7077, 8080, 15002, 4040))
    variables = spark_variables(processes)
    program = Path(variables["SPARK_HOME"], "bin")
    processes.start(
        "master",
        *(program / "spark-class", "org.apache.spark.deploy.master.Master", "--host", LOOPBACK),
        *("--port", str(master), "--webui-port", str(page)),
        **variables,
    )
    processes.wait_for("Spark's master", lambda: listens(master), START_SECONDS)
    for number in range(1, workers + 1):
        add_worker(processes, f"spark://{LOOPBACK}:{master}", number)
    given = {
        "spark.executor.memory": f"{EXECUTOR_MB}m",
        "spark.executor.cores": "1",
        "spark.driver.host": LOOPBACK,
        "spark.driver.bindAddress": LOOPBACK,
        "spark.connect.grpc.binding.address": LOOPBACK,
        "spark.connect.grpc.binding.port": str(connect),
        "spark.ui.port": str(ui),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        "spark.local.dir": str(processes.logs / "local"),
        "spark.sql.warehouse.dir": str(processes.logs / "warehouse"),
        **settings,
    }
    processes.start(
        "connect",
        *(program / "spark-submit", "--master", f"spark://{LOOPBACK}:{master}"),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--driver-memory", f"{DAEMON_MB}m"),
        *(part for name, value in given.items() for part in ("--conf", f"{name}={value}")),
        "spark-internal",
        **variables,
    )
    status = f"http://{LOOPBACK}:{ui}"
    ready = lambda: listens(connect) and len(executors(status)) == workers  # noqa: E731
    processes.wait_for("Spark's Connect server with its workers", ready, START_SECONDS)
    return Running(
        engine="spark",
        workers=workers,
        remote=f"sc://{LOOPBACK}:{connect}",
        page=status,
        token=token,
        master=f"spark://{LOOPBACK}:{master}",
        pages=(("workers", f"http://{LOOPBACK}:{page}"), ("queries and stages", status)),
    )


def require_authentication(processes: Processes, token: str) -> None:
    """Make Spark reject processes and clients without the secrets.

    Other users of this machine can connect to loopback, too. The secrets are in a file, because
    other users can list the arguments of a command.
    """
    settings = {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secrets.token_hex(16),
        "spark.connect.authenticate.token": token,
        # Otherwise every visitor of the web page could stop queries.
        "spark.ui.killEnabled": "false",
    }
    file = processes.logs / "spark-defaults.conf"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))


def spark_variables(processes: Processes) -> dict[str, str]:
    """Install Spark if necessary, and return the environment variables of its programs."""
    return {
        "SPARK_HOME": str(spark_home(ensure_venv("cluster-spark", HERE / "spark.txt"))),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_PUBLIC_DNS": LOOPBACK,
        "SPARK_DAEMON_MEMORY": f"{DAEMON_MB}m",
        # Ignore Spark settings of this machine.
        "SPARK_CONF_DIR": str(processes.logs),
    }


def add_worker(processes: Processes, master: str, number: int) -> None:
    """Start a worker with one core, and register it with the master."""
    variables = spark_variables(processes)
    folder = processes.logs / f"worker-{number}"
    folder.mkdir()
    processes.start(
        folder.name,
        *(Path(variables["SPARK_HOME"], "bin", "spark-class"), WORKER, "--host", LOOPBACK),
        *("--cores", "1", "--memory", f"{EXECUTOR_MB + 300}m", "--work-dir", folder),
        *("--webui-port", "0", master),
        **variables,
    )


def spark_home(binaries: Path) -> Path:
    """Return the folder of Spark in its virtual environment.

    Raises `UserError` if the installation is incomplete.
    """
    jars = list(binaries.parent.glob("lib/python3*/site-packages/pyspark/jars"))
    if not jars:
        raise UserError(
            "The installation of Spark in target/cluster-spark is incomplete. Delete this "
            "directory, and run the command again"
        )
    return jars[0].parent


def rest(page: str, path: str) -> list[dict]:
    """Read `path` of the only application in Spark's REST interface; `[]` while Spark starts."""
    url = f"{page}/api/v1/applications"
    with suppress(OSError, ValueError, IndexError):
        with urllib.request.urlopen(url, timeout=5) as reply:
            application = json.load(reply)[0]["id"]
        with urllib.request.urlopen(f"{url}/{application}/{path}", timeout=5) as reply:
            return json.load(reply)
    return []


def executors(page: str) -> list[dict]:
    """The active executors, without the driver."""
    return [one for one in rest(page, "executors") if one["id"] != "driver" and one["isActive"]]


def sail(processes: Processes, workers: int, settings: dict[str, str]) -> Running:
    """Start Sail's local cluster, whose driver and workers are threads of one process.

    `settings` are additional environment variables of Sail.
    """
    program = ensure_venv("cluster-sail", HERE / "sail.txt") / "sail"
    port = free_port(50051)
    given = {
        "SAIL_MODE": "local-cluster",
        "SAIL_CLUSTER__WORKER_INITIAL_COUNT": str(workers),
        "SAIL_CLUSTER__WORKER_MAX_COUNT": str(workers),
        "SAIL_CLUSTER__WORKER_TASK_SLOTS": "4",
        "SAIL_CLUSTER__WORKER_HEARTBEAT_INTERVAL_SECS": "1",
        "SAIL_CLUSTER__WORKER_HEARTBEAT_TIMEOUT_SECS": str(HEARTBEAT_SECONDS),
        **settings,
    }
    processes.start(
        "sail", program, "spark", "server", "--ip", LOOPBACK, "--port", str(port), **given
    )
    processes.wait_for("Sail", lambda: listens(port), START_SECONDS)
    return Running(engine="sail", workers=workers, remote=f"sc://{LOOPBACK}:{port}")


ENGINES = {"sail": sail, "spark": spark}


def logs_folder() -> Path:
    """The folder for logs and temporary files of this clone's clusters."""
    return paths.TARGET / "cluster"

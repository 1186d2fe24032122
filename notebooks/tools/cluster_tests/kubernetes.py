"""A fake Kubernetes API with the requests that Sail sends; a pod is a process of this machine.

Only as pods are Sail's workers separate processes, which a test can kill one by one. In its local
cluster, workers are threads.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from wearable_jupyter.bootstrap.platform import LOOPBACK
from wearable_jupyter.cluster.processes import Processes

CONFIGURATION = """\
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "http://{place}"}}}}]
users: [{{name: anybody, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: anybody}}}}]
current-context: here
"""


class Kubernetes:
    """Serves the API on loopback and starts `program` for each pod; `pods` has the processes."""

    def __init__(self, program: Path, pods: Processes) -> None:
        self.program, self.pods = program, pods
        self.server = ThreadingHTTPServer((LOOPBACK, 0), self.handler())
        pods.callback(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self) -> dict[str, str]:
        """The environment variables that make Sail use this API."""
        file = self.pods.logs / "kubernetes.yaml"
        place = f"{LOOPBACK}:{self.server.server_port}"
        file.write_text(CONFIGURATION.format(place=place))
        return {"SAIL_MODE": "kubernetes-cluster", "KUBECONFIG": str(file)}

    def create(self, pod: dict) -> dict:
        """Start a pod's process and return the pod's description."""
        (container,) = pod["spec"]["containers"]
        variables = {entry["name"]: entry.get("value", LOOPBACK) for entry in container["env"]}
        # In a pod, Sail listens on all interfaces. Here, that would open the worker to the network.
        variables |= {name: LOOPBACK for name in variables if name.endswith("LISTEN_HOST")}
        name = pod["metadata"]["name"]
        self.pods.start(name, self.program, *container["args"], **variables)
        return pod | {"status": {"phase": "Pending"}}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        create = self.create

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, status: int, body: dict) -> None:
                content = json.dumps({"apiVersion": "v1"} | body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def body(self) -> dict:
                return json.loads(
                    self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}"
                )

            def do_POST(self) -> None:
                self.reply(201, create(self.body()))

            def do_DELETE(self) -> None:
                self.body()  # the processes end at the end of the test
                self.reply(200, {"kind": "Status", "status": "Success"})

            def log_message(self, *_: object) -> None:
                pass

        return Handler

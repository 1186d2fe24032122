"""A stand-in for Kubernetes, as far as Sail asks it: a pod is a process of this machine.

Sail has worker processes only as pods. With them they can be lost one by one, which its local
cluster's threads cannot.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from wearable_jupyter.cluster.processes import LOOPBACK, Processes

CONFIGURATION = """\
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "http://{place}"}}}}]
users: [{{name: anybody, user: {{}}}}]
contexts: [{{name: here, context: {{cluster: here, user: anybody}}}}]
current-context: here
"""


class Kubernetes:
    """Answers on loopback, and starts `program` for each pod; its processes are in `pods`."""

    def __init__(self, program: Path, pods: Processes) -> None:
        self.program, self.pods = program, pods
        self.server = ThreadingHTTPServer((LOOPBACK, 0), self.handler())
        pods.callback(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self) -> dict[str, str]:
        """What makes Sail use it."""
        file = self.pods.logs / "kubernetes.yaml"
        place = f"{LOOPBACK}:{self.server.server_port}"
        file.write_text(CONFIGURATION.format(place=place))
        return {"SAIL_MODE": "kubernetes-cluster", "KUBECONFIG": str(file)}

    def create(self, pod: dict) -> dict:
        """Start the process of a pod."""
        (container,) = pod["spec"]["containers"]
        variables = {one["name"]: one.get("value", LOOPBACK) for one in container["env"]}
        # A pod listens to everybody in it, which here would be everybody.
        variables |= {name: LOOPBACK for name in variables if name.endswith("LISTEN_HOST")}
        name = pod["metadata"]["name"]
        self.pods.start(name, self.program, *container["args"], **variables)
        return pod | {"status": {"phase": "Pending"}}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        create = self.create

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status: int, body: dict) -> None:
                told = json.dumps({"apiVersion": "v1"} | body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def body(self) -> dict:
                return json.loads(
                    self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}"
                )

            def do_POST(self) -> None:
                self.answer(201, create(self.body()))

            def do_DELETE(self) -> None:
                self.body()  # the processes end with the test
                self.answer(200, {"kind": "Status", "status": "Success"})

            def log_message(self, *_: object) -> None:
                pass

        return Handler

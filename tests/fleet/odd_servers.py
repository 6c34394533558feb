"""Light servers that are slow, refuse requests, or answer REST and TLS too."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from light_server import LightServer


class OddServer(LightServer):
    """Model ``slow`` answers after ``slow_seconds``; model ``bad`` refuses every request."""

    slow_seconds = 1.5

    def _predict(self, request, context):  # type: ignore[no-untyped-def]
        if request.model_spec.name == "bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input query is missing")
        if request.model_spec.name == "slow":
            time.sleep(self.slow_seconds)
        return super()._predict(request, context)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass


class RestServer(LightServer):
    """Answers REST on a second port with its name, method, path, request id and size of the body."""

    def __init__(self, name: str, config_file: Path, **options: Any) -> None:
        answers = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body leave together

            def setup(self) -> None:
                super().setup()
                answers._connections.append(self.connection)

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                size = len(self.rfile.read(int(self.headers.get("content-length") or 0)))
                answers.rest_served.append(self.path)
                found = [answers.name, self.command, self.path, size, self.headers.get("x-request-id")]
                body = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.rest_served: list[str] = []
        """Paths of the requests, in their order."""
        self._connections: list[socket.socket] = []
        self._rest: ThreadingHTTPServer | None = _QuietServer(("127.0.0.1", 0), Handler)
        self.rest_address = f"127.0.0.1:{self._rest.server_port}"
        threading.Thread(target=self._rest.serve_forever, daemon=True).start()
        super().__init__(name, config_file, **options)

    def kill_rest(self) -> None:
        """Ends the REST port alone, with its connections."""
        if self._rest is not None:
            self._rest.shutdown()
            self._rest.server_close()
            self._rest = None
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        super().kill()
        self.kill_rest()


class TlsServer:
    """A gRPC server with TLS and the health service that answers every ``Predict`` with its name."""

    def __init__(self, name: str, credentials: grpc.ServerCredentials, port: int = 0) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from grpc_health.v1 import health, health_pb2, health_pb2_grpc

        self._server = grpc.server(ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        predict = grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())
        service = "tensorflow.serving.PredictionService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Predict": predict}),))
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def kill(self) -> None:
        self._server.stop(None).wait()

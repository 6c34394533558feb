"""Servers that tell what reached them: over gRPC the digest of the message, over REST the path."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

SERVICE = "tensorflow.serving.PredictionService"


class DigestServer:
    """A gRPC server without the health service, as TensorFlow Serving is by default."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        predict = grpc.unary_unary_rpc_method_handler(lambda request, context: hashlib.sha256(request).digest())
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Predict": predict}),))
        place = "127.0.0.1:0"
        port = (
            self._server.add_secure_port(place, credentials) if credentials else self._server.add_insecure_port(place)
        )
        self._server.start()
        self.address = f"127.0.0.1:{port}"

    def kill(self) -> None:
        self._server.stop(None).wait()


class PathServer:
    """A REST server that answers with method, path and size of the body."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                size = len(self.rfile.read(int(self.headers.get("content-length", 0))))
                text = f"{self.command} {self.path} {size}".encode()
                self.send_response(200)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def kill(self) -> None:
        self._server.shutdown()
        self._server.server_close()

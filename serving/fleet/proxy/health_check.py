"""The health check of a server: a gRPC call, written as HTTP/2 frames, since HAProxy 2.6 knows no gRPC check."""

from __future__ import annotations


def check_sequence(*, tls: bool) -> str:
    """A call of ``grpc.health.v1.Health/Check`` as HTTP/2 frames, and what a server that lives answers.

    SERVING, or UNIMPLEMENTED: TensorFlow Serving has the service with ``--enable_grpc_healthcheck_service`` only.

    Args:
        tls: whether the servers expect TLS.
    """

    def literal(index: int, name: bytes, value: bytes) -> bytes:  # HPACK, literal field without indexing
        start = bytes([0x0F, index - 15]) if index >= 15 else bytes([index])
        return start + (bytes([len(name)]) + name if index == 0 else b"") + bytes([len(value)]) + value

    headers = b"\x83\x86" + literal(4, b"", b"/grpc.health.v1.Health/Check") + literal(1, b"", b"dpsr")
    headers += literal(31, b"", b"application/grpc") + literal(0, b"te", b"trailers")

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content

    request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    request += frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5))
    answer, unimplemented = (bytes(4) + b"\x02\x08").hex(), b"grpc-status\x0212".hex()
    any_error = b"grpc-status".hex() + "0[12]3"
    # The first rule waits for any status, the second one judges it and waits for nothing: a single rule would wait for
    # more bytes after NOT_SERVING until the check's time is over.
    return f"""  option tcp-check
  tcp-check connect{" ssl alpn h2" if tls else ""}
  tcp-check send-binary {request.hex()}
  tcp-check expect rbinary (?i){answer}0[0-9]|{any_error}
  tcp-check expect min-recv 1 rbinary (?i){answer}01|{unimplemented}"""

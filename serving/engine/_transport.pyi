class Transport:
    def __init__(
        self,
        service: object,
        *,
        address: str,
        backend: str,
        threads: int,
        max_message_bytes: int,
        reuse_port: bool,
        key: bytes | None,
        certificate: bytes | None,
        client_ca: bytes | None,
    ) -> None: ...
    @property
    def port(self) -> int: ...
    def shutdown(self, grace_seconds: float) -> None: ...

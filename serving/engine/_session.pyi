from collections.abc import Sequence

import numpy as np

class SessionError(Exception):
    args: tuple[int, bytes]

class Outputs:
    by_row: bool
    messages: list[bytes]
    def __getitem__(self, alias: str) -> np.ndarray: ...

class Function:
    def run(
        self,
        calls: Sequence[Sequence[np.ndarray]],
        rows: Sequence[int],
        model_spec: bytes | None = None,
        *,
        in_background: bool = False,
    ) -> Outputs: ...

class Session:
    def __init__(self, path: str, config: bytes) -> None: ...
    def function(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, str]]) -> Function: ...
    def close(self) -> None: ...

from collections.abc import Mapping, Sequence

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

class InFlight:
    count: int
    def __init__(self, most: int) -> None: ...
    def enter(self) -> bool: ...
    def leave(self) -> None: ...

class Servable:
    def retire(self, seconds: float) -> int: ...

_Status = tuple[int, bytes]
_Labels = tuple[str, str, str]
_Counts = tuple[list[int], float]
_Input = tuple[str, str, int, list[int] | None, np.ndarray | None]
_Signature = tuple[str, Sequence[_Input], Sequence[tuple[str, str]], bool]

class Engine:
    def __init__(
        self,
        *,
        in_flight: InFlight,
        parallel_runs: int,
        shared_run_rows: int,
        batch_rows: int,
        query_bytes: int,
        logged: str,
        id_prefix: str,
        refusals: Mapping[str, _Status],
        second_bounds: Sequence[float],
        row_bounds: Sequence[float],
        request_bounds: Sequence[float],
    ) -> None: ...
    def servable(
        self,
        session: Session,
        name: str,
        version: int,
        metadata: bytes,
        unloaded: _Status,
        signatures: Sequence[_Signature],
    ) -> Servable: ...
    def set_models(self, models: Mapping[str, tuple[Mapping[int, Servable], Mapping[str, int]]]) -> None: ...
    def set_health(self, statuses: Mapping[str, int]) -> None: ...
    def stop(self) -> None: ...
    def take_figures(
        self,
    ) -> list[tuple[_Labels, dict[int, int], _Counts, _Counts, _Counts, int, int]]: ...
    def take_notes(
        self,
    ) -> tuple[list[tuple[float, str, str, float, _Labels, int | None, int, str]], int]: ...
    def service(self) -> object: ...

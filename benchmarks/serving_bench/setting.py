"""One servable below fresh base paths, with what all parts of the benchmark share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from serving_bench.load import make_requests
from serving_bench.servable import NAME, publish
from serving_bench.servers import Plane, run_dpsr

LOAD_SECONDS = 600.0
"""Time that a version may take to load."""
_REQUESTS = 500


class Setting:
    """Version 1 of two models below a folder, requests of the first one, and the options of the run."""

    def __init__(self, version: Path, folder: Path, options: argparse.Namespace) -> None:
        self.version = version
        self.folder = folder
        self.base_path = folder / NAME
        self.second = folder / "second"
        self.options = options
        for base_path in (self.base_path, self.second):
            base_path.mkdir()
            publish(version, base_path, 1)
        self.requests = make_requests(NAME, _REQUESTS)


def dpsr_server(plane: Plane) -> Callable[..., Any]:
    """The server of dpsr with a data plane, for ``servers.started``."""
    return partial(run_dpsr, data_plane=plane)

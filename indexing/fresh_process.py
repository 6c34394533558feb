"""The process that checks a servable: it starts while the servable is built, as TensorFlow takes seconds to import."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dpsr.indexing.errors import ExportError
from dpsr.indexing.parity import FOUND_FILE

FreshProcess = subprocess.Popen[str]


@contextlib.contextmanager
def fresh_process() -> Iterator[FreshProcess]:
    """A process that runs ``dpsr.indexing.verify`` and waits for its task; it does not outlive the block."""
    # Servables are served from the CPU, and the accelerator's memory may be taken by this process.
    # Keras 3, which TensorFlow would import, takes a second, and no servable needs it.
    defaults = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1"}
    environment = {**defaults, **os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "dpsr.indexing.verify"]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def verify_in_fresh_process(process: FreshProcess, servable: Path, examples: Path) -> dict[str, np.ndarray]:
    """Loads a servable in a process of its own and checks its answers; see ``dpsr.indexing.verify``.

    Returns:
        What ``verify`` returns.

    Raises:
        ExportError: it does not load, or does not answer as the model does.
    """
    output, errors = process.communicate(json.dumps([str(servable), str(examples)]))
    try:
        report = json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        tail = "\n".join(errors.splitlines()[-15:])
        raise ExportError(
            f"the servable does not load or answer in a fresh process (exit code {process.returncode}); "
            f"nothing was published:\n{tail}"
        ) from None
    if "error" in report:
        raise ExportError(f"the servable answers differently from the model; nothing was published: {report['error']}")
    with np.load(examples / FOUND_FILE) as found:
        return dict(found)

"""Asks the process of ``peers.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Peers:
    """The process of ``text_encoder_bench/peers.py``."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("peers.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def __call__(self, method: str, **arguments: Any) -> Any:
        """The answer of a method; None where a peer is not installed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if isinstance(answer, dict) and "error" in answer:
            print(f"left out: {answer['error']}", file=sys.stderr)
            return None
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process of the peers has ended; see benchmarks/text_encoder_bench/peers.py")
        return json.loads(line)

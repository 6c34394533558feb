"""Closed loops: callers that each wait for their last answer, in C++ where gRPC's C++ library is installed."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import grpc
import numpy as np
from serving_bench.load import METHOD

_SOURCE = Path(__file__).with_name("load_client.cc")
_COMPILE = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
_LINK = ["-Wl,--copy-dt-needed-entries", "-lgrpc++", "-lgrpc", "-lgpr", "-pthread"]


class Load(NamedTuple):
    """What the callers of one client measured."""

    answers: int
    seconds: float
    """Until the last answer."""
    median_ms: float
    p99_ms: float
    cpu_seconds: float
    """Processor time of the client."""


class Client(Protocol):
    """Loads servers with the same requests."""

    description: str

    def load(self, address: str, callers: int, seconds: float) -> Load:
        """Calls in closed loops, all on one connection.

        Args:
            address: of the server.
            callers: requests in flight.
            seconds: time after which no caller asks again.

        Raises:
            SystemExit: a call failed; the program is of no use as its figures would be.
        """


class NativeClient:
    """Client in C++, one thread: costs the servers beside it little."""

    description = "in C++"

    def __init__(self, program: Path, requests: Sequence[bytes], folder: Path) -> None:
        self._program = program
        self._requests = folder / "requests"
        self._requests.write_bytes(b"".join(struct.pack("<I", len(request)) + request for request in requests))

    def load(self, address: str, callers: int, seconds: float) -> Load:
        """See ``Client``."""
        command = [str(self._program), address, METHOD, str(self._requests), str(callers), str(seconds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the load of {address} by {callers} callers failed; the client's own error is above")
        return Load(**json.loads(done.stdout))


class PythonClient:
    """Client of grpc.aio: costs about as much as a server."""

    description = "in Python, which takes processor time from the servers"

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests

    def load(self, address: str, callers: int, seconds: float) -> Load:
        """See ``Client``."""
        return asyncio.run(self._load(address, callers, seconds))

    async def _load(self, address: str, callers: int, seconds: float) -> Load:
        latencies: list[float] = []
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(METHOD)
            await call(self._requests[0])
            begin, processor = time.perf_counter(), time.process_time()

            async def caller(offset: int) -> None:
                index = offset
                while True:
                    start = time.perf_counter()
                    await call(self._requests[index % len(self._requests)])
                    latencies.append(1000 * (time.perf_counter() - start))
                    index += callers
                    if time.perf_counter() >= begin + seconds:
                        return

            await asyncio.gather(*(caller(offset) for offset in range(callers)))
            took, processor = time.perf_counter() - begin, time.process_time() - processor
        median, p99 = (float(value) for value in np.percentile(latencies, [50, 99]))
        return Load(len(latencies), took, median, p99, processor)


def make_client(cache: Path, requests: Sequence[bytes], folder: Path) -> Client:
    """The client in C++, compiled if need be, or the one in Python without gRPC's C++ library.

    Args:
        cache: directory that keeps the compiled client.
        requests: serialised requests, which callers send in turn.
        folder: directory for files of this run.

    Raises:
        subprocess.CalledProcessError: the library is there, and the client does not compile.
    """
    compiler = os.environ.get("CXX", "g++")
    if not _has_grpc(compiler):
        print("libgrpc++-dev or a compiler is missing: the client is in Python (make deps-native installs the library)")
        return PythonClient(requests)
    program = cache / "load_client"
    if not program.exists() or program.stat().st_mtime_ns < _SOURCE.stat().st_mtime_ns:
        fresh = program.with_suffix(".part")
        subprocess.run([compiler, *_COMPILE, str(_SOURCE), "-o", str(fresh), *_LINK], check=True)
        fresh.replace(program)
    return NativeClient(program, requests, folder)


def _has_grpc(compiler: str) -> bool:
    command = [compiler, "-std=c++17", "-E", "-x", "c++", "-"]
    try:
        return subprocess.run(command, input=b"#include <grpcpp/grpcpp.h>", capture_output=True).returncode == 0
    except FileNotFoundError:
        return False

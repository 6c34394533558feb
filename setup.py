"""Build of the package: the repository root is the Python package ``dpsr``.

One build makes the tokenizer's two faces out of the same C++ core, the Python module ``dpsr.tokenizer_cc._tokenizer``
and the TensorFlow op library ``dpsr/ops_cc/_dpsr_ops.so``, and the server's modules: ``dpsr.serving.engine._session``
and, where gRPC's C++ library is installed, ``dpsr.serving.engine._transport``.
Objects are kept below ``build/native`` and compiled again only when a file they include, or a flag, has changed.
``BUILD.md`` describes the build.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
TOP = [
    "baselines",
    "cli",
    "cluster",
    "config",
    "data",
    "evaluation",
    "indexing",
    "model",
    "ops_cc",
    "page",
    "serving",
    "tokenizer_cc",
    "training",
]
PACKAGES = sorted(
    ".".join(file.parent.relative_to(ROOT).parts) for name in TOP for file in (ROOT / name).rglob("__init__.py")
)

COMPILE = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-DNDEBUG", "-I."]
# Not by default: another compiler warns of other things, and its user wants a build.
STRICT = ["-Werror"] if os.environ.get("DPSR_WERROR") else []
LINK = ["-shared", "-Wl,--as-needed", "-Wl,--exclude-libs,ALL"]

CORE = "tokenizer_cc/core/**/*.cc"
MODULE = ["tokenizer_cc/pybind/*.cc"]
BUILD_INFO = "dpsr/ops_cc/_build_info.py"
SESSION = ["serving/engine/session_cc/*.cc", "serving/engine/native/*.cc"]
TRANSPORT = ["serving/engine/native/transport/*.cc"]
TRANSPORT_MODULE = "dpsr.serving.engine._transport"
# gRPC and OpenSSL go into the transport as a whole, their symbols hidden. TensorFlow brings its own, and exports
# their symbols to the whole process: shared libraries of these would call into TensorFlow's. The other libraries have
# symbols in a namespace of their version, or do not occur in TensorFlow; re2 does, but only gRPC's xDS calls it.
GRPC_ARCHIVES = [f"-l:lib{name}.a" for name in ("grpc++", "grpc", "gpr", "upb", "address_sorting", "ssl", "crypto")]
# What they compress with: hidden too, or, where the static zlib cannot be part of a shared library (Debian 13), shared.
# TensorFlow's zlib, which may then answer, has the same interface; OpenSSL's use of zstd is never asked for.
COMPRESSION = [["-l:libz.a"], ["-lz"], ["-lz", "-l:libzstd.so.1"]]
GRPC_SHARED = ["-lre2", "-lcares", "-pthread"]
# What the transport needs of gRPC: the headers of 1.40 and later, and libraries that link.
GRPC_PROBE = """
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/version_info.h>
#if GRPC_CPP_VERSION_MAJOR < 1 || (GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR < 40)
#error "gRPC is older than 1.40"
#endif
struct Probe {
  grpc::ServerBuilder server;
  grpc::ClientContext client;
  gpr_timespec now = gpr_now(GPR_CLOCK_REALTIME);
};
Probe* probe() { return new Probe; }
"""
OPS = [
    "ops_cc/core/**/*.cc",
    "tokenizer_cc/ops/*.cc",
    "tokenizer_cc/kernels/*.cc",
    "ops_cc/ops/*.cc",
    "ops_cc/kernels/*.cc",
]


def sources(*patterns: str) -> list[Path]:
    """The files of some patterns, but for tests and fuzzers."""
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(path for path in found if not path.stem.endswith(("_test", "_fuzzer")))


def tensorflow_location() -> tuple[str, Path]:
    """Version and directory of the installed TensorFlow, without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("TensorFlow is not installed; the op library is compiled against it: pip install tensorflow")
    return importlib.metadata.version("tensorflow"), Path(spec.submodule_search_locations[0])


def grpc_libraries() -> list[str] | None:
    """Flags that link gRPC's C++ library; None where it is missing, too old or does not link."""
    compiler = os.environ.get("CXX", "g++")
    found = subprocess.run([compiler, "-print-file-name=libabsl_base.so"], capture_output=True, text=True).stdout
    abseil = sorted(Path(found.strip()).parent.glob("libabsl_*.so")) if os.path.isabs(found) else []
    shared = [*(f"-l{file.stem.removeprefix('lib')}" for file in abseil), *GRPC_SHARED]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cc")
        source.write_text(GRPC_PROBE)
        command = [compiler, "-std=c++17", "-fPIC", *LINK, "-Wl,-z,defs", str(source), "-o", f"{folder}/probe.so"]
        for compression in COMPRESSION:
            libraries = [*GRPC_ARCHIVES, *compression, *shared]
            if subprocess.run([*command, *libraries], capture_output=True).returncode == 0:
                return libraries
    return None


class Toolchain:
    """Compiles and links what is out of date."""

    def __init__(self, cache: Path) -> None:
        """Keeps objects and archives in the directory ``cache``."""
        self.cache = cache
        self.compiler = os.environ.get("CXX", "g++")

    def compile(self, files: list[Path], flags: list[str]) -> list[Path]:
        """Compiles files in parallel; returns their objects."""
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
            return list(pool.map(lambda file: self._compile(file, flags), files))

    def archive(self, objects: list[Path], name: str) -> Path:
        """Makes a static library."""
        target = self.cache / name
        if self._stale(target, objects, []):
            target.unlink(missing_ok=True)
            self._run([os.environ.get("AR", "ar"), "rcs", str(target), *map(str, objects)], target, [])
        return target

    def link(self, objects: list[Path], target: Path, flags: list[str]) -> None:
        """Links a shared library."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._stale(target, objects, flags):
            # A new file, never the old one written over: a process may have it mapped.
            fresh = target.with_suffix(".tmp")
            self._run([self.compiler, "-o", str(fresh), *map(str, objects), *LINK, *flags], target, flags)
            fresh.replace(target)

    def _compile(self, file: Path, flags: list[str]) -> Path:
        name = file.relative_to(ROOT)
        target = self.cache / name.with_suffix(".o")
        dependencies = target.with_suffix(".d")
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = [*COMPILE, *flags]
        if not dependencies.exists() or self._stale(target, self._included(dependencies), flags):
            command = [self.compiler, *flags, *STRICT, "-MMD", "-MF", str(dependencies)]
            self._run([*command, "-c", str(name), "-o", str(target)], target, flags)
        return target

    @staticmethod
    def _included(dependencies: Path) -> list[Path]:
        text = dependencies.read_text().replace("\\\n", " ")
        return [ROOT / name.replace("\\ ", " ") for name in re.split(r"(?<!\\)\s+", text)[1:] if name]

    def _stamp(self, target: Path) -> Path:
        name = str(target.relative_to(ROOT)).replace("/", "__") if target.is_relative_to(ROOT) else target.name
        return self.cache / f"{name}.flags"

    def _stale(self, target: Path, inputs: list[Path], flags: list[str]) -> bool:
        stamp = self._stamp(target)
        if not target.exists() or not stamp.exists() or stamp.read_text() != self._signature(flags):
            return True
        made = target.stat().st_mtime_ns
        return any(not path.exists() or path.stat().st_mtime_ns > made for path in inputs)

    def _signature(self, flags: list[str]) -> str:
        return "\n".join([self.compiler, *flags])

    def _run(self, command: list[str], target: Path, flags: list[str]) -> None:
        print(" ".join(command), flush=True)
        if subprocess.run(command, cwd=ROOT).returncode != 0:
            raise CompileError(f"failed: {' '.join(command)}")
        self._stamp(target).write_text(self._signature(flags))


class BuildPackage(build_py):
    """Leaves out this file, which lies in the folder of the package ``dpsr``."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of a package."""
        modules = super().find_package_modules(package, package_dir)
        return [module for module in modules if module[:2] != ("dpsr", "setup")]


class BuildNative(build_ext):
    """Builds the core once, and links it into both native libraries."""

    def get_ext_filename(self, name: str) -> str:
        """Gives the op library, which is not a Python module, a plain name."""
        if name.endswith("_dpsr_ops"):
            return str(Path(*name.split("."))) + ".so"
        return super().get_ext_filename(name)

    def build_extensions(self) -> None:
        """Replaces the one-file-after-the-other build of setuptools."""
        # A wheel of a clean tree is built in a temporary directory; objects stay with the tree.
        toolchain = Toolchain(ROOT / "build" / "native")
        core = toolchain.archive(toolchain.compile(sources(CORE), []), "libdpsr_tokenizer.a")
        grpc = grpc_libraries()
        if grpc is None:
            self._leave_out_transport()
        for extension in self.extensions:
            target = Path(self.get_ext_fullpath(extension.name)).resolve()
            if extension.name.endswith("_dpsr_ops"):
                self._build_ops(toolchain, core, target)
            elif extension.name.endswith("_session"):
                self._build_session(toolchain, target)
            elif extension.name == TRANSPORT_MODULE:
                toolchain.link(toolchain.compile(sources(*TRANSPORT), self._python_flags()), target, grpc or [])
            else:
                self._build_module(toolchain, core, target)

    def copy_extensions_to_source(self) -> None:
        """Brings what an editable install needs into the tree."""
        super().copy_extensions_to_source()
        self.copy_file(str(Path(self.build_lib, BUILD_INFO)), str(ROOT / Path(BUILD_INFO).relative_to("dpsr")))

    def _build_module(self, toolchain: Toolchain, core: Path, target: Path) -> None:
        toolchain.link([*toolchain.compile(sources(*MODULE), self._python_flags()), core], target, ["-pthread"])

    def _build_session(self, toolchain: Toolchain, target: Path) -> None:
        version, directory = tensorflow_location()
        flags = [*self._python_flags(), *self._tensorflow_flags(toolchain.cache, version, directory)]
        libraries = [f"-L{directory}", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", "-pthread"]
        toolchain.link(toolchain.compile(sources(*SESSION), flags), target, libraries)

    def _leave_out_transport(self) -> None:
        """Takes the transport out of the build, and an old one out of the tree."""
        reason = "gRPC's C++ library, 1.40 or later, is missing or does not link (make deps-native)"
        print(f"no native data plane: {reason}", flush=True)
        file = self.get_ext_filename(TRANSPORT_MODULE)
        Path(self.build_lib, file).unlink(missing_ok=True)
        ROOT.joinpath(*Path(file).parts[1:]).unlink(missing_ok=True)
        self.extensions = [extension for extension in self.extensions if extension.name != TRANSPORT_MODULE]

    def _build_ops(self, toolchain: Toolchain, core: Path, target: Path) -> None:
        version, directory = tensorflow_location()
        flags = self._tensorflow_flags(toolchain.cache, version, directory)
        # No run path: a process that loads the library has loaded TensorFlow's framework library before.
        framework = ["-Wl,-z,defs", f"-L{directory}", "-l:libtensorflow_framework.so.2", "-pthread"]
        toolchain.link([*toolchain.compile(sources(*OPS), flags), core], target, framework)
        info = Path(self.build_lib, BUILD_INFO)
        text = f'"""Written by the build."""\n\nTENSORFLOW_VERSION = "{version}"\n'
        if not info.exists() or info.read_text() != text:
            info.write_text(text)

    @staticmethod
    def _python_flags() -> list[str]:
        import pybind11

        includes = [sysconfig.get_paths()["include"], pybind11.get_include()]
        return [flag for include in includes for flag in ("-isystem", include)]

    @staticmethod
    def _tensorflow_flags(cache: Path, version: str, directory: Path) -> list[str]:
        # Asking TensorFlow takes seconds; the answer is good until another one is installed.
        known = cache / f"tensorflow-{version}.json"
        if not known.exists() or json.loads(known.read_text())["directory"] != str(directory):
            ask = "import json, tensorflow as tf; print(json.dumps(tf.sysconfig.get_compile_flags()))"
            answer = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout
            flags = json.loads(answer.splitlines()[-1])
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps({"directory": str(directory), "flags": flags}))
        flags = json.loads(known.read_text())["flags"]
        includes = [flag.removeprefix("-I") for flag in flags if flag.startswith("-I")]
        others = [flag for flag in flags if not flag.startswith(("-I", "--std", "-std"))]
        return [*(flag for include in includes for flag in ("-isystem", include)), *others]


setup(
    packages=["dpsr", *(f"dpsr.{name}" for name in PACKAGES)],
    package_dir={"dpsr": "."},
    package_data={
        "dpsr": ["py.typed", "examples/demo_shop.toml"],
        "dpsr.tokenizer_cc": ["*.pyi"],
        "dpsr.serving.engine": ["*.pyi"],
        "dpsr.serving.fleet.proxy": ["*.lua"],
        "dpsr.evaluation.report": ["templates/*"],
        "dpsr.page": ["static/*"],
    },
    include_package_data=False,
    ext_modules=[
        Extension(name, [])
        for name in (
            "dpsr.tokenizer_cc._tokenizer",
            "dpsr.ops_cc._dpsr_ops",
            "dpsr.serving.engine._session",
            TRANSPORT_MODULE,
        )
    ],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPackage},
)

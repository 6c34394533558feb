"""TensorFlow as pip installed it, as a Bazel repository."""

def _installed_tensorflow_impl(repository):
    """Links the wheel's headers and its framework library; fails with the remedy where there is no TensorFlow."""
    python = repository.os.environ.get("DPSR_PYTHON")
    if not python:
        python = str(repository.path(Label("//:WORKSPACE")).dirname) + "/.venv/bin/python"
    find = "import importlib.util as u; s = u.find_spec('tensorflow'); print(s.submodule_search_locations[0] if s else '')"
    found = repository.execute([python, "-c", find])
    folder = found.stdout.strip()
    if found.return_code or not folder:
        fail("no TensorFlow for " + python + "; run `make .venv/.built`, or set DPSR_PYTHON to a Python that has it")
    repository.symlink(folder + "/include", "include")
    repository.symlink(folder + "/libtensorflow_framework.so.2", "libtensorflow_framework.so.2")
    repository.file("BUILD", """
cc_library(
    name = "framework",
    srcs = ["libtensorflow_framework.so.2"],
    hdrs = glob(["include/**/*"]),
    defines = ["_GLIBCXX_USE_CXX11_ABI=1", "EIGEN_MAX_ALIGN_BYTES=64"],
    includes = ["include"],
    visibility = ["//visibility:public"],
)
""")

installed_tensorflow = repository_rule(
    implementation = _installed_tensorflow_impl,
    environ = ["DPSR_PYTHON"],
    local = True,
    doc = "The TensorFlow of DPSR_PYTHON, by default of .venv.",
)

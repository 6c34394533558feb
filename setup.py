"""Build of the package: the repository root is the Python package ``dpsr``."""

from setuptools import setup

PACKAGES = ["data", "evaluation", "indexing", "model", "ops_cc", "serving", "tokenizer_cc"]

setup(
    packages=["dpsr", *(f"dpsr.{name}" for name in PACKAGES)],
    package_dir={"dpsr": "."},
)

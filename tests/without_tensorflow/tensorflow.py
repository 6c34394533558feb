"""Stands before TensorFlow on the import path of ``pytest --light`` and of the processes that it starts."""

raise ImportError(
    "TensorFlow is blocked by `pytest --light`: this test needs it, so take its file out of tests/light.txt"
)

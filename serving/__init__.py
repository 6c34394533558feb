"""Model server with TensorFlow Serving's interfaces, and its client."""

READY_PREFIX = "ready: "
"""Start of the line that ``dpsr serve`` prints when the models are loaded; the line ends with ``host:port``."""

"""Import of the native data plane's transport, the module ``_transport``."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType


def transport() -> ModuleType:
    """The module, with its symbols bound to its own libraries.

    TensorFlow's libraries are in the scope of the whole process, and export functions of the gRPC inside of them;
    without RTLD_DEEPBIND the transport's gRPC would call those.

    Raises:
        ImportError: this build has no transport, or gRPC's C++ library is gone.
    """
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    try:
        return importlib.import_module("dpsr.serving.engine._transport")
    finally:
        sys.setdlopenflags(flags)

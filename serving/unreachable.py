"""Why a client reaches no server, as far as gRPC tells."""

from __future__ import annotations

from dpsr.serving.errors import ServingError

_FAULTS = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the certificate of the server is not accepted",
        "name the file of the authority that signed it by --ca",
    ),
    (
        "Hostname Verification Check failed",
        "the certificate of the server is for another name",
        "ask the server by a name that its certificate has",
    ),
    ("WRONG_VERSION_NUMBER", "the server has no TLS", "leave --ca, --cert and --key out"),
)
"""What the message of gRPC has in it; what that means; what to do."""


def why_unreachable(error: ServingError, remedy: str) -> str:
    """What was found, and what to do.

    Args:
        error: UNAVAILABLE.
        remedy: what to do where gRPC says no more than that nobody answers.
    """
    for sign, fault, own_remedy in _FAULTS:
        if sign in error.message:
            return f"{fault} ({error.message}); {own_remedy}"
    return f"no server answers ({error.message}); {remedy}"

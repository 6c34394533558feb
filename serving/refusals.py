"""Refusals that both data planes give: their codes and texts are made here alone."""

from __future__ import annotations

from grpc import StatusCode

from dpsr.serving.errors import ServingError


def too_many(most: int) -> ServingError:
    """A prediction above ``serving.max_in_flight``."""
    return ServingError(
        StatusCode.RESOURCE_EXHAUSTED,
        f"{most} requests are in flight, as many as serving.max_in_flight allows; try again later",
    )


def stopping() -> ServingError:
    """A prediction for a server that is being stopped."""
    return ServingError(StatusCode.UNAVAILABLE, "the server is stopping; send the request to another one")


def late() -> ServingError:
    """A prediction whose deadline passed while it waited."""
    return ServingError(StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request could run")


def left() -> ServingError:
    """A prediction whose client did not wait for the answer."""
    return ServingError(StatusCode.CANCELLED, "the client has disconnected, or its deadline has passed")


def unloaded(model: str, version: int) -> ServingError:
    """A prediction whose version was freed while it ran."""
    return ServingError(
        StatusCode.UNAVAILABLE,
        f"version {version} of model {model} was unloaded before the request ended; send it again",
    )

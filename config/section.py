"""Base class and value types of all sections: unknown keys are errors, paths may hold environment variables."""

from __future__ import annotations

import os
import re
from typing import Annotated

import pydantic
from pydantic import Field

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def _expand_variables(path: str) -> str:
    """Replaces ``${NAME}`` and ``${NAME:-default}`` by environment variables."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise ValueError(
                f"environment variable {match['name']} is not set; set it, or write ${{{match['name']}:-DEFAULT}}"
            )
        return found

    return _VARIABLE.sub(value, path)


PathName = Annotated[str, Field(min_length=1), pydantic.AfterValidator(_expand_variables)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(pydantic.BaseModel):
    """A section: unknown keys are errors, and values are immutable."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

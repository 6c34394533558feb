"""Section ``page``: the web page on which people search, judge and report."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Port, Section


class PageConfig(Section):
    """Address of the page, the file of its judgements, and what its cards show."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 8700
    """0 takes a free port."""
    judgements: PathName | None = None
    """SQLite file of books, judgements, bad cases and snapshots; ``judgements.sqlite`` in ``work_dir`` without it."""
    title: str | None = None
    """Column of the cards' titles; the first of ``data.items.text`` without it."""
    image: str | None = None
    """Column of http or https URLs."""
    fields: tuple[str, ...] = ()
    """Columns that cards show below the title; the categorical columns and the other texts without them."""
    token_variable: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Environment variable with the token that every request of the JSON API has to bring."""

    @property
    def on_loopback(self) -> bool:
        """Whether the page can be reached from its own machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @pydantic.model_validator(mode="after")
    def _others_need_a_token(self) -> PageConfig:
        if not self.on_loopback and self.token_variable is None:
            raise ValueError(
                f"host = {self.host!r} lets other machines in, and token_variable is missing; name there an "
                'environment variable that has the token, or set host = "127.0.0.1"'
            )
        return self

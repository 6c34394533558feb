"""Jinja2 templates of the web page (``templates/``): HTML is escaped unless a template made it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """Renders a template; an undefined name is an error.

    Args:
        template: name of a file in ``templates``.
        **values: its variables; strings are escaped, ``Markup`` is not.
    """
    return Markup(_environment().get_template(template).render(values))


def write_html(path: Path, page: str) -> Path:
    """Writes a page beside its place and renames it; its folder is made if missing. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.rename(path)
    return path


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

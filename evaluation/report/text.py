"""A report as plain text or Markdown: the facts, then every table."""

from __future__ import annotations

from dpsr.evaluation.report.results import Report
from dpsr.evaluation.report.tables import tables


def to_text(report: Report) -> str:
    """Renders the report as plain text."""
    return _render(report, "simple", "{}", "{}")


def to_markdown(report: Report) -> str:
    """Renders the report as Markdown."""
    return _render(report, "github", "### {}", "**{}**")


def _render(report: Report, table_format: str, title: str, heading: str) -> str:
    blocks = [title.format(f"{report.name}, {report.split} split"), _facts(report)]
    blocks += [f"{heading.format(table.title)}\n\n{table.render(table_format)}" for table in tables(report)]
    return "\n\n".join(blocks)


def _facts(report: Report) -> str:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in report.weights.items())
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items())
    notes = "".join(f"\n{note}" for note in report.notes)
    return (
        f"{report.split_size:,} interactions in the split; {report.num_items:,} items, all of them ranked; Top-k among "
        f"{report.candidates:,} candidates; ± is half a 95 % interval over queries, [ ] a paired one; "
        f"weights: {weights or 'none'}; seed {report.seed}.\n{machine}.{notes}"
    )

"""A report as plain text or Markdown: the facts, then every table."""

from __future__ import annotations

from collections.abc import Sequence

from dpsr.evaluation.report.results import Report
from dpsr.evaluation.report.tables import Table, tables


def to_text(report: Report) -> str:
    """Renders the report as plain text."""
    return render_tables(report, tables(report), markdown=False)


def to_markdown(report: Report) -> str:
    """Renders the report as Markdown."""
    return render_tables(report, tables(report), markdown=True)


def render_tables(report: Report, shown: Sequence[Table], *, markdown: bool) -> str:
    """Renders the facts of a report, then tables."""
    table_format, title, heading = ("github", "### {}", "**{}**") if markdown else ("simple", "{}", "{}")
    blocks = [title.format(f"{report.name}, {report.split} split"), _facts(report)]
    blocks += [f"{heading.format(table.title)}\n\n{table.render(table_format)}" for table in shown]
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

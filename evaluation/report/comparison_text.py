"""A comparison of models as plain text or Markdown."""

from __future__ import annotations

from dpsr.evaluation.report.comparison_tables import model_table, slices_table
from dpsr.evaluation.report.model_comparison import ModelComparison
from dpsr.evaluation.report.text import render_tables


def comparison_text(comparison: ModelComparison, *, markdown: bool = False) -> str:
    """Renders the table of models and that of slices, with facts and notes."""
    return render_tables(comparison.report, [model_table(comparison), slices_table(comparison)], markdown=markdown)

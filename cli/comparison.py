"""``dpsr compare``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dpsr.cli.options import with_config
from dpsr.config import Config
from dpsr.errors import DpsrError

_CHILD = (sys.executable, "-m", "dpsr.cli.comparison_child")


@click.command()
@with_config
@click.option("--models", metavar="NAMES", required=True, help="Methods between commas, or all.")
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@click.option(
    "--page",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The web page; <work_dir>/comparison/comparison.html by default.",
)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option(
    "--with",
    "others",
    metavar="COMPARISON.json",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another shop's comparison, for the choice of a model; may be given again.",
)
def compare(
    config: Config, models: str, split: str, page: Path | None, markdown: bool, others: tuple[Path, ...]
) -> None:
    """Train and measure many models on the same split: one table and one page, to choose the shop's model by.

    Each model runs in a process of its own, which keeps its ranked lists below <work_dir>/comparison. A comparison
    that was interrupted goes on where it was, and a model whose lists are there does not run again.

    \b
    Example: dpsr compare -c shop.toml --models all
             dpsr compare -c shop.toml --models bm25,lsa,dssm,dpsr --with other/comparison/comparison.json
    """
    from dpsr.data.dataset.tables import Dataset

    dataset = Dataset.load(config.dataset_dir)  # a missing dataset is said before TensorFlow is imported
    from dpsr.evaluation.compare.contest import compare_models, selected_models
    from dpsr.evaluation.report.comparison_page import write_comparison_page
    from dpsr.evaluation.report.comparison_text import comparison_text
    from dpsr.evaluation.report.model_comparison import evidence, read_evidence, write_comparison
    from dpsr.model.trained import other_runs

    runs = other_runs(config.evaluation.runs)
    names = selected_models(models, runs)
    known = [read_evidence(path) for path in others]
    found = compare_models(
        config,
        dataset,
        names,
        split=split,
        child=_CHILD,
        no_model=_no_model(config),
        model_seconds=_seconds(config.checkpoint_dir),
        run_seconds={name: _seconds(Path(path) / "checkpoints") for name, path in config.evaluation.runs.items()},
        say=lambda line: click.echo(line, err=True),
        runs=runs,
    )
    directory = Path(config.work_dir) / "comparison"
    own = evidence(found)
    write_comparison(found, own, directory)
    written = write_comparison_page(page or directory / "comparison.html", found, [own, *known])
    click.echo(f"page: {written}", err=True)
    click.echo(comparison_text(found, markdown=markdown))
    if found.failed:
        raise DpsrError(f"{len(found.failed)} of the models failed: {'; '.join(found.failed.values())}")


def _no_model(config: Config) -> str | None:
    """Why the trained model takes no part; None where it does."""
    from dpsr.model.run_files import MODEL_FILE

    if config.index.mode == "lexical":
        return 'index.mode = "lexical" has no model'
    if config.model.initial is None and not (config.checkpoint_dir / MODEL_FILE).exists():
        return f"{config.checkpoint_dir} holds no trained model, run `dpsr train`"
    return None


def _seconds(checkpoint_dir: Path) -> float | None:
    """Training time of a run: that of all epochs; None where it has none."""
    from dpsr.model.run_files import read_epochs

    seconds = [epoch["seconds"] for epoch in read_epochs(checkpoint_dir) if "seconds" in epoch]
    return sum(seconds) if seconds else None

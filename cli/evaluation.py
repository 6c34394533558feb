"""``dpsr evaluate`` and ``dpsr score``."""

from __future__ import annotations

from pathlib import Path

import click

from dpsr.cli.options import with_config
from dpsr.config import Config


@click.command()
@with_config
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option(
    "--report", "page", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="A web page."
)
@click.option(
    "--compare",
    "compared",
    metavar="METRICS.json",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another run's results, for the page's popularity by mixing ratio; may be given again.",
)
@click.option("--trec", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="TREC runs and qrels.")
@click.option(
    "--tune", is_flag=True, help="First choose what [index.lexical] leaves out, by clicks of the valid split."
)
def evaluate(
    config: Config,
    split: str,
    markdown: bool,
    page: Path | None,
    compared: tuple[Path, ...],
    trec: Path | None,
    tune: bool,
) -> None:
    """Compare the trained model with popularity, BM25, LSA, the memory of clicks seen before, and hybrids.

    evaluation.baselines lists the methods to compare with; DSSM among them is trained on the same log, once.
    With index.mode = "lexical" the baselines are compared alone.

    With --tune, BM25's k1 and b, weights of text columns and of popularity are chosen first; `dpsr export` and later
    evaluations take them from <work_dir>/evaluation/lexical.json, where the configuration has no value of its own.

    \b
    Example: dpsr evaluate -c shop.toml --split valid --report report.html
             dpsr evaluate -c shop.toml --tune
    """
    if compared and page is None:
        raise click.UsageError("--compare adds to the page of --report; name that too")
    from dpsr.data.dataset.tables import Dataset

    dataset = Dataset.load(config.dataset_dir)  # a missing dataset is said before TensorFlow is imported
    from dpsr.evaluation.compare.evaluate import evaluate as run
    from dpsr.evaluation.report.text import to_markdown, to_text
    from dpsr.indexing.lexical.tuning import tune_run
    from dpsr.model.trained import load_model, other_runs

    if tune:
        click.echo(tune_run(config, dataset).line())
    model = None if config.index.mode == "lexical" else load_model(config, dataset)
    trained = other_runs(config.evaluation.runs)
    report = run(config, dataset, model, split=split, page=page, other_runs=compared, trained_runs=trained, trec=trec)
    click.echo(to_markdown(report) if markdown else to_text(report))


@click.command()
@with_config
@click.option("--scorer", metavar="NAME", required=True, help="A method of evaluation.baselines, as cross-encoder.")
@click.option(
    "--out",
    metavar="FILE.parquet",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of scores.",
)
@click.option(
    "--clicks", type=click.IntRange(min=1), default=20_000, show_default=True, help="Clicks whose pairs are scored."
)
def score(config: Config, scorer: str, out: Path, clicks: int) -> None:
    """Write a method's scores of train pairs, which teach a student by distillation.scores.

    The pairs are clicks of the train split, each with two items that words find and two random ones. A method that
    learns is trained first, unless `dpsr evaluate` has trained it for the same dataset.

    \b
    Example: dpsr score -c shop.toml --scorer cross-encoder --out scores.parquet
             dpsr train -c shop.toml --set distillation.scores=scores.parquet --set distillation.epochs=4
    """
    from dpsr.data.dataset.tables import Dataset

    dataset = Dataset.load(config.dataset_dir)  # a missing dataset is said before TensorFlow is imported
    from dpsr.evaluation.compare.pair_scores import write_pair_scores

    written = write_pair_scores(config, dataset, scorer, out, clicks=clicks)
    mapped = ", mapped to -1..1" if written.mapped else ""
    lacking = f"; {written.without_score:,} pairs, of which it has no score, left out" if written.without_score else ""
    click.echo(f"{written.pairs:,} pairs with their scores by {scorer}{mapped}: {out}{lacking}")

"""The ``dpsr`` command: one subcommand a step, from the log to the answered query.

TensorFlow is imported by the steps that need it, so that ``dpsr --help`` answers at once. Exit codes: 0 done, 1 failed,
2 wrong usage (a bad option or configuration).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dpsr import __version__
from dpsr.config import Config, ConfigError, DpsrError, load_config, load_serving_config
from dpsr.data.commands import data as data_commands

if TYPE_CHECKING:
    import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

DEMO_CONFIG = Path(__file__).parent / "examples" / "demo_shop.toml"
DEMO_SIZES = {
    # items, users, clicks
    "default": (5_000, 2_000, 150_000),
    "small": (1_000, 400, 20_000),
}
READY_PREFIX = "ready: "


class _Commands(click.Group):
    """Prints the errors a reader can mend as one message; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DpsrError, OSError) as error:
            click.echo(f"dpsr: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dpsr")
def main() -> None:
    """Deep personalized and semantic retrieval: from a click log to one servable.

    \b
    The steps, each reading what the one before wrote:
      dpsr prepare  -c shop.toml      raw items, users and log -> dataset directory
      dpsr train    -c shop.toml      dataset -> checkpoint
      dpsr evaluate -c shop.toml      checkpoint -> table of results beside BM25
      dpsr export   -c shop.toml      checkpoint -> servable
      dpsr serve    -c shop.toml      servable -> gRPC server
      dpsr search   -c shop.toml "q"  query -> items
    """
    # TensorFlow logs an error where there is no GPU; what goes wrong in a step is raised, not only logged.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _with_config(command: F) -> F:
    """Adds --config and --set, and passes the checked ``Config`` as ``config``."""

    def load(ctx: click.Context, _: click.Parameter, path: str) -> Config:
        return load_config(path, ctx.params.pop("overrides", ()))

    command = click.option(
        "-c", "--config", "config", metavar="FILE", required=True, callback=load, help="The TOML configuration."
    )(command)
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        is_eager=True,
        help="Override one value, as training.epochs=3; may be given again.",
    )(command)


@main.command()
@_with_config
@click.option("--append", is_flag=True, help="Add a later log, new items and new users to the dataset that is there.")
@click.option(
    "--grow-vocabulary", is_flag=True, help="With --append: take new tokens and categories in; train anew then."
)
def prepare(config: Config, append: bool, grow_vocabulary: bool) -> None:
    """Turn raw items, users and interactions into a dataset directory.

    \b
    Example: dpsr prepare -c examples/bestbuy_xbox.toml
    """
    from dpsr.data.prepare import prepare as run

    if grow_vocabulary and not append:
        raise click.UsageError("--grow-vocabulary goes with --append")
    click.echo(f"dataset: {run(config, append=append, grow_vocabulary=grow_vocabulary)}")


@main.command()
@_with_config
@click.option("--no-resume", is_flag=True, help="Start anew instead of continuing from the last checkpoint.")
def train(config: Config, no_resume: bool) -> None:
    """Train the two towers on a prepared dataset.

    \b
    Example: dpsr train -c shop.toml --set training.epochs=10
    """
    from dpsr.data.tables import Dataset
    from dpsr.model.trainer import train as run

    run(config, Dataset.load(config.dataset_dir), resume=not no_resume)
    click.echo(f"checkpoints: {config.checkpoint_dir}")


@main.command()
@_with_config
@click.option("--split", type=click.Choice(["valid", "test"]), default="test", show_default=True)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def evaluate(config: Config, split: str, markdown: bool) -> None:
    """Compare the trained model with popularity, BM25 and the memory of clicks seen before.

    \b
    Example: dpsr evaluate -c shop.toml --split valid
    """
    from dpsr.data.tables import Dataset
    from dpsr.evaluation.evaluate import evaluate as run
    from dpsr.model.trainer import load_trained

    dataset = Dataset.load(config.dataset_dir)
    report = run(config, dataset, load_trained(config.checkpoint_dir, dataset), split=split)
    click.echo(report.to_markdown() if markdown else report.to_text())


@main.command()
@_with_config
def export(config: Config) -> None:
    """Publish tokenizer, query tower and item index as the next version of one servable.

    \b
    Example: dpsr export -c shop.toml
    """
    from dpsr.data.tables import Dataset
    from dpsr.indexing.publish import export as run
    from dpsr.indexing.publish import index_table
    from dpsr.model.trainer import load_trained

    dataset = Dataset.load(config.dataset_dir)
    version = run(config, dataset, load_trained(config.checkpoint_dir, dataset))
    click.echo(index_table(version))
    click.echo(f"servable: {version}")


@main.command()
@click.option("-c", "--config", "config_file", metavar="FILE", help="The TOML configuration: serves its model.")
@click.option("--model-config-file", metavar="FILE", help="A ModelServerConfig of TensorFlow Serving: several models.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that share the ports; by default one.")
@click.option("--check", is_flag=True, help="Load and warm what would be served, say what works, and exit (0 or 1).")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override one value; may be given again.")
def serve(
    config_file: str | None, model_config_file: str | None, workers: int | None, check: bool, overrides: tuple[str, ...]
) -> None:
    """Serve published versions over gRPC and REST until interrupted.

    Follows the model directories: a newer version is loaded, warmed up and swapped in.

    \b
    Examples: dpsr serve -c shop.toml --set serving.port=8500
              dpsr serve --model-config-file models.config
              dpsr serve -c shop.toml --check
    """
    from dpsr.serving.model_config import ServedModel, served_models

    if model_config_file:
        overrides += (f"serving.model_config_file={model_config_file}",)
    if workers:
        overrides += (f"serving.workers={workers}",)
    config = load_config(config_file, overrides) if config_file else None
    settings = config.serving if config else load_serving_config(overrides)
    models = served_models(settings, ServedModel(config.name, config.model_base_path) if config else None)
    if check:
        from dpsr.serving.check import check as run_check

        works = True
        for finding in run_check(models):
            click.echo(finding.text)
            works = works and finding.works
        sys.exit(0 if works else 1)
    if settings.workers > 1:
        from dpsr.serving.workers import serve_with_workers as run
    else:
        from dpsr.serving.server import serve as run
    run(models, settings)


@main.command()
@_with_config
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("--target", metavar="HOST:PORT", help="The server; by default the configured one.")
@click.option("-k", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Items to show.")
@click.option("--profile", multiple=True, metavar="COLUMN=VALUE", help="A profile value of the user; may be repeated.")
@click.option("--history", multiple=True, metavar="ITEM_ID", help="An item of the user's history, oldest first.")
def search(
    config: Config,
    queries: tuple[str, ...],
    target: str | None,
    count: int,
    profile: tuple[str, ...],
    history: tuple[str, ...],
) -> None:
    """Ask a running server and print the best items of every query.

    \b
    Example: dpsr search -c shop.toml "senior phone" "kids milk" -k 5
    """
    from dpsr.data.tables import Dataset
    from dpsr.serving.client import PredictClient

    dataset = Dataset.load(config.dataset_dir)
    inputs, signature = _search_inputs(config, dataset, queries, profile, history)
    titles = _titles(config, dataset)
    with PredictClient(target or f"{config.serving.host}:{config.serving.port}") as client:
        answer = client.predict(config.name, inputs, signature=signature)
    for row, query in enumerate(queries):
        click.echo(f"\n{query}")
        click.echo(_answer_table(answer, row, count, titles))


@main.command()
@_with_config
@click.argument("text")
def explain(config: Config, text: str) -> None:
    """Show the tokens of a text as the model sees them: kind, id and document frequency.

    \b
    Example: dpsr explain -c shop.toml "xbox 360 controler"
    """
    from tabulate import tabulate

    from dpsr.tokenizer_cc import Tokenizer

    tokenizer = Tokenizer.load(config.dataset_dir / "tokenizer.model")
    rows = [
        (
            token.text,
            token.kind,
            token.id,
            token.document_frequency if token.id <= tokenizer.vocabulary_size else "unseen",
        )
        for token in tokenizer.tokens(text)
    ]
    click.echo(tabulate(rows, headers=["token", "kind", "id", "documents"], disable_numparse=True))


@main.command(name="demo-shop")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--items", type=click.IntRange(100), default=DEMO_SIZES["default"][0], show_default=True)
@click.option("--users", type=click.IntRange(1), default=DEMO_SIZES["default"][1], show_default=True)
@click.option("--clicks", type=click.IntRange(1), default=DEMO_SIZES["default"][2], show_default=True)
@click.option("--sessions", type=click.IntRange(1), help="Result pages that are seen, instead of --clicks.")
@click.option("--seed", type=int, default=1, show_default=True)
def demo_shop(out: Path, items: int, users: int, clicks: int, sessions: int | None, seed: int) -> None:
    """Generate a shop: catalogue, users and click log as Parquet.

    \b
    Example: dpsr demo-shop --out shop --items 5000
    """
    from dpsr.data.demo_shop import generate

    generate(out, items=items, users=users, interactions=None if sessions else clicks, sessions=sessions, seed=seed)
    click.echo(f"shop: {out}")


@main.command()
@click.option("--size", type=click.Choice(sorted(DEMO_SIZES)), default="default", show_default=True)
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True
)
def demo(size: str, work_dir: Path) -> None:
    """Run the whole path on a generated shop and show what the server answers.

    \b
    Example: dpsr demo --size small
    """
    _empty_demo_directory(work_dir)
    from dpsr.data.demo_shop import SHOWCASE_QUERIES, generate
    from dpsr.data.prepare import prepare as run_prepare
    from dpsr.data.tables import Dataset
    from dpsr.evaluation.evaluate import evaluate as run_evaluate
    from dpsr.indexing.publish import export as run_export
    from dpsr.model.trainer import load_trained
    from dpsr.model.trainer import train as run_train

    config = load_config(DEMO_CONFIG, [f"work_dir={work_dir}", *_demo_paths(work_dir / "shop")])
    items, users, clicks = DEMO_SIZES[size]

    with _step(f"a shop of {items:,} items, {users:,} users and {clicks:,} clicks"):
        generate(work_dir / "shop", items=items, users=users, interactions=clicks, seed=config.training.seed)
    with _step("dataset: tables, vocabulary, splits by time"):
        run_prepare(config)
    dataset = Dataset.load(config.dataset_dir)
    with _step("training the two towers"):
        run_train(config, dataset)
    model = load_trained(config.checkpoint_dir, dataset)
    with _step("evaluation on the latest clicks, none of them seen in training"):
        click.echo(run_evaluate(config, dataset, model).to_text())
    with _step("one servable: tokenizer, query tower, index"):
        click.echo(f"published {run_export(config, dataset, model)}")
    with _step("five real Predict calls to a server on a free port"), _server(config) as target:
        _show_answers(config, dataset, target, SHOWCASE_QUERIES)
    click.echo(f"\nEverything is in {work_dir}.")


@contextmanager
def _step(what: str) -> Iterator[None]:
    click.secho(f"\n== {what}", bold=True)
    start = time.perf_counter()
    yield
    click.echo(f"   {time.perf_counter() - start:.1f} s")


def _demo_paths(shop: Path) -> list[str]:
    return [f"data.{name}.path={shop / name}.parquet" for name in ("items", "users", "interactions")]


def _empty_demo_directory(work_dir: Path) -> None:
    """Makes room for a demo; removes nothing that a demo did not write."""
    marker = work_dir / ".dpsr-demo"
    if work_dir.exists() and any(work_dir.iterdir()):
        if not marker.exists():
            raise DpsrError(f"{work_dir}: not empty and not written by `dpsr demo`; name another --work-dir")
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    marker.touch()


@contextmanager
def _server(config: Config) -> Iterator[str]:
    """A server process of the newest version on a free port; yields ``host:port`` once it is ready."""
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(DEMO_CONFIG), "--set", "serving.port=0"]
    command += ["--set", "serving.rest_port=-1"]
    command += ["--set", f"work_dir={config.work_dir}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(READY_PREFIX):
                yield line.split()[-1]
                break
        else:
            raise DpsrError(f"the server stopped before it was ready (exit code {process.wait()})")
    finally:
        process.terminate()
        process.wait()


def _show_answers(config: Config, dataset: Any, target: str, queries: Sequence[str]) -> None:
    from tabulate import tabulate

    from dpsr.serving.client import PredictClient

    titles = _titles(config, dataset)
    rows = []
    with PredictClient(target) as client:
        for query in queries:
            start = time.perf_counter()
            answer = client.predict(config.name, {"query": [query]})
            milliseconds = 1000 * (time.perf_counter() - start)
            best = [f"{titles[_item_key(item)]}" for item in answer["item_id"][0, :3]]
            rows.append((query, "\n".join(best), f"{milliseconds:.1f}"))
    click.echo(
        tabulate(rows, headers=["query", "the three best of " + f"{answer['item_id'].shape[1]}", "ms"], tablefmt="grid")
    )


def _search_inputs(
    config: Config, dataset: Any, queries: Sequence[str], profile: Sequence[str], history: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """The inputs of a Predict call and the signature that takes them."""
    if not profile and not history:
        return {"query": list(queries)}, "serving_default"
    values = dict.fromkeys(dataset.schema.profile, "")
    for entry in profile:
        column, _, value = entry.partition("=")
        if column not in values:
            raise click.BadParameter(f"no profile column {column!r} (known: {', '.join(values) or 'none'})")
        values[column] = value
    inputs: dict[str, Any] = {"query": list(queries)}
    inputs |= {column: [value] * len(queries) for column, value in values.items()}
    ids: list[Any] = list(history)
    if dataset.schema.item_id_type == "int64":
        ids = [int(item) for item in history]
    inputs["history"] = _history_array(ids, len(queries), dataset.schema.item_id_type)
    return inputs, "personalized"


def _history_array(ids: Sequence[Any], rows: int, item_id_type: str) -> np.ndarray:
    import numpy as np

    dtype = np.int64 if item_id_type == "int64" else object
    return np.array([list(ids)] * rows, dtype=dtype).reshape(rows, len(ids))


def _item_key(item: Any) -> Any:
    return item.decode() if isinstance(item, bytes) else int(item)


def _titles(config: Config, dataset: Any) -> dict[Any, str]:
    """The text of every item by id, for showing."""
    table = dataset.item_table()
    columns = [table.column(name).to_pylist() for name in config.data.items.text]
    ids = table.column("item_id").to_pylist()
    return {item: " | ".join(str(text) for text in texts if text) for item, *texts in zip(ids, *columns, strict=True)}


def _answer_table(answer: Mapping[str, Any], row: int, count: int, titles: Mapping[Any, str]) -> str:
    from tabulate import tabulate

    rows = []
    for rank in range(min(count, answer["item_id"].shape[1])):
        item = _item_key(answer["item_id"][row, rank])
        score, head = answer["score"][row, rank], answer["head"][row, rank]
        rows.append((rank + 1, f"{score:.3f}", head, item, titles.get(item, "")))
    return tabulate(rows, headers=["", "score", "head", "item", "text"], disable_numparse=True)


main.add_command(data_commands)


if __name__ == "__main__":
    main()

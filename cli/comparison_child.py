"""The process of one method of ``dpsr compare``, which starts it with a JSON task on the standard input."""

from __future__ import annotations

import sys
from typing import Any

from dpsr.errors import DpsrError


def main() -> None:
    """Does the task; an error that a reader can mend is the last line of the output."""
    from dpsr.evaluation.compare.children import read_task, use_one_core

    task = read_task()
    if task["one_core"]:
        use_one_core()  # before TensorFlow starts its threads
    try:
        _run(task)
    except (DpsrError, OSError) as error:
        sys.exit(" ".join(str(error).split()))


def _run(task: dict[str, Any]) -> None:
    from dpsr.config import parse_config
    from dpsr.data.dataset.tables import Dataset
    from dpsr.evaluation.compare.producer import run_task
    from dpsr.model.trained import load_model, other_runs

    config = parse_config(task["config"], "comparison")
    dataset = Dataset.load(config.dataset_dir)
    model = load_model(config, dataset) if task["model"] else None
    run_task(task, config, dataset, model, other_runs(config.evaluation.runs))


if __name__ == "__main__":
    main()

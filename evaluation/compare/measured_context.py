"""Building of methods with a record of what their training cost, kept beside the weights."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dpsr.baselines.context import Baseline, BuildContext
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.evaluation.compare.fingerprints import Fingerprints
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.lists import write_beside
from dpsr.evaluation.report.costs import TrainingCost
from dpsr.evaluation.report.machine import peak_memory
from dpsr.evaluation.report.trec import run_tag

_RECORD = "training.json"


@dataclass
class _Building:
    """A method under construction, and what its parts took."""

    name: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    costs: list[TrainingCost] = field(default_factory=list)


@dataclass
class MeasuredContext(BuildContext):
    """A context whose methods have a directory each, for their weights and their cost.

    Weights without a record of their cost, which a killed training left, are removed and trained again. A method built
    of others costs what they cost when they were trained, and its own part.
    """

    directory: Path = field(kw_only=True)
    fingerprints: Fingerprints = field(kw_only=True)
    _stack: list[_Building] = field(default_factory=list)

    @classmethod
    def of(
        cls, inputs: Inputs, registry: Mapping[str, Baseline], model: ExhaustiveRetriever | None = None
    ) -> MeasuredContext:
        """Makes the context of a comparison."""
        options = inputs.config.evaluation
        return cls(
            inputs.dataset,
            registry,
            inputs.seed,
            model,
            lexical=inputs.config.index.lexical,
            checkpoint=None if options.checkpoint is None else Path(options.checkpoint),
            word_vectors=None if options.word_vectors is None else Path(options.word_vectors),
            directory=inputs.directory / "trained",
            fingerprints=Fingerprints(inputs, registry),
        )

    def method(self, name: str) -> Method:
        """As ``BuildContext.method``; the first call of all processes records the cost."""
        if name in self._built:
            return super().method(name)
        folder = self._folder(name)
        cost = read_cost(folder)
        if cost is None and folder.exists():
            shutil.rmtree(folder)
        self._stack.append(_Building(name))
        start, cpu_start = time.perf_counter(), time.process_time()
        try:
            method = super().method(name)
        finally:
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            building = self._stack.pop()
        if cost is None:
            cost = TrainingCost(seconds - building.seconds, cpu_seconds - building.cpu_seconds, peak_memory())
            for part in building.costs:
                cost += part
            content = json.dumps(asdict(cost)).encode()
            write_beside(folder / _RECORD, lambda file: file.write(content))
        if self._stack:
            above = self._stack[-1]
            above.seconds += seconds
            above.cpu_seconds += cpu_seconds
            above.costs.append(cost)
        return method

    def cache_file(self, name: str) -> Path | None:
        """File for trained weights, in the directory of the method that is being built."""
        return self._folder(self._stack[-1].name) / f"{name}.npz"

    def tuned(
        self, name: str, mixture: Callable[[float], ExhaustiveRetriever], weights: Sequence[float], default: float
    ) -> ExhaustiveRetriever:
        """As ``BuildContext.tuned``; the weight is chosen once, and kept as trained weights are."""
        path = self._folder(self._stack[-1].name) / f"{run_tag(name)}.weight.json"
        try:
            self.weights[name] = float(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            found = super().tuned(name, mixture, weights, default)
            content = json.dumps(self.weights[name]).encode()
            write_beside(path, lambda file: file.write(content))
            return found
        return mixture(self.weights[name])

    def cost(self, name: str) -> TrainingCost | None:
        """Returns the recorded cost of a method; None where it was never built."""
        return read_cost(self._folder(name))

    def _folder(self, name: str) -> Path:
        return self.directory / self.fingerprints.trained(name)


def read_cost(folder: Path) -> TrainingCost | None:
    """Reads the record of a method's directory; None where it is missing or damaged."""
    try:
        return TrainingCost(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None

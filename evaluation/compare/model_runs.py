"""The files of a comparison's methods: each is made by a process of its own, once, and read afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dpsr.baselines.combinations import stages_of
from dpsr.baselines.context import Baseline, Need
from dpsr.evaluation.compare.children import ONE_CORE, MethodFailedError, run_child
from dpsr.evaluation.compare.fingerprints import Fingerprints
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.lists import ListFacts, read_facts
from dpsr.evaluation.compare.producer import LISTS, TIMES
from dpsr.evaluation.measures.timing import RetrievalTime


class ModelRuns:
    """Runs methods whose files are missing or damaged; a method that fails is noted, and the others go on."""

    def __init__(
        self, inputs: Inputs, registry: dict[str, Baseline], child: Sequence[str], say: Callable[[str], None]
    ) -> None:
        """Prepares the runs of a comparison.

        Args:
            inputs: what the methods are measured on.
            registry: the methods; rerankers may be added between runs.
            child: command of a process that takes a task (``producer.run_task``).
            say: shows a line of progress.
        """
        self.inputs = inputs
        self.registry = registry
        self.fingerprints = Fingerprints(inputs, registry)
        self.facts: dict[str, ListFacts] = {}
        """Methods whose lists are there, in the order of their runs."""
        self.failed: dict[str, str] = {}
        """Method -> what ended it."""
        self._child = child
        self._say = say

    def lists_path(self, name: str) -> Path:
        """File of a method's lists."""
        return self.inputs.directory / "lists" / f"{self.fingerprints.lists(name)}.npz"

    def make_lists(self, name: str) -> ListFacts | None:
        """Makes the lists of a method unless they are there; of a reranker those of both stages first.

        Returns:
            Facts about the method; None where it failed, or a stage of it.
        """
        if name in self.facts or name in self.failed:
            return self.facts.get(name)
        stages, more = stages_of(name, self.registry), {}
        if stages is not None:
            facts = [self.make_lists(stage) for stage in stages[:2]]
            reason = _unfit(stages, facts)
            if reason:
                self.failed[name] = f"{name}: {reason}"
                return None
            more = {"first": str(self.lists_path(stages[0]))}
        path = self.lists_path(name)
        found = read_facts(path)
        if found is None:
            log = self._log(name, LISTS)
            self._say(f"{name}: {'its lists are damaged and made again' if path.exists() else 'runs'} (log: {log})")
            found = read_facts(path) if self._run(name, LISTS, path, more) else None
        if found is not None:
            self.facts[name] = found
        return found

    def make_times(self, name: str) -> RetrievalTime | None:
        """Times a retriever on one core unless that was done; None where the process failed."""
        path = self.inputs.directory / "times" / f"{self.fingerprints.lists(name)}.json"
        found = _read_times(path)
        if found is None and self._run(name, TIMES, path, {}):
            found = _read_times(path)
        return found

    def _log(self, name: str, kind: str) -> Path:
        return self.inputs.directory / "logs" / f"{self.fingerprints.lists(name)}.{kind}.log"

    def _run(self, name: str, kind: str, path: Path, more: Mapping[str, str]) -> bool:
        """Runs a process that writes a file; returns whether it did."""
        config = self.inputs.config.model_dump(mode="json", exclude_unset=True)
        task = {
            "kind": kind,
            "name": name,
            "path": str(path),
            "split": self.inputs.split,
            "config": config,
            "model": Need.MODEL in self.registry[name].needs,
            "one_core": kind == TIMES,
            **more,
        }
        try:
            run_child(self._child, name, task, self._log(name, kind), ONE_CORE if kind == TIMES else None)
        except MethodFailedError as error:
            self._say(str(error))
            self.failed[name] = str(error)
            return False
        return True


def _unfit(stages: tuple[str, str, int], facts: Sequence[ListFacts | None]) -> str | None:
    """Says why two stages make no reranker."""
    first, second = facts
    if first is None or second is None:
        return f"{stages[0] if first is None else stages[1]} failed"
    if not first.retrieves:
        return f"{stages[0]} only scores given pairs, it retrieves nothing"
    if not second.scores:
        return f"{stages[1]} only retrieves, it scores no given pairs"
    return None


def _read_times(path: Path) -> RetrievalTime | None:
    try:
        return RetrievalTime(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None

"""Results of an evaluation as plain data, which tables, JSON and page render."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.measures.polysemy import HeadSenses
from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.measures.timing import RetrievalTime


@dataclass(frozen=True)
class Result:
    """Measures of one method on one slice of the examples."""

    slice: str
    retriever: str
    """Name of the method."""
    examples: int
    metrics: dict[str, float]
    """Measure -> mean; without the measures that the method does not allow (``measures.clicks``)."""
    half_widths: dict[str, float]
    """Half of the 95 % interval of every metric, by its linearised variance."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Bootstrap intervals of ``metrics.COMPARED``."""


@dataclass(frozen=True)
class Difference:
    """Paired differences of two methods on the same clicks of a slice."""

    slice: str
    retriever: str
    baseline: str
    metrics: dict[str, Interval]
    """Measure that both have -> retriever minus baseline."""


@dataclass(frozen=True)
class Comparison:
    """Results of several methods, and their paired differences."""

    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    """The trained model minus each other method."""
    over_reference: list[Difference] = field(default_factory=list)
    """Each other method minus the reference, BM25."""

    def __add__(self, other: Comparison) -> Comparison:
        """Returns the entries of both."""
        return Comparison(
            self.results + other.results,
            self.differences + other.differences,
            self.over_reference + other.over_reference,
        )

    def of_slice(self, name: str) -> Comparison:
        """Returns the entries of one slice."""
        return Comparison(
            [result for result in self.results if result.slice == name],
            [difference for difference in self.differences if difference.slice == name],
            [difference for difference in self.over_reference if difference.slice == name],
        )

    def slices(self) -> list[str]:
        """Returns the names of the slices, in their order."""
        return list(dict.fromkeys(result.slice for result in self.results))


@dataclass(frozen=True)
class Judged:
    """Results on judged queries."""

    queries: int
    """Queries with a relevant item."""
    pairs: int
    unknown_items: int
    """Judged pairs left out because their item is not in the catalogue."""
    positive_from: float
    """Lowest label of a relevant pair."""
    comparison: Comparison


@dataclass(frozen=True)
class Report:
    """Results on every slice, and the facts needed to read and to repeat them."""

    name: str
    split: str
    split_size: int
    """Interactions of the split, of which the examples may be a sample."""
    num_items: int
    candidates: int
    """Items that Top-k is measured among."""
    weights: dict[str, float]
    """Weights of mixtures: of log(1 + clicks), and of the model beside BM25."""
    mixing_ratio: float
    """alpha: the share of random negatives in training."""
    seed: int
    machine: dict[str, Any]
    """Hardware and software versions (``machine.describe_machine``)."""
    comparison: Comparison
    judged: Judged | None = None
    notes: list[str] = field(default_factory=list)
    """Sentences that qualify the figures."""
    senses: list[HeadSenses] = field(default_factory=list, compare=False)
    """Senses retrieved by the heads for polysemous queries."""
    retrieval: list[RetrievalTime] = field(default_factory=list, compare=False)
    """Time from one text to its 1,000 best items."""

    @property
    def results(self) -> list[Result]:
        """Results of every method on every slice."""
        return self.comparison.results

    def result(self, retriever: str, slice_name: str = ALL) -> Result:
        """Returns the result of one method on one slice.

        Raises:
            KeyError: the method or the slice was not measured; the message lists what was.
        """
        for result in self.results:
            if (result.retriever, result.slice) == (retriever, slice_name):
                return result
        known = ", ".join(f"{result.retriever} / {result.slice}" for result in self.results)
        raise KeyError(f"no result of {retriever} / {slice_name} (there are: {known})")

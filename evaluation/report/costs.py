"""What a method costs: training, memory, index, and labels; as plain data of a comparison."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingCost:
    """Cost of building a method from a prepared dataset, its training included."""

    seconds: float
    cpu_seconds: float | None
    """Of all threads; None where it was not measured."""
    peak_bytes: int | None
    """Highest resident memory of the process until the method was built; None where it was not measured."""

    def __add__(self, other: TrainingCost) -> TrainingCost:
        """Adds a part that was built before; memory is that of the larger one."""
        seconds, cpu_seconds, peak_bytes = self.seconds + other.seconds, None, None
        if self.cpu_seconds is not None and other.cpu_seconds is not None:
            cpu_seconds = self.cpu_seconds + other.cpu_seconds
        if self.peak_bytes is not None and other.peak_bytes is not None:
            peak_bytes = max(self.peak_bytes, other.peak_bytes)
        return TrainingCost(seconds, cpu_seconds, peak_bytes)


@dataclass(frozen=True)
class Cost:
    """What one method of a comparison costs and needs."""

    retriever: str
    """Name of the method."""
    needs: tuple[str, ...]
    """``clicks``, ``labelled pairs``, ``trained model``."""
    training: TrainingCost | None
    """None where it was not measured."""
    index_bytes: int | None
    """Bytes of the item side; None where the method does not say."""
    milliseconds: float | None
    """Median time from one text to its 1,000 best items on one core; None for a method that only scores pairs."""

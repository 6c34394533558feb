"""AdamW, LAMB and LANS against plain NumPy, their schedule, clipping and accumulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from dpsr.training.optimizers import Copies
from dpsr.training.scheduled_optimizer import MomentState, ScheduledOptimizer, UpdatesOfStage
from dpsr.training.update_rules import RULES, LinearSchedule, clip_by_global_norm

SHAPES = [(5, 4), (4,), (3, 3), (3,)]
DECAY, CLIP, RATE, WARMUP = 0.1, 1.5, 0.05, 0.25


class Reference:
    """One weight, moved in float64 as the papers write it; matrices decay and, in LAMB and LANS, are scaled."""

    def __init__(self, kind: str, weight: np.ndarray) -> None:
        self.kind, self.weight = kind, weight.astype(np.float64)
        self.mean, self.square, self.update = np.zeros_like(self.weight), np.zeros_like(self.weight), 0

    def step(self, gradient: np.ndarray, rate: float) -> None:
        beta_1, beta_2, epsilon, decay = 0.9, 0.999, 1e-6, DECAY if self.weight.ndim > 1 else 0.0
        self.update += 1
        if self.kind == "lans":
            gradient = gradient / np.linalg.norm(gradient)
        self.mean = beta_1 * self.mean + (1 - beta_1) * gradient
        self.square = beta_2 * self.square + (1 - beta_2) * gradient**2
        root = np.sqrt(self.square / (1 - beta_2**self.update)) + epsilon
        behind = self.mean / (1 - beta_1**self.update) / root + decay * self.weight
        ahead = gradient / root + decay * self.weight
        directions = [(beta_1, behind), (1 - beta_1, ahead)] if self.kind == "lans" else [(1.0, behind)]
        moved = np.zeros_like(self.weight)
        for share, direction in directions:
            scale = 1.0
            if self.kind != "adamw" and self.weight.ndim > 1:
                scale = np.linalg.norm(self.weight) / np.linalg.norm(direction)
            moved += share * scale * direction
        self.weight = self.weight - rate * moved


def reference_rate(update: int, updates: int) -> float:
    warm = max(1, round(WARMUP * updates))
    return RATE * update / warm if update <= warm else RATE * (updates + 1 - update) / (updates + 1 - warm)


def drawn(count: int) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    random = np.random.default_rng(3)
    weights = [random.normal(size=shape).astype(np.float32) for shape in SHAPES]
    return weights, [[random.normal(size=shape).astype(np.float32) for shape in SHAPES] for _ in range(count)]


def optimizer_of(
    kind: str, weights: list[np.ndarray], updates: UpdatesOfStage, state: MomentState | None = None
) -> ScheduledOptimizer:
    model = SimpleNamespace(is_local=True, tables={})
    return ScheduledOptimizer(
        model,  # type: ignore[arg-type]  # the weights are given, and there are no tables
        RULES[kind](DECAY),
        state or MomentState(),
        updates,
        learning_rate=RATE,
        warmup_share=WARMUP,
        clip_norm=CLIP,
        table_learning_rate=1.0,
        initial_accumulator=0.1,
        weights=[tf.Variable(weight) for weight in weights],
    )


def reference(
    kind: str, weights: list[np.ndarray], gradients: list[list[np.ndarray]], updates: UpdatesOfStage
) -> list[np.ndarray]:
    """The weights after all steps; the mean gradient of an update is clipped by the norm of all."""
    found, waiting, update = [Reference(kind, weight) for weight in weights], [], 0
    for step, of_step in enumerate(gradients, 1):
        waiting.append(of_step)
        if len(waiting) == updates.accumulate or step % updates.steps == 0:
            means = [np.mean(each, axis=0, dtype=np.float64) for each in zip(*waiting, strict=True)]
            norm = np.sqrt(sum((mean**2).sum() for mean in means))
            update, waiting = update + 1, []
            for weight, mean in zip(found, means, strict=True):
                weight.step(mean * min(1.0, CLIP / norm), reference_rate(update, updates.total))
    return [each.weight for each in found]


@pytest.mark.parametrize(("accumulate", "steps", "epochs"), [(1, 6, 2), (3, 7, 2), (8, 3, 2)])
@pytest.mark.parametrize("kind", list(RULES))
def test_variables_move_as_in_numpy(kind: str, accumulate: int, steps: int, epochs: int) -> None:
    updates = UpdatesOfStage(epochs, steps, accumulate)
    weights, gradients = drawn(steps * epochs)
    optimizer = optimizer_of(kind, weights, updates)
    for of_step in gradients:
        optimizer.update_weights([tf.constant(gradient) for gradient in of_step], None)
    for variable, expected in zip(optimizer.variables, reference(kind, weights, gradients, updates), strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=2e-5, atol=1e-6)
    assert int(optimizer.iterations()) == steps * epochs


@pytest.mark.parametrize(
    ("kind", "accumulate", "sync_steps"), [("adamw", 1, 1), ("adamw", 3, 1), ("adamw", 3, 100), ("lans", 1, 4)]
)
def test_copies_of_one_worker_move_as_in_numpy(kind: str, accumulate: int, sync_steps: int) -> None:
    """Whatever the exchanges: these fall between two updates, and a work unit is an epoch here."""
    epochs, steps = 2, 7
    updates = UpdatesOfStage(epochs, steps, accumulate)
    weights, gradients = drawn(steps * epochs)
    optimizer = optimizer_of(kind, weights, updates)
    stacked = [tf.stack(each) for each in zip(*gradients, strict=True)]

    @tf.function
    def work_unit(first: tf.Tensor) -> tf.Tensor:
        def take(position: tf.Tensor, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
            of_step = [gradient[first + position] for gradient in stacked]
            return tf.zeros([]), optimizer.update_weights(of_step, copies)

        return optimizer.take_steps(tf.constant(steps, tf.int64), sync_steps, take)

    for epoch in range(epochs):
        work_unit(tf.constant(epoch * steps, tf.int64))
    for variable, expected in zip(optimizer.variables, reference(kind, weights, gradients, updates), strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=5e-5, atol=2e-6)
    assert int(optimizer.iterations()) == steps * epochs


def test_four_concurrent_workers_leave_the_moments_averages() -> None:
    """All read before any adds, again and again: sums of the changes would swing ever wider."""
    updates = UpdatesOfStage(1, 640)
    weights, _ = drawn(0)
    optimizer = optimizer_of("adamw", weights, updates)
    optimizer.workers = 4
    random = np.random.default_rng(1)
    for _ in range(10):
        changes = []
        for _ in range(optimizer.workers):
            before = after = optimizer.read()
            for _ in range(16):
                gradients = [tf.constant(random.normal(0.01, 0.01, shape), tf.float32) for shape in SHAPES]
                after = optimizer.update_weights(gradients, after)
            changes.append((before, after))
        for before, after in changes:
            optimizer.add(before, after)
    first, second = ([slot.numpy() for slot in slots] for slots in optimizer.slots)
    assert max(np.abs(moment).max() for moment in first) < 0.05
    assert min(moment.min() for moment in second) > 0.0
    assert max(moment.max() for moment in second) < 1e-3
    assert int(optimizer.iterations()) == 640


@pytest.mark.parametrize("kind", list(RULES))
def test_a_weight_without_gradient_only_decays(kind: str) -> None:
    weights, _ = drawn(0)
    optimizer = optimizer_of(kind, weights, UpdatesOfStage(1, 1))
    optimizer.update_weights([tf.zeros(shape) for shape in SHAPES], None)
    for variable, weight in zip(optimizer.variables, weights, strict=True):
        assert np.isfinite(variable.numpy()).all()
        if weight.ndim == 1:
            assert np.array_equal(variable.numpy(), weight)
        else:
            assert np.linalg.norm(variable.numpy()) < np.linalg.norm(weight)


def test_the_rate_rises_to_its_peak_and_falls_to_zero_behind_the_last_update() -> None:
    schedule = LinearSchedule(2.0, 20, 0.25)
    rates = [float(schedule.rate(tf.constant(update, tf.int64))) for update in range(1, 22)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert np.diff(rates[4:]) == pytest.approx(np.full(16, -2.0 / 16))
    assert rates[20] == 0.0
    assert float(LinearSchedule(2.0, 20, 0.0).rate(tf.constant(1, tf.int64))) == 2.0


def test_clipping_scales_all_gradients_alike() -> None:
    gradients = [tf.constant([3.0]), tf.constant([[4.0]])]
    for limit, norm in [(1.0, 1.0), (10.0, 5.0), (0.0, 5.0)]:
        clipped = clip_by_global_norm(gradients, limit)
        assert float(tf.linalg.global_norm(clipped)) == pytest.approx(norm)
        assert float(clipped[1][0, 0] / clipped[0][0]) == pytest.approx(4 / 3)


def test_stages_share_the_moments_and_begin_anew() -> None:
    weights, gradients = drawn(2)
    state = MomentState()
    first = optimizer_of("adamw", weights, UpdatesOfStage(1, 4), state)
    second = optimizer_of("adamw", weights, UpdatesOfStage(1, 4), state)
    shared = ScheduledOptimizer(
        SimpleNamespace(is_local=True, tables={}),  # type: ignore[arg-type]
        RULES["adamw"](DECAY),
        state,
        UpdatesOfStage(1, 4),
        learning_rate=RATE,
        warmup_share=WARMUP,
        clip_norm=CLIP,
        table_learning_rate=1.0,
        initial_accumulator=0.1,
        weights=first.variables,
    )
    assert [a is b for a, b in zip(first.slots[0], shared.slots[0], strict=True)] == [True] * len(SHAPES)
    assert not any(a is b for a, b in zip(first.slots[0], second.slots[0], strict=True))
    first.update_weights(gradients[0], None)
    started = [variable.numpy() for variable in shared.variables]
    shared.begin_stage()
    shared.update_weights(gradients[1], None)
    expected = reference("adamw", started, gradients[1:], UpdatesOfStage(1, 4))
    for variable, value in zip(shared.variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=1e-6)
    assert int(shared.iterations()) == 2

"""Statistics of an experiment: equal to scipy's where it has them, and as right as they say over seeded experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from dpsr.evaluation.experiments import sequential
from dpsr.evaluation.experiments.comparison import VariantUnits, compare
from dpsr.evaluation.experiments.estimates import (
    mean_difference,
    mean_of,
    proportion,
    proportion_difference,
    ratio_difference,
    ratio_of,
)
from dpsr.evaluation.experiments.latency import LatencyHistogram
from dpsr.evaluation.experiments.sample_ratio import check_sample_ratio
from dpsr.evaluation.experiments.sequential import sequential_test, units_needed

LOOKS = 30


@pytest.mark.parametrize(("successes", "units"), [(0, 12), (12, 12), (3, 17), (480, 9000)])
def test_the_interval_of_a_share_is_wilsons(successes: int, units: int) -> None:
    found, theirs = proportion(successes, units), stats.binomtest(successes, units).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_the_difference_of_shares_is_the_z_test_and_newcombes_interval() -> None:
    found = proportion_difference((56, 70), (48, 80))
    square = stats.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert found.p == pytest.approx(square.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe (1998), table II, (a)
    assert (found.value, found.relative) == pytest.approx((0.2, 1 / 3))


def test_the_difference_of_means_is_welchs() -> None:
    rng = np.random.default_rng(1)
    mine, theirs = rng.poisson(2.0, 40), rng.poisson(3.0, 25)
    found, reference = mean_difference(mean_of(mine), mean_of(theirs)), stats.ttest_ind(mine, theirs, equal_var=False)
    interval = reference.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((reference.pvalue, interval.low, interval.high), rel=1e-9)


def test_the_variance_of_a_ratio_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(2)
    requests = 1 + rng.geometric(0.2, 2000)
    events = rng.binomial(requests, rng.beta(1, 9, 2000))
    drawn = rng.integers(0, 2000, (4000, 2000))
    bootstrap = (events[drawn].sum(1) / requests[drawn].sum(1)).std()
    assert math.sqrt(ratio_of(events, requests).variance) == pytest.approx(bootstrap, rel=0.04)
    ones, mean = ratio_of(events, np.ones(2000)), mean_of(events)
    assert (ones.value, ones.variance) == pytest.approx((mean.value, mean.variance))


def test_units_without_variance_have_no_interval() -> None:
    same = mean_of(np.ones(5))
    assert mean_difference(same, mean_of(np.zeros(5))).p is None
    assert ratio_difference(ratio_of(np.zeros(1), np.ones(1)), ratio_of(np.zeros(9), np.ones(9))).low is None
    assert proportion_difference((0, 10), (0, 10)).p == 1.0


def test_the_fixed_tests_are_wrong_5_times_in_100_and_their_intervals_cover_95_times() -> None:
    rng = np.random.default_rng(3)
    wrong, covered, welch = [], [], []
    for _ in range(3000):
        mine, theirs = rng.binomial(900, 0.05), rng.binomial(3000, 0.05)
        found = proportion_difference((mine, 900), (theirs, 3000))
        assert found.p is not None
        assert found.low is not None
        assert found.high is not None
        wrong.append(found.p < 0.05)
        covered.append(found.low <= 0 <= found.high)
        means = mean_difference(mean_of(rng.poisson(0.4, 150)), mean_of(rng.negative_binomial(0.5, 0.5, 400) * 0.8))
        assert means.p is not None
        welch.append(means.p < 0.05)
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.012)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert np.mean(welch) == pytest.approx(0.05, abs=0.012)


def test_the_interval_of_a_true_difference_covers_it() -> None:
    rng = np.random.default_rng(4)
    mine, theirs = rng.binomial(60, 0.25, 2000), rng.binomial(40, 0.1, 2000)
    found = [proportion_difference((int(a), 60), (int(b), 40)) for a, b in zip(mine, theirs, strict=True)]
    covered = [f.low <= 0.15 <= f.high for f in found if f.low is not None and f.high is not None]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_requests_of_one_key_are_not_independent_and_the_delta_method_knows() -> None:
    rng = np.random.default_rng(5)
    delta, naive = [], []
    for _ in range(1000):
        requests = 1 + rng.poisson(4.0, (2, 400))
        events = rng.binomial(requests, rng.beta(0.4, 1.6, (2, 400)))
        found = ratio_difference(ratio_of(events[0], requests[0]), ratio_of(events[1], requests[1]))
        as_requests = proportion_difference(
            (int(events[0].sum()), int(requests[0].sum())), (int(events[1].sum()), int(requests[1].sum()))
        )
        assert found.p is not None
        assert as_requests.p is not None
        delta.append(found.p < 0.05)
        naive.append(as_requests.p < 0.05)
    assert np.mean(delta) == pytest.approx(0.05, abs=0.02)
    assert np.mean(naive) > 0.15


def daily(rng: np.random.Generator, rates: tuple[float, float], per_day: tuple[int, int]) -> np.ndarray:
    """Units with an event and units, at the end of every day: int [looks, 2 variants, 2]."""
    new = np.stack([rng.binomial(count, rate, LOOKS) for rate, count in zip(rates, per_day, strict=True)], axis=1)
    days = np.arange(1, LOOKS + 1)[:, None]
    return np.stack([new.cumsum(0), days * np.array(per_day)], axis=2)


def returning(rng: np.random.Generator, users: int) -> np.ndarray:
    """As ``daily``, of users who all come on the first days, come back, and differ in how often they buy."""
    first = rng.exponential(3.0, (2, users))
    bought = first + rng.exponential(1 / rng.gamma(0.5, 0.02, (2, users)))
    days = np.arange(1, LOOKS + 1)[:, None, None]
    return np.stack([(bought < days).sum(2), (first < days).sum(2)], axis=2)


def looks(history: np.ndarray) -> list[tuple[float, float, float]]:
    """The difference, the always-valid p-value and the p-value of the fixed test at every look."""
    found = []
    for (mine, my_units), (theirs, their_units) in history.tolist():
        result = compare(
            ("b", units(mine, my_units)),
            ("a", units(theirs, their_units)),
            comparisons=1,
            days=1.0,
            broken=False,
        )
        p = 1.0 if result.sequential is None else result.sequential.p
        found.append((result.conversion.value, p, result.conversion.p or 1.0))
    return found


def units(converted: int, count: int) -> VariantUnits:
    events = np.zeros(count, np.int64)
    events[:converted] = 1
    return VariantUnits(np.ones(count, np.int64), events, np.zeros(count, np.int64))


def sequential_p(history: np.ndarray) -> list[float]:
    """Always-valid p-values at all looks, by the formulas alone."""
    found = []
    for (mine, my_units), (theirs, their_units) in history.tolist():
        share = (mine + theirs) / (my_units + their_units)
        rates = ((mine / my_units, my_units), (theirs / their_units, their_units))
        variance = max(share * (1 - share) * (1 / my_units + 1 / their_units), sum(r * (1 - r) / n for r, n in rates))
        found.append(
            1.0 if variance == 0 else sequential_test(rates[0][0] - rates[1][0], variance, my_units + their_units).p
        )
    return found


@pytest.mark.parametrize("per_day", [(400, 400), (60, 540), (30, 30), (3000, 3000)])
def test_whoever_looks_every_day_is_wrong_at_most_5_times_in_100(per_day: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    wrong = [min(sequential_p(daily(rng, (0.05, 0.05), per_day))) <= 0.05 for _ in range(600)]
    assert np.mean(wrong) <= 0.05


def test_the_guarantee_holds_for_users_who_come_back() -> None:
    rng = np.random.default_rng(7)
    wrong = [min(sequential_p(returning(rng, 3000))) <= 0.05 for _ in range(300)]
    assert np.mean(wrong) <= 0.05


def test_a_comparison_uses_these_formulas_and_the_fixed_test_does_not_stand_peeking() -> None:
    rng = np.random.default_rng(8)
    fixed = []
    for trial in range(40):
        history = daily(rng, (0.05, 0.05), (100, 100))
        found = looks(history)
        fixed.append(min(p for _, _, p in found) < 0.05)
        if trial < 5:
            assert [p for _, p, _ in found] == pytest.approx(sequential_p(history), rel=1e-9)
    assert np.mean(fixed) > 0.15


def test_the_confidence_sequence_covers_a_true_difference_at_all_looks_at_once() -> None:
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(500):
        history = daily(rng, (0.09, 0.06), (300, 300)) / 1.0
        rates = history[:, :, 0] / history[:, :, 1]
        difference = rates[:, 0] - rates[:, 1]
        variance = (rates * (1 - rates) / history[:, :, 1]).sum(1)
        found = [
            sequential_test(d, v, int(n)) for d, v, n in zip(difference, variance, history[:, :, 1].sum(1), strict=True)
        ]
        covered.append(all(f.low <= 0.03 <= f.high for f in found))
    assert np.mean(covered) >= 0.95


def test_a_real_difference_is_found_about_when_it_is_announced() -> None:
    rng = np.random.default_rng(10)
    rates, per_day = (0.072, 0.060), (1500, 1500)
    variance = sum(rate * (1 - rate) / 1500 for rate in rates)
    needed = units_needed(rates[0] - rates[1], variance, 3000, 0.05)
    assert needed is not None
    day = math.ceil(needed / 3000)
    assert 2 < day < LOOKS
    ps = np.array([sequential_p(daily(rng, rates, per_day)) for _ in range(300)])
    assert 0.4 <= (ps[:, :day].min(1) <= 0.05).mean() <= 0.8
    assert (ps.min(1) <= 0.05).mean() > 0.9


@pytest.mark.parametrize(("difference", "units"), [(0.004, 20_000), (-0.02, 3_000), (0.0001, 500), (0.03, 900)])
def test_the_always_valid_p_value_is_the_reciprocal_of_the_mixture_likelihood_ratio(
    difference: float, units: int
) -> None:
    scale = 0.2
    spread = math.sqrt(sequential.RHO2 * scale)

    def integrand(effect: float) -> float:
        log_ratio = units * (effect * difference - effect**2 / 2) / scale
        return math.exp(log_ratio) * float(stats.norm.pdf(effect, scale=spread))

    ratio, _ = integrate.quad(integrand, -12 * spread, 12 * spread, points=[0.0, difference], limit=500)
    assert sequential_test(difference, scale / units, units).p == pytest.approx(min(1.0, 1 / ratio), rel=1e-6)


@pytest.mark.parametrize("comparisons", [1, 3])
def test_interval_p_value_and_units_needed_say_the_same(comparisons: int) -> None:
    for difference in np.linspace(-0.03, 0.03, 41):
        found = sequential_test(difference, 1e-5, 20_000, comparisons)
        assert (found.p <= found.level) == (not found.low <= 0 <= found.high)
        needed = units_needed(difference, 1e-5, 20_000, found.level)
        if needed is None:
            assert abs(difference) < 1e-3
            continue
        again = sequential_test(difference, 1e-5 * 20_000 / needed, math.ceil(needed * 1.0001), comparisons)
        assert again.p <= again.level * 1.01


def test_the_sequence_is_narrowest_where_it_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    def width(rho2: float) -> float:
        monkeypatch.setattr(sequential, "RHO2", rho2)
        found = sequential_test(0.0, 1e-5, sequential.TUNED_UNITS)
        return found.high - found.low

    tuned = sequential.RHO2
    assert width(tuned) <= 1.01 * min(width(tuned * factor) for factor in np.geomspace(0.1, 10, 41))


def test_a_broken_sample_ratio_is_seen_and_a_right_one_is_not() -> None:
    even = {"a": 0.5, "b": 0.5}
    broken = check_sample_ratio({"a": 10_400, "b": 9_600}, even)
    assert broken.mismatch
    assert broken.p == pytest.approx(stats.chisquare([10_400, 9_600]).pvalue)
    rng = np.random.default_rng(11)
    power = [check_sample_ratio({"a": n, "b": 20_000 - n}, even).mismatch for n in rng.binomial(20_000, 0.52, 500)]
    assert np.mean(power) > 0.95
    thirds = {"a": 0.7, "b": 0.2, "c": 0.1}
    drawn = rng.multinomial(20_000, list(thirds.values()), 5000).tolist()
    found = [check_sample_ratio(dict(zip(thirds, row, strict=True)), thirds) for row in drawn]
    assert np.mean([ratio.mismatch for ratio in found]) <= 0.003
    assert np.mean([ratio.p < 0.05 for ratio in found]) == pytest.approx(0.05, abs=0.012)
    assert check_sample_ratio({"a": 50, "b": 50, "old": 1}, even).mismatch
    assert check_sample_ratio({"a": 5000}, even).mismatch


def test_quantiles_of_the_histogram_are_within_half_a_percent() -> None:
    rng = np.random.default_rng(12)
    values, histogram = rng.lognormal(2, 1, 20_000), LatencyHistogram()
    for part in np.split(values, 10):
        histogram.add(part)
    for share in (0.01, 0.5, 0.99, 1.0):
        assert histogram.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=0.0051)
    histogram.add(np.array([0.0, 1e12]))
    assert LatencyHistogram().quantile(0.5) is None

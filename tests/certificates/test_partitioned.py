from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from holdfast.certificates import (
    PartitionCell,
    UniformKernel,
    mask_probability,
    neyman_pearson_value,
    observed_change_groups,
    observed_change_value,
    partitioned_neyman_pearson_value,
    ratio_groups,
)
from tests.certificates import worlds

RATES = [0.2, 0.5, 0.8, 1.0]


def exact_cells(here, k):
    """q of observed-change cell k: the first k slots differ from 0, the next does not."""
    table = here.verdicts @ np.diff(norm.cdf(worlds.BINS))
    for position in reversed(range(here.positions)):
        law = (1 - here.chances[position]) * np.eye(here.sizes[position] + 2)[0]
        law = law + here.chances[position] * here.mask_law(position)
        if position < k:
            law[0] = 0.0
        elif position == k:
            law[1:] = 0.0
        table = table @ (law / law.sum() if law.sum() > 0.0 else law)
    return np.clip(table, 0.0, 1.0 - 1e-16)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("beta", RATES)
def test_no_attack_beats_the_value_at_any_rate(beta, size):
    rng, slots, kernel = np.random.default_rng(4), 3, UniformKernel(beta, size)
    chances = (beta * size / (size - 1),) * slots  # above 1 too: the law of a slot stays a law
    here = worlds.random_worlds(rng, count=40, sizes=(size,) * slots, chances=chances, absorbing=False)
    exact = np.stack([exact_cells(here, k) for k in range(slots + 1)], axis=1)
    for d, epsilon in product(range(slots + 1), (0.0, 0.5, 1.5)):
        question = {"kernel": kernel, "tokens": d, "epsilon": epsilon, "sigma": 1.0}
        least = np.array([observed_change_value(row, **question) for row in exact])
        most = np.array([observed_change_value(row, verdict="safe", **question) for row in 1 - exact])
        assert (least <= here.extreme(range(d), epsilon, outside=False) + 1e-12).all()
        assert (most >= here.extreme(range(d), epsilon, largest=True, outside=False) - 1e-12).all()


@pytest.mark.parametrize("beta", RATES)
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_one_cell_is_the_neyman_pearson_bound(beta, tokens):
    kernel, question = UniformKernel(beta, 7), {"epsilon": 0.6, "sigma": 1.0}
    single = neyman_pearson_value(0.95, kernel=kernel, tokens=tokens, **question)
    cell = PartitionCell(ratio_groups(kernel, tokens), 0.95)
    assert partitioned_neyman_pearson_value([cell], **question) == pytest.approx(single, rel=1e-14)


@pytest.mark.parametrize("beta", RATES)
def test_cells_never_prove_less_than_one_number(beta):
    rng, kernel = np.random.default_rng(5), UniformKernel(beta, 6)
    weights = np.array([beta**k * (1 - beta if k < 3 else 1) for k in range(4)])
    for tokens, epsilon in product(range(4), (0.0, 0.7)):
        lower, question = rng.uniform(0.2, 1.0, size=4), {"tokens": tokens, "epsilon": epsilon, "sigma": 1.0}
        value = observed_change_value(lower, kernel=kernel, **question)
        assert value >= neyman_pearson_value(float(weights @ lower), kernel=kernel, **question) - 1e-11


def test_observed_cells_cost_only_the_redrawn_tokens_of_the_latent_ones():
    kernel = UniformKernel(0.25, 30000)
    for tokens in range(4):
        question = {"kernel": kernel, "tokens": tokens, "epsilon": 0.5, "sigma": 1.0}
        value = observed_change_value([0.9] * 4, **question)
        latent = mask_probability(kernel) ** tokens * norm.cdf(norm.ppf(0.9) - 0.5)
        assert latent * (1 - 1e-10) <= value <= latent * 1.02


def test_a_bound_is_the_least_over_the_sets_of_rewritten_slots():
    kernel, lower, noise = UniformKernel(0.8, 2), [0.9, 0.1, 0.2], {"epsilon": 0.4, "sigma": 1.0}
    values = []
    for rewritten in ((), (0,), (1,), (0, 1)):
        groups = observed_change_groups(kernel, slots=2, rewritten=rewritten)
        cells = [PartitionCell(*cell) for cell in zip(groups, lower, strict=True)]
        values.append(partitioned_neyman_pearson_value(cells, **noise))
    assert observed_change_value(lower, kernel=kernel, tokens=2, **noise) == pytest.approx(min(values), rel=1e-12)
    assert min(values) < values[-1]


@pytest.mark.parametrize("kernel", [UniformKernel(0.3, 5), UniformKernel(1.0, 5)])
@pytest.mark.parametrize("rewritten", [(), (0,), (2,), (0, 2), (0, 1, 2)])
def test_observed_cells_are_the_whole_noise(kernel, rewritten):
    groups = observed_change_groups(kernel, slots=3, rewritten=rewritten)
    assert sum(sum(cell.clean) for cell in groups) == sum(sum(cell.adversarial) for cell in groups) == 1
    expected = [kernel.beta**k * (1 - kernel.beta if k < 3 else 1) for k in range(4)]
    assert [float(sum(cell.clean)) for cell in groups] == pytest.approx(expected, rel=1e-14)


def test_values_outside_their_range_are_refused():
    cell = PartitionCell(ratio_groups(UniformKernel(0.3, 5), 1), 0.9)
    with pytest.raises(ValueError, match=r"cells of clean mass 2\.0 must sum to at most 1; pass each cell once"):
        partitioned_neyman_pearson_value([cell, cell], epsilon=0.1, sigma=1.0)
    with pytest.raises(ValueError, match="tokens=3 must be at most the 2 slots that have cells; lower tokens"):
        observed_change_value([0.5] * 3, kernel=UniformKernel(0.3, 5), tokens=3, epsilon=0.0, sigma=1.0)
    with pytest.raises(ValueError, match=r"rewritten=\[2\] must be slots below slots=2; drop the others"):
        observed_change_groups(UniformKernel(0.3, 5), slots=2, rewritten=[2])

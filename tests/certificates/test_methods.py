import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import (
    AbsorbingKernel,
    CoverBounds,
    UniformKernel,
    auto_frontier,
    cell_weights,
    cover_radii,
    l0_auto_frontier,
    neyman_pearson_frontier,
    neyman_pearson_radius,
    suffix_radii,
)

KERNELS = st.sampled_from([AbsorbingKernel(0.4), AbsorbingKernel(0.95), UniformKernel(0.3, 3), UniformKernel(0.9, 900)])
NOISE = {"tau": st.floats(1e-6, 0.9), "sigma": st.floats(0.1, 2.0), "verdict": st.sampled_from(["unsafe", "safe"])}


def rank(radius):
    return -1.0 if radius is None else radius


def check(found, stratified, single, close):
    """Never below either method, equal to the one it names, nonincreasing."""
    for (radius, method), one, other in zip(found, stratified, single, strict=True):
        assert rank(radius) >= rank(one)
        assert rank(radius) >= rank(other) * (1 - close) - close
        assert method == (None if radius is None else "stratified" if radius == one else "neyman_pearson")
    radii = [rank(radius) for radius, _ in found]
    assert radii == sorted(radii, reverse=True)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(cells=st.lists(st.floats(0.0, 1 - 1e-9), min_size=1, max_size=6), kernel=KERNELS, **NOISE)
def test_the_suffix_frontier_is_never_below_either_method(cells, kernel, sigma, tau, verdict):
    question = {"kernel": kernel, "sigma": sigma, "tau": tau, "verdict": verdict}
    p = min(1.0, float(cell_weights(kernel, len(cells) - 1) @ cells)) * (1 - 1e-10)
    single = [neyman_pearson_radius(p, tokens=d, **question) for d in range(len(cells))]
    check(auto_frontier(cells, **question), suffix_radii(cells, **question), single, 1e-9)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(lower=st.lists(st.floats(0.0, 1 - 1e-9), min_size=1, max_size=4), kernel=KERNELS, **NOISE)
def test_the_l0_frontier_is_never_below_either_method(lower, kernel, sigma, tau, verdict):
    bounds = [CoverBounds(d, (0.5**d,), (q,)) for d, q in enumerate(lower)]
    question = {"kernel": kernel, "sigma": sigma, "tau": tau, "verdict": verdict}
    p = lower[0] * (1 - 1e-10)
    single = [neyman_pearson_radius(p, tokens=d, **question) for d in range(len(lower))]
    check(l0_auto_frontier(bounds, **question), cover_radii(bounds, sigma, tau, verdict), single, 1e-9)


def test_few_values_favour_one_number_and_many_the_masks():
    few = auto_frontier([0.99] * 3, kernel=UniformKernel(0.3, 3), sigma=1.0, tau=0.3)
    many = auto_frontier([0.9] * 3, kernel=UniformKernel(0.25, 30000), sigma=1.0, tau=0.01)
    assert [reach.method for reach in few] == ["stratified", "neyman_pearson", "neyman_pearson"]
    assert [reach.method for reach in many] == ["stratified"] * 3


def test_without_latent_form_there_are_no_cells_to_compare():
    with pytest.raises(ValueError, match=r"beta=0.9 must be at most \(V-1\)/V=0.8"):
        auto_frontier([0.9] * 3, kernel=UniformKernel(0.9, 5), sigma=1.0, tau=0.3)


def test_neyman_pearson_needs_no_cells_where_the_kernel_has_none():
    kernel = UniformKernel(1.0, 30000)
    radii = neyman_pearson_frontier(0.9, kernel=kernel, max_tokens=8, sigma=1.0, tau=4.6e-5)
    assert all(radius is not None for radius in radii)
    assert radii == sorted(radii, reverse=True)


def test_the_frontier_ends_where_one_number_proves_nothing_more():
    kernel = UniformKernel(0.25, 30000)
    radii = neyman_pearson_frontier(0.99954, kernel=kernel, max_tokens=8, sigma=1.0, tau=4.6e-5)
    assert [radius is None for radius in radii] == [False] * 6 + [True] * 3
    assert radii[3] == neyman_pearson_radius(0.99954, kernel=kernel, tokens=3, sigma=1.0, tau=4.6e-5)


def test_an_l0_frontier_without_its_clean_bound_is_refused():
    with pytest.raises(ValueError, match="bounds must start with the budget 0"):
        l0_auto_frontier([CoverBounds(1, (0.5,), (0.9,))], kernel=AbsorbingKernel(0.5), sigma=1.0, tau=0.1)

"""The sampler's law: the mixture is the normal law, values are what mpmath says, and counts are as they must be.

Tests of counts reject at 1e-3 each, on fixed keys.
"""

import itertools
from collections.abc import Iterator
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import chi2, kstest

from holdfast.certificates.noise import rounded
from holdfast.certificates.noise.rounded import LAYER_BITS, Stream, host_words
from holdfast.certificates.noise.staircase import LAYERS, rest_beyond, staircase

LEVEL = 1e-3
MILLION = 10**6
FINE = 0.5 * 2**18  # sigma = 1/2 on the lattice
KEY = 0x0123456789ABCDEF_FEDCBA9876543210
RECTANGLES = len(staircase().radii)
ONE = 2 ** (63 - LAYER_BITS)


def signed(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = words.view(np.int64)
    return found


def values(stream: Stream, first: int, count: int) -> NDArray[np.float64]:
    """The stream's values by its own rule: nearest where that is certain, else by `uncertain`."""
    word = signed(host_words(stream.key, first // 4, count))
    exact = (word >> LAYER_BITS) * stream.widths[word & (LAYERS - 1)]
    found: NDArray[np.float64] = np.rint(exact)
    left = np.flatnonzero(~(np.abs(exact - found) < 0.5 - stream.room))
    found[left] = stream.uncertain(first + left, word[left])
    return found


@pytest.fixture(scope="module")
def fine() -> NDArray[np.float64]:
    return values(Stream(KEY, FINE), 0, MILLION)


def chi_square(observed: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    """The p-value of counts."""
    assert expected.min() > 20
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum(), len(expected) - 1))


# Philox4x64-10 of Random123's known-answer vectors: counter, key and words, low words first.
ONES = 2**64 - 1
PI = [0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89]
PI_KEY = [0x452821E638D01377, 0xBE5466CF34E90C6C]
ANSWERS = [
    ([0] * 4, [0] * 2, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ([ONES] * 4, [ONES] * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (PI, PI_KEY, "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), ANSWERS)
def test_the_words_are_those_that_philox_is_published_with(counter: list[int], key: list[int], expected: str) -> None:
    number, place = (sum(word << 64 * at for at, word in enumerate(words)) for words in (key, counter))
    assert " ".join(f"{word:016x}" for word in host_words(number, place, 4).tolist()) == expected


def test_the_rectangles_lie_beneath_the_density_at_every_radius_and_touch_it_but_for_a_little() -> None:
    height = mpmath.mpf(0)
    with mpmath.workdps(40):
        for radius in staircase().radii.tolist():
            height += 1 / (2 * LAYERS * mpmath.mpf(radius))
            assert height <= mpmath.npdf(radius)
            assert mpmath.npdf(radius) - height < 1e-4
    assert (np.diff(staircase().radii) < 0).all()


def test_the_radii_are_the_same_on_every_machine() -> None:
    radii = staircase().radii
    assert (RECTANGLES, (radii * 2**20 % 1 == 0).all()) == (2045, True)
    assert (radii * 2**20).astype(int)[[0, 1, 1000, 2044]].tolist() == [4407699, 4225721, 1632815, 135654]
    assert int((radii * 2**20).sum()) == 3422023167


def slow_rest(point: Fraction) -> mpmath.mpf:
    """The normal mass between 0 and a point that no rectangle covers, rectangle by rectangle."""
    b = mpmath.mpf(point.numerator) / point.denominator
    covered = mpmath.fsum(min(b, mpmath.mpf(x)) / x for x in staircase().radii.tolist()) / (2 * LAYERS)
    return mpmath.ncdf(b) - mpmath.mpf(1) / 2 - covered


@pytest.mark.parametrize("point", ["0", "1/7", "33923/262144", "13/10", "3", "7", "40"])
def test_the_rests_mass_is_as_exact_as_it_says(point: str) -> None:
    with mpmath.workdps(80):
        found = rest_beyond(Fraction(point), 50)
        assert abs(mpmath.mpf(str(found)) - slow_rest(Fraction(point))) < mpmath.mpf(10) ** -42


def test_the_rest_has_the_mass_of_its_layers() -> None:
    assert staircase().rest == (LAYERS - RECTANGLES) / (2 * LAYERS)
    assert abs(float(rest_beyond(Fraction(20), 50)) - staircase().rest) < 1e-17


def is_right(stream: Stream, word: int, value: float) -> bool:
    """Whether a value is the one for all digits that can follow its word's, by mpmath."""
    layer, digits = word & (LAYERS - 1), word >> LAYER_BITS
    ends = [mpmath.mpf(digits) / ONE, mpmath.mpf(digits + 1) / ONE]
    if layer < RECTANGLES:
        width = mpmath.mpf(stream.scale) * staircase().radii[layer]
        return bool(value - 0.5 <= width * ends[0] and width * ends[1] <= value + 0.5)
    masses = sorted(abs(end) * (LAYERS - RECTANGLES) / (2 * LAYERS) for end in ends)
    near, far = (max(abs(value) + side, 0) for side in (-0.5, 0.5))
    borders = [slow_rest(Fraction(border) / Fraction(stream.scale)) for border in (near, far)]
    signs = value == 0 or (value > 0) == (digits >= 0)
    return bool(signs and borders[0] <= masses[0] and masses[1] <= borders[1])


@pytest.mark.parametrize("scale", [FINE, 3.7, 0.01 * 2**18, 100 * 2.0**18])
def test_every_value_is_what_mpmath_makes_of_its_word(scale: float) -> None:
    stream, many = Stream(KEY, scale), 150_000
    found, word = values(stream, 0, many), signed(host_words(KEY, 0, many))
    rest = np.flatnonzero((word & (LAYERS - 1)) >= RECTANGLES)[:30]
    assert len(rest) == 30
    with mpmath.workdps(60):
        # A digit more or less may decide a value of a coarse lattice in one word of 10^13.
        assert all(is_right(stream, int(word[at]), float(found[at])) for at in [*range(1500), *rest.tolist()])


@pytest.mark.parametrize("scale", [FINE, 3.7])
def test_what_is_computed_exactly_is_what_was_certain_already(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(KEY, scale)
    fast = values(stream, 0, 24_000)
    monkeypatch.setattr(Stream, "room", 0.4)
    monkeypatch.setattr(rounded, "_SLACK", 1e-3)
    word = signed(host_words(KEY, 0, 24_000))
    index = np.concatenate((np.arange(2000), np.flatnonzero((word & (LAYERS - 1)) >= RECTANGLES)))
    assert len(index) > 2010
    np.testing.assert_array_equal(stream.uncertain(index, word[index]), fast[index])


def further(index: int) -> int:
    """The digits that follow a word's own: 256 bits, the counter's first word lowest."""
    words = host_words(KEY, 2**192 + index, 4).tolist()
    return sum(word << 64 * at for at, word in enumerate(words))


def borders(scale: float) -> Iterator[tuple[int, int, Fraction]]:
    """Rectangles, the last digits before a border between two cells, and where in them it lies."""
    for layer, cell in itertools.product((0, 700, RECTANGLES - 1), (-4, -1, 0, 3)):
        at = (cell + Fraction(1, 2)) / (Fraction(scale) * Fraction(float(staircase().radii[layer])) / ONE)
        digits = at.__floor__()
        if abs(digits) < ONE:
            yield layer, digits, at - digits


def test_a_border_within_the_last_digit_is_decided_by_further_words_of_the_same_key() -> None:
    stream, sides = Stream(KEY, FINE), set()
    for layer, digits, part in borders(FINE):
        for index in (0, 1, 2, 2**40):
            beyond = Fraction(further(index), 2**256) >= part
            cell = (
                Fraction(FINE) * Fraction(float(staircase().radii[layer])) / ONE * digits + Fraction(1, 2)
            ).__floor__()
            assert stream.exact(index, digits << LAYER_BITS | layer) == cell + beyond
            sides.add(beyond)
    assert sides == {False, True}


def test_the_rests_largest_digits_are_read_on_until_they_say_how_far_out() -> None:
    stream = Stream(KEY, FINE)
    most = (ONE - 1) << LAYER_BITS | (LAYERS - 1)
    found = [stream.exact(index, most) for index in range(3)]
    with mpmath.workdps(60):
        for index, value in enumerate(found):
            tail = mpmath.mpf(LAYERS - RECTANGLES) / (2 * LAYERS) / ONE * (1 - mpmath.mpf(further(index)) / 2**256)
            x = mpmath.findroot(lambda t, tail=tail: mpmath.log(mpmath.ncdf(-t)) - mpmath.log(tail), 9)
            assert value == int(mpmath.floor(x * FINE + mpmath.mpf(1) / 2))


def test_on_a_coarse_lattice_every_cell_has_its_normal_mass() -> None:
    found = values(Stream(KEY, 1.5), 0, MILLION)
    cells = np.arange(-6, 7)
    upper = ndtr((cells + 0.5) / 1.5)
    upper[-1] = 1.0
    mass = np.diff(upper, prepend=0.0)
    counts = np.array([(np.clip(found, -6, 6) == cell).sum() for cell in cells])
    assert chi_square(counts, mass * MILLION) > LEVEL


def test_on_the_fine_lattice_a_million_values_are_normal_in_bins_in_order_and_in_the_tails(
    fine: NDArray[np.float64],
) -> None:
    uniform = ndtr(fine / FINE)
    bins = np.bincount((uniform * 1000).astype(int), minlength=1000)
    assert chi_square(bins, np.full(1000, MILLION / 1000)) > LEVEL
    assert kstest(fine / FINE, "norm").pvalue > LEVEL
    tails = np.array([(np.abs(fine) > t * FINE).sum() for t in (3.5, 4.0)])
    expected = 2 * ndtr(-np.array([3.5, 4.0])) * MILLION
    assert (np.abs(tails - expected) < 4 * np.sqrt(expected)).all()


def test_the_last_bits_of_values_are_uniform_and_independent_of_the_cell(fine: NDArray[np.float64]) -> None:
    low = fine.astype(np.int64) % 64
    assert chi_square(np.bincount(low, minlength=64), np.full(64, MILLION / 64)) > LEVEL
    central = np.abs(fine) < FINE / 2
    joint = np.bincount(low * 2 + central, minlength=128).reshape(64, 2)
    expected = np.outer(joint.sum(1), joint.sum(0)) / MILLION
    assert chi2.sf(((joint - expected) ** 2 / expected).sum(), 63) > LEVEL


def test_values_near_each_other_in_the_stream_are_uncorrelated(fine: NDArray[np.float64]) -> None:
    x = fine / FINE
    for apart in (1, 2, 3, 4, 64):
        for power in (x, x * x - 1):
            correlation = np.mean(power[apart:] * power[:-apart]) / np.mean(power * power)
            assert abs(correlation) < 4.5 / np.sqrt(MILLION)


def test_keys_that_agree_in_their_low_half_have_other_values() -> None:
    one, other = (values(Stream(high << 64 | 7, FINE), 0, 1000) for high in (1, 2))
    assert (one == other).mean() < 0.01

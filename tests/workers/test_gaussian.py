"""Noisy images as models see them: lattice points, the clean ones moved exactly, from the certificates' own stream."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import ndtr, ndtri
from scipy.stats import chi2, kstest
from torch import Tensor

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast.certificates.noise.lattice import REACH, STEP, certified_radius, rounded_distance
from holdfast.certificates.noise.rounded import Stream, host_words
from holdfast_worker import gaussian
from holdfast_worker.gaussian import device_blocks, noisy, to_lattice, words

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
SIZE = 192


def drawn(clean: Tensor, start: int = 0, stop: int = 40, *, seed: str = "seed", sigma: float = 0.5) -> Tensor:
    return noisy(clean, sigma=sigma, seed=seed, start=start, stop=stop)


def black() -> Tensor:
    return torch.zeros(1, *SHAPE)


@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 3), (2, 5)])
def test_draws_are_the_same_however_the_range_is_cut(shape: tuple[int, ...]) -> None:
    clean = torch.full((1, *shape), 0.25)
    whole = drawn(clean)
    for start, stop in itertools.combinations([0, 1, 15, 16, 17, 40], 2):
        assert torch.equal(drawn(clean, start, stop), whole[start:stop])


def test_draws_are_the_same_however_many_values_are_made_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(black(), 3, 40)
    monkeypatch.setattr(gaussian, "_TOGETHER", {"cpu": 2 * SIZE + 5})
    assert torch.equal(drawn(black(), 3, 40), whole)


def test_a_draw_is_the_certificates_stream_at_its_place() -> None:
    images = noisy(black(), sigma=0.5, seed="s", start=7, stop=9, channel="c")
    stream = Stream(gaussian._stream_key("s", "c"), 0.5 * 2**18)
    index = np.arange(7 * SIZE, 9 * SIZE)
    word = host_words(stream.key, 7 * SIZE // 4, 2 * SIZE).view(np.int64)
    exact = [stream.exact(int(i), int(w)) for i, w in zip(index, word, strict=True)]
    np.testing.assert_array_equal(images.flatten().double().numpy() / STEP, exact)


def test_what_is_not_certain_at_once_is_computed_and_put_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    whole, one = drawn(clean, 2, 7), drawn(clean[:1], 2, 7)
    monkeypatch.setattr(Stream, "room", 0.45)  # nine values of ten
    assert torch.equal(drawn(clean, 2, 7), whole)
    assert torch.equal(drawn(clean[:1], 2, 7), one)
    assert torch.equal(whole[0], one[0])


def test_every_value_is_a_lattice_point_within_reach_and_a_shift_moves_it_by_exactly_itself() -> None:
    shift = to_lattice(torch.full(SHAPE, 0.7))
    there, here = (drawn(clean.float()).double() for clean in (black() + shift, black()))
    assert torch.equal(there - here, shift.expand_as(here))
    assert torch.equal(here / STEP, (here / STEP).round())
    far = drawn(black(), sigma=100.0)
    assert far.abs().max() == REACH
    assert 0.7 < (far.abs() == REACH).double().mean() < 0.8  # two sided beyond .32 sigma: 75 %


def test_an_image_off_the_lattice_is_drawn_as_its_nearest_point() -> None:
    clean = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(drawn(clean), drawn(to_lattice(clean)))
    assert (to_lattice(clean) - clean).abs().max() <= STEP / 2


def test_ties_go_up_so_that_rounding_commutes_with_every_shift_of_the_lattice() -> None:
    halves = torch.arange(-5, 6).double() * STEP + STEP / 2
    assert torch.equal(to_lattice(halves), halves + STEP / 2)


def test_each_seed_and_channel_has_noise_of_its_own() -> None:
    seen = [
        noisy(torch.zeros(1, 4096), sigma=1.0, seed=seed, start=0, stop=2, channel=channel).double()
        for seed, channel in itertools.product(("a", "b", "ab"), ("image", "image/selection", "b"))
    ]
    rows = torch.cat(seen)
    off = torch.tril(rows @ rows.T / 4096, -1)
    assert 0 < off.abs().max() < 6.5 / 4096**0.5


def test_keys_have_128_bits_of_the_whole_seed() -> None:
    keys = [gaussian._stream_key(seed, "image") for seed in ("0" * 64, "1" + "0" * 63, "0" * 63 + "1")]
    assert all(2**120 < key < 2**128 for key in keys)
    assert len({key % 2**64 for key in keys}) == len({key >> 64 for key in keys}) == 3


def test_seeds_whose_keys_agree_in_their_low_half_have_other_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for high in (0, 1):
        monkeypatch.setattr(gaussian, "_stream_key", lambda *_, high=high: 99 + (high << 64))
        found.append(drawn(black()))
    assert (found[0] == found[1]).double().mean() < 0.01


@pytest.mark.parametrize(("key", "first"), [(0, 0), (2**128 - 1, 2**40 + 4), (0xABCDEF << 70 | 12345, 8)])
def test_a_devices_words_are_the_hosts(key: int, first: int) -> None:
    blocks = device_blocks(key, first // 4, 1000, CPU)
    np.testing.assert_array_equal(blocks.flatten().numpy().view(np.uint64), host_words(key, first // 4, 4000))


def test_words_are_counted_through_from_any_place() -> None:
    whole = words(5, 0, 50, CPU)
    for first, count in ((0, 1), (1, 3), (3, 40), (47, 3)):
        assert torch.equal(words(5, first, count, CPU), whole[first : first + count])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_cuda_device_draws_what_the_host_draws() -> None:
    clean = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn(clean.cuda(), 3, 90).cpu(), drawn(clean, 3, 90))


def test_other_devices_take_the_same_way_but_for_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = drawn(black(), 5, 40)

    def of_a_device(key: int, first: int, count: int, device: torch.device) -> Tensor:
        return device_blocks(key, first // 4, count // 4 + 2, device).flatten()[first % 4 :][:count]

    monkeypatch.setattr(gaussian, "words", of_a_device)
    assert torch.equal(drawn(black(), 5, 40), expected)


def test_images_of_16_bits_are_refused() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match="must be float32 or float64 where noise is added; cast behind it"):
            drawn(black().to(dtype))


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (4, 2), (-1, 2)])
def test_an_empty_or_negative_range_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="0 <= start < stop"):
        drawn(black(), start, stop)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_noise_of_no_width_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 where noise is added"):
        drawn(black(), sigma=sigma)


# The contrived guard of section 13: it reads the low bits of sums near 0, which tell a black image from a dark grey one
# where noise is a float. The two images are nearer to each other than either's certificate says is safe.
SIDE, DRAWS, SIGMA, TAU = 32, 300, 0.5, 0.5
GREY = round(0.0144 / STEP) * STEP  # noise that takes it near 0 has steps of 2^-30, what is near 0 itself finer ones


def reads_low_bits(images: Tensor) -> Tensor:
    """Unsafe where a value near 0 is no multiple of 2^-30."""
    fine = images.double() * 2.0**30
    unsafe: Tensor = ((images.abs() < 2.0**-8) & (fine != fine.round())).flatten(1).any(dim=1)
    return unsafe


def radius(hits: int) -> float:
    """The radius of the side that has the hits, at a risk of .5 % (Cohen et al. 2019)."""
    return SIGMA * float(ndtri(clopper_pearson_lower(hits, DRAWS, 0.005)) - ndtri(TAU))


def pair() -> tuple[Tensor, Tensor, float]:
    clean = torch.zeros(1, 3, SIDE, SIDE)
    other = clean + GREY
    return clean, other, float((other - clean).norm())


def test_float_noise_earns_a_contrived_guard_two_certificates_that_contradict_each_other() -> None:
    black_image, grey, apart = pair()
    generator = np.random.Generator(np.random.SFC64(1))
    noise = torch.from_numpy(generator.standard_normal((DRAWS, 3, SIDE, SIDE), dtype=np.float32)) * SIGMA
    unsafe_at_black, unsafe_at_grey = (int(reads_low_bits(noise + image).sum()) for image in (black_image, grey))
    assert (unsafe_at_black, unsafe_at_grey) == (DRAWS, 0)
    assert radius(unsafe_at_black) > apart
    assert radius(DRAWS - unsafe_at_grey) > apart


def test_on_the_served_path_the_same_guard_sees_nothing_that_tells_the_two_apart() -> None:
    black_image, grey, apart = pair()
    seen = [noisy(image, sigma=SIGMA, seed="s", start=0, stop=DRAWS) for image in (black_image, grey)]
    unsafe_at_black, unsafe_at_grey = (int(reads_low_bits(images).sum()) for images in seen)
    assert unsafe_at_black == unsafe_at_grey == 0
    # Any guard's: what it sees of one image is what it would see of the other, shifted, and both are whole steps.
    assert torch.equal(seen[1].double() - seen[0].double(), (grey - black_image).double().expand_as(seen[0]))
    claim = certified_radius(radius(DRAWS), dimensions=black_image.numel())
    assert claim is not None
    assert rounded_distance(apart, dimensions=black_image.numel()) < radius(DRAWS)
    assert claim > apart


DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_a_million_served_values_are_a_rounded_gaussian(device: torch.device) -> None:
    clean = torch.full((1, 3, 64, 64), 0.25, device=device)
    units = (noisy(clean, sigma=SIGMA, seed="seed", start=0, stop=82).cpu().double() - 0.25).flatten().numpy() / STEP
    count, scale = len(units), SIGMA / STEP
    assert count > 10**6
    # Three tests at 1e-3 each, on a fixed seed.
    assert kstest(units / scale, "norm").pvalue > 1e-3
    bins = np.bincount((ndtr(units / scale) * 500).astype(int), minlength=500)
    assert chi2.sf(((bins - count / 500) ** 2).sum() * 500 / count, 499) > 1e-3
    low = np.bincount(units.astype(np.int64) % 256, minlength=256)
    assert chi2.sf(((low - count / 256) ** 2).sum() * 256 / count, 255) > 1e-3

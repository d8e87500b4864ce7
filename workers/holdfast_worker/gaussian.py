"""Noisy images: clean values and Gaussian noise, both on the lattice, added exactly (section 13).

A draw's noise depends on the seed and the draw's index alone, never on how a range was cut into orders or batches, nor
on the device: every value has its own place in a stream of words that seed and channel name
(`certificates/noise/rounded.py`). On the host NumPy makes the words. Elsewhere the same integers come from tensor
operations on int64, which wrap as unsigned ones do; only the shifts must be masked, as they extend the sign.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from holdfast.certificates.noise.lattice import REACH, STEP
from holdfast.certificates.noise.rounded import LAYER_BITS, WORDS, Stream, host_words
from holdfast.certificates.noise.version import SAMPLER

# Values in one go: on a CPU what stays in its caches, on a GPU what makes its launches worth while.
_TOGETHER = {"cpu": 1 << 16, "cuda": 1 << 22}

# Philox4x64-10: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011).
_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF
_WORD = 2**64


def to_lattice(values: Tensor) -> Tensor:
    """The nearest points h floor(y / h + 1/2): unlike ties-to-even it commutes with every shift by points.

    Args:
        values: Any shape, float32 or float64, of size 2^32 at most.

    Returns:
        float64, of the same shape; float32 holds it exactly where the values lie within ±2 ``REACH``.

    Raises:
        ValueError: The values have 16 bits, and so coarser steps than the lattice.
    """
    if values.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"values are {values.dtype}, must be float32 or float64 where noise is added; cast behind it")
    return values.double().div(STEP).add_(0.5).floor_().mul_(STEP)


def noisy(clean: Tensor, *, sigma: float, seed: str, start: int, stop: int, channel: str = "image") -> Tensor:
    """The draws ``[start, stop)`` of images: image and Gaussian noise, both rounded to the lattice (section 13).

    The sums are exact, and a model sees an image through them alone; that they are clipped to ±``REACH`` is part of the
    model. The same seed gives the same numbers on every device.

    Args:
        clean: float32 or float64, shape (1 or stop - start, *shape): one image, or row of fields, for all draws or one
            for each. What is not on the lattice is rounded to it.
        sigma: Standard deviation of the noise, above 0.
        seed: The job's secret seed.
        start: First draw index, at least 0.
        stop: One past the last draw index, above ``start``.
        channel: What the draws are for; channels of one seed are independent of each other.

    Returns:
        float32, shape (stop - start, *shape), on the images' device.

    Raises:
        ValueError: The range is empty or negative, sigma is not above 0, or the images have 16-bit numbers.
    """
    if not 0 <= start < stop:
        raise ValueError(f"draws [{start}, {stop}) must satisfy 0 <= start < stop; ask for a nonempty range")
    if not sigma > 0.0:
        raise ValueError(f"sigma={sigma} must be above 0 where noise is added; raise sigma")
    base = to_lattice(clean).div_(STEP).flatten(1)
    found = torch.empty((stop - start, base.shape[1]), device=clean.device)
    stream = Stream(_stream_key(seed, channel), sigma / STEP)
    index, word = _add_certain(stream, start, base, found)
    values = stream.uncertain(start * base.shape[1] + index.cpu().numpy(), word.cpu().numpy())
    row, column = index // base.shape[1], index % base.shape[1]
    own = base[row if len(base) > 1 else torch.zeros_like(row), column]
    found[row, column] = _clipped(torch.from_numpy(values).to(own.device).add_(own)).float()
    return found.view(-1, *clean.shape[1:])


def _add_certain(stream: Stream, start: int, base: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Fills in all sums but a few; returns the places of those, counted through, and the words of their noise."""
    size, widths = base.shape[1], torch.from_numpy(stream.widths).to(base.device)
    step = max(1, _TOGETHER[base.device.type] // size)
    indexes, bits = [], []
    for first in range(0, len(found), step):
        part = found[first : first + step]
        values, left, word = _values(stream, (start + first) * size, part.numel(), widths)
        part.copy_(_clipped(values.view_as(part).add_(base if len(base) == 1 else base[first : first + step])))
        indexes.append(left + first * size)
        bits.append(word)
    return torch.cat(indexes), torch.cat(bits)


def _stream_key(seed: str, channel: str) -> int:
    """128 bits of a SHA-256 of both."""
    parts = (part.encode() for part in (SAMPLER, seed, channel))
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return int.from_bytes(hashlib.sha256(framed).digest()[:16], "big")


def _values(stream: Stream, first: int, count: int, widths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The noise [first, first + count) in units of h, float64; which of it is not certain, and the words of that."""
    bits = words(stream.key, first, count, widths.device)
    exact = (bits >> LAYER_BITS).double().mul_(widths.index_select(0, bits & (len(widths) - 1)))
    values = exact.round()
    certain = exact.sub_(values).abs_() < 0.5 - stream.room  # false for NaN, the rest's width, too
    left = certain.logical_not_().nonzero()[:, 0]
    return values, left, bits[left]


def _clipped(units: Tensor) -> Tensor:
    """Sums in units of h, clipped to ±``REACH``, as what they are; overwrites them."""
    return units.clamp_(-REACH / STEP, REACH / STEP).mul_(STEP)


def words(key: int, first: int, count: int, device: torch.device) -> Tensor:
    """The words of consecutive counters.

    Args:
        key: 128 bits.
        first: Index of the first word, at least 0: word i is number i mod 4 of counter i // 4.
        count: How many words, at least 1.
        device: Where they are made and returned.

    Returns:
        int64, shape (count,): the words' bits.
    """
    block, skipped = divmod(first, WORDS)
    if device.type == "cpu":
        return torch.from_numpy(host_words(key, block, skipped + count).view(np.int64))[skipped:]
    blocks = -(-(skipped + count) // WORDS)
    return device_blocks(key, block, blocks, device).flatten()[skipped : skipped + count]


def device_blocks(key: int, counter: int, blocks: int, device: torch.device) -> Tensor:
    """The words of consecutive counters as ``host_words`` has them, by tensor operations.

    Args:
        key: 128 bits.
        counter: The first counter, below 2^63; so must be the last one.
        blocks: How many counters, at least 1.
        device: Where to compute.

    Returns:
        int64, shape (blocks, 4).
    """
    lanes = [torch.zeros(blocks, dtype=torch.int64, device=device) for _ in range(WORDS)]
    lanes[0] = torch.arange(counter, counter + blocks, device=device)
    keys = [key % _WORD, key // _WORD]
    for _ in range(_ROUNDS):
        high_0, low_0 = _product(lanes[0], _MULTIPLIERS[0])
        high_1, low_1 = _product(lanes[2], _MULTIPLIERS[1])
        lanes = [high_1 ^ lanes[1] ^ _signed(keys[0]), low_1, high_0 ^ lanes[3] ^ _signed(keys[1]), low_0]
        keys = [(word + step) % _WORD for word, step in zip(keys, _WEYL, strict=True)]
    return torch.stack(lanes, dim=1)


def _product(values: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low word of the product of unsigned 64-bit numbers, from products of their halves."""
    low, high = values & _LOW, _upper(values)
    factor_low, factor_high = multiplier & _LOW, multiplier >> 32
    crossed, other = low * factor_high, high * factor_low
    carried = _upper(low * factor_low).add_(crossed & _LOW).add_(other & _LOW)
    upper = (high * factor_high).add_(_upper(crossed)).add_(_upper(other)).add_(_upper(carried))
    return upper, values * _signed(multiplier)


def _upper(values: Tensor) -> Tensor:
    return (values >> 32) & _LOW


def _signed(word: int) -> int:
    return word - _WORD if word >= _WORD // 2 else word

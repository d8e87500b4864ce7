"""The self-test of an encoder: features that are finite, of length 1, and no other in another batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from holdfast_worker.inspection.checks import ROUNDING, Check
from holdfast_worker.inspection.examined import Absent, Examined
from holdfast_worker.inspection.fixed_draws import fixed_image
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import ModelOutputError
from holdfast_worker.models.examples import SEED

_UNIT = 1e-5  # the rounding of a float32 length


def feature_checks(examined: Examined, encoder: Encoder) -> Iterator[Check]:
    """Runs the encoder's checks in turn.

    Args:
        examined: What to load again in float32.
        encoder: What it loads as it is served.
    """
    try:
        served = _features(encoder, examined.draws)
    except ModelOutputError as error:
        yield Check("finite", "fail", str(error))
        return
    found = {"draws": float(len(served)), "numbers": float(served.shape[1])}
    yield Check("finite", "pass", f"{len(served)} features of {served.shape[1]} numbers", found)
    yield _unit(served)
    if encoder.dtype == torch.float32:
        yield _few_at_a_time(encoder, served)
        yield Check("dtype", "skipped", "served in float32: nothing to compare")
        return
    del encoder
    exact = examined.try_load(dtype="float32")
    if isinstance(exact, Absent):
        yield from (Check(name, "skipped", exact.why) for name in ("batches", "dtype"))
    elif isinstance(exact, Encoder):
        features = _features(exact, examined.draws)
        yield _few_at_a_time(exact, features)
        yield _cosines(served, features)


def _features(encoder: Encoder, draws: int) -> Tensor:
    """The draws' features, float64 on the host, shape (draws, E)."""
    sigma = encoder.config.defaults.sigma
    return encoder.draw_features(fixed_image(encoder, 0), SEED, sigma, 0, draws).double().cpu()


def _unit(features: Tensor) -> Check:
    off = float((features.norm(dim=1) - 1).abs().max())
    if not off <= _UNIT:
        detail = f"lengths are off 1 by {off:.1e}, may be by {_UNIT:g} at most; check the weights"
        return Check("unit", "fail", detail, {"off": off})
    return Check("unit", "pass", f"lengths are within {off:.1e} of 1", {"off": off})


def _few_at_a_time(encoder: Encoder, whole: Tensor) -> Check:
    """The same draws one by one and three at a time, against as many at once as the limit allows."""
    limit, apart = encoder.batching.limit, 0.0
    try:
        for encoder.batching.limit in (1, 3):
            apart = max(apart, float((_features(encoder, len(whole)) - whole).abs().max()))
    finally:
        encoder.batching.limit = limit
    if not apart <= ROUNDING:
        detail = f"features differ by {apart:.1e} between batches, may by {ROUNDING:g} at most; check the weights"
        return Check("batches", "fail", detail, {"apart": apart})
    return Check("batches", "pass", f"features differ by at most {apart:.1e} between batches", {"apart": apart})


def _cosines(served: Tensor, exact: Tensor) -> Check:
    cosine = float((served * exact).sum(dim=1).min())
    detail = f"every draw's feature has a cosine of {cosine:.5f} or more with its float32 one"
    return Check("dtype", "measured", detail, {"cosine_at_least": cosine})

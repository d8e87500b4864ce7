"""Strategies of requests that a guard or an encoder takes: every combination that makes sense."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from holdfast.contract.models import EncoderInfo, GuardInfo
from tests.contract.served import IMAGE, request

MAYBE = st.booleans()
STOPS = st.sampled_from(["any_time", "fixed"])
SCOPES = ("shared", "per_budget")


@st.composite
def guard_requests(
    draw: st.DrawFn,
    model: GuardInfo,
    *,
    kinds: Sequence[str] = ("suffix", "append", "l0", "none"),
    scopes: Sequence[str] = SCOPES,
) -> dict[str, Any]:
    """A request that this guard takes, with one of these threats to tokens and of these scopes."""
    kind = draw(st.sampled_from([kind for kind in kinds if kind in ("l0", "none") or model.kind == "hybrid"]))
    image = "l2" if kind in ("none", "append") else draw(st.sampled_from(["l2", "none"]))
    largest = draw(st.integers(1, model.limits.max_slots)) if kind == "suffix" else _largest_budget(model, kind)
    target: dict[str, Any] | None = (
        {"tokens": draw(st.integers(0, largest))} if kind != "append" and draw(MAYBE) else None
    )
    text: dict[str, Any] = {"kind": kind}
    if kind == "suffix":
        text["slots"] = largest
    elif kind == "l0" and target is None and draw(MAYBE):
        text["max_tokens"] = draw(st.integers(0, largest))
    elif kind == "append" and draw(MAYBE):
        text["max_characters"] = draw(st.integers(0, 1024))
    scope = draw(st.sampled_from(scopes)) if kind == "suffix" else "shared"
    if target is not None and image == "l2":
        target["epsilon"] = draw(st.floats(0, 5))
    return request(
        model,
        threat={"text": text, "image": {"norm": image}},
        noise={**_noise(draw, model, image), "scope": scope},
        decision={
            "tau": draw(st.floats(1e-6, 0.999)),
            "verdict": draw(st.sampled_from(["both", "unsafe"] if kind == "append" else ["both", "unsafe", "safe"])),
        },
        confidence={"alpha": draw(st.none() | st.floats(1e-9, 0.5))},
        method=draw(st.sampled_from(_methods(kind, scope))),
        sampling={
            "max_draws": draw(st.none() | st.integers(1, 10**6)),
            "tails": draw(_tails(kind)),
            "stop": draw(STOPS),
        },
        target=target,
        epsilons=draw(st.lists(st.floats(0, 10), max_size=4)),
    )


def _methods(kind: str, scope: str) -> list[str]:
    if kind == "append":
        return ["auto", "erase_and_check"]
    return ["auto", "joint", "neyman_pearson", *(["stratified"] if (kind, scope) == ("suffix", "shared") else [])]


def _tails(kind: str) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(1, 8 if kind in ("suffix", "l0") else 1)


def _largest_budget(model: GuardInfo, kind: str) -> int:
    if kind in ("none", "append"):
        return 0
    return len(model.alphabets) if model.kind == "tabular" else model.limits.max_tokens


def _noise(draw: st.DrawFn, model: GuardInfo, image: str) -> dict[str, Any]:
    kernel = draw(st.sampled_from(["uniform", "absorbing"]))
    smallest = min(model.alphabets)
    most = 1.0 if kernel == "absorbing" else (smallest - 1) / smallest
    noise: dict[str, Any] = {"token_kernel": kernel, "beta": draw(st.floats(0.01, most))}
    if image == "l2" and draw(MAYBE):
        noise["sigma"] = draw(st.floats(1e-3, 10))
    return noise


@st.composite
def feature_requests(draw: st.DrawFn, model: EncoderInfo) -> dict[str, Any]:
    """A request for a feature certificate that this encoder takes."""
    stop = draw(STOPS)
    head = draw(st.sampled_from([None, *(head.name for head in model.heads)]))
    bounds = ["betting", "empirical_bernstein", "kl", "hoeffding"] if stop == "fixed" else ["betting"]
    floors = st.floats(0, 0.999)
    target = None
    if stop == "any_time" and draw(MAYBE):
        target = {"epsilon": draw(st.floats(1e-3, 5)), "cosine": draw(floors if head is None else st.none() | floors)}
    return {
        "model": model.name,
        "input": {"image": IMAGE},
        "noise": {"sigma": draw(st.none() | st.floats(1e-3, 10))},
        "reference": draw(st.sampled_from([None, "clean", "direction"])),
        "epsilons": draw(st.lists(st.floats(0, 10), max_size=4)),
        "cosine_floors": draw(st.lists(floors, max_size=4)),
        "prototypes": head,
        "mean_bound": draw(st.sampled_from(bounds)),
        "confidence": {"alpha": draw(st.none() | st.floats(1e-9, 0.5))},
        "sampling": {"stop": stop, "draws": draw(st.none() | st.integers(1, 10**6))},
        "target": target,
    }

"""Certificates that contradict themselves: of what kind, in what, and which words of which finding say so."""

from collections.abc import Callable
from typing import Any

import numpy as np

from holdfast.certificates import packed
from tests.certificates.altering import Json

Change = Callable[[Json], None]
Contradiction = tuple[str, Change, str, str]


def evidence(**changes: object) -> Change:
    return lambda certificate: certificate["evidence"].update(changes)


def first(field: str, **changes: object) -> Change:
    """Changes the first of the evidence's cells or scores."""
    return lambda certificate: certificate["evidence"][field][0].update(changes)


def plane(name: str, change: Callable[[str], str]) -> Change:
    return lambda certificate: certificate["evidence"].update({name: change(certificate["evidence"][name])})


def channel(index: int, **changes: object) -> Change:
    return lambda certificate: certificate["evidence"]["channels"][index].update(changes)


def within(field: str, **changes: object) -> Change:
    return lambda certificate: certificate[field].update(changes)


def top(**changes: object) -> Change:
    return lambda certificate: certificate.update(changes)


def without(*path: str | int) -> Change:
    def remove(certificate: Any) -> None:
        for step in path[:-1]:
            certificate = certificate[step]
        del certificate[path[-1]]

    return remove


NO_IMAGE = {"resize": None, "input_height": None, "input_width": None, "native_operator_norm": None}
GUARD: dict[str, Contradiction] = {
    "a pass too many": ("suffix", evidence(passes=3457), "evidence", "passes=3457 must be 3456: draws, times tails"),
    "a draw that was left out": ("suffix", evidence(draws=191, passes=3438), "evidence", "a bit for each of 3438"),
    "a draw that was not scored": ("suffix", evidence(draws=193, passes=3474), "evidence", "a bit for each of 3474"),
    "tails that are one": ("image only", evidence(tails=2, passes=384), "evidence", "tails=2 must be 1"),
    "tails of what is appended": ("append", evidence(tails=2, passes=384), "evidence", "tails=2 must be 1"),
    "a count of another cell": ("suffix", first("cells", unsafe=5), "evidence", "cells[0].unsafe=5 must be"),
    "near ties that are in no plane": ("suffix", first("cells", near_ties=1), "evidence", "near_ties=1 must be 0"),
    "near ties that are kept back": ("near a tie", evidence(near_tie=None), "evidence", "must be 0, the bits"),
    "a plane of no near tie": (
        "suffix", lambda c: c["evidence"].update(near_tie=packed(np.zeros(3456, dtype=np.bool_))), "evidence",
        "near_tie must be null where no vote"),
    "a vote turned round": (
        "one tail", plane("unsafe", lambda text: ("8" if text[0] == "9" else "9") + text[1:]), "evidence", "bits of"),
    "a plane that is none": ("suffix", plane("unsafe", lambda text: "!" + text[1:]), "evidence", "is no base64"),
    "padding that is set": (
        "target", lambda c: c["evidence"].update(unsafe=packed(np.ones(88, dtype=np.bool_)), draws=43, passes=86),
        "evidence", "padding must be zero"),
    "a cell left out": ("suffix", lambda c: c["evidence"]["cells"].pop(), "evidence", "passes=3456 must be 3072"),
    "another cell": ("suffix", first("cells", leading_masked=1), "evidence", "cells[0] is not the cell"),
    "the cell of another budget": ("target", first("cells", leading_masked=1), "evidence", "cells[0] is not the cell"),
    "a cell beside the target's": (
        "target", lambda c: c["evidence"]["cells"].append(c["evidence"]["cells"][0]), "evidence", "cells must be 1"),
    "a score left out": ("suffix", lambda c: c["evidence"]["scores"].pop(), "evidence", "scores must be 9, not 8"),
    "a score of other cells": ("suffix", first("scores", cells=[0, 1]), "evidence", "scores[0] must be for 0 tokens"),
    "scores out of order": (
        "suffix", lambda c: c["evidence"]["scores"].reverse(), "evidence", "scores[0] must be for 0 tokens"),
    "erase-and-check of a suffix": ("suffix", top(method="erase_and_check"), "method", "does not certify"),
    "masks against what is appended": ("append", top(method="joint"), "method", "does not certify"),
    "strata of positions": ("l0", top(method="stratified"), "method", "no strata under text=l0"),
    "strata of a guard for every budget": (
        "per budget", top(method="stratified"), "method", "a guard for every budget"),
    "Safe whatever is appended": ("append", top(asked_verdict="both"), "asked_verdict", "must be unsafe"),
    "a target of what is appended": (
        "append", top(target={"tokens": 20, "epsilon": 0.5, "verdict": None}), "target", "must be null"),
    "appended without image noise": ("append", within("noise", sigma=0.0), "noise", "sigma=0 certifies nothing"),
    "fields with a suffix": ("tabular", within("threat", text="append"), "threat", "no meaning for a tabular"),
    "a share too large": ("suffix", evidence(alpha_split={"unsafe": 1, "safe": 1}), "evidence", "equal share"),
    "a share for one side alone": ("suffix", evidence(alpha_split={"unsafe": 1}), "evidence", "equal share"),
    "a fixed bound that stopped early": ("suffix", evidence(bound="clopper_pearson"), "evidence", "draws_spent"),
    "a target that was not reached": ("suffix", evidence(stopped="target"), "evidence", "target"),
    "positions of no field": ("tabular", evidence(positions=2), "evidence", "categorical fields"),
    "masks beyond memory": ("l0", evidence(positions=10**6), "evidence", "33554432 masks"),
    "an image half there": ("text alone", within("space", input_height=4), "space", "or all be null"),
    "an attacked image that is not there": ("suffix", within("space", **NO_IMAGE), "space", "there at sigma=0.5"),
    "fields without a norm": ("tabular", within("space", **NO_IMAGE), "space", "must be 1, 6 and 1"),
    "a radius at the own size of no image": (
        "text alone", lambda c: c["frontier"][0].update(native_radius=0.0), "frontier", "0.0 must be None"),
    "no radius at the image's own size": (
        "text only", lambda c: c["frontier"][0].update(native_radius=None), "frontier", "None must be 0.0"),
    "slots of the l0 threat": ("l0", lambda c: c["threat"].update(slots=3), "threat", "slots=3 must be 0"),
    "a budget over the slots": ("suffix", lambda c: c["threat"].update(max_tokens=9), "threat", "at most slots=8"),
    "an image threat without noise": ("text only", lambda c: c["threat"].update(image="l2"), "threat", "none"),
    "a radius without image noise": (
        "text only", lambda c: c["worst_case"][0].update(epsilon=0.5), "worst_case", "epsilon must be 0"),
    "two alphabets of tokens": ("suffix", lambda c: c["space"].update(alphabets=[5, 6]), "space", "alphabets"),
    "a range that descends": ("suffix", lambda c: c["space"].update(range=[1, 0]), "space", "must be [0, 1]"),
    "a guard per budget of the l0 threat": ("l0", lambda c: c["noise"].update(scope="per_budget"), "noise", "suffix"),
    "a budget without its point": ("suffix", lambda c: c["frontier"].pop(), "frontier", "9 budgets"),
    "a row left out": ("suffix", lambda c: c["worst_case"].pop(), "worst_case", "a row for every budget"),
    "a target of another budget": ("target", lambda c: c["target"].update(tokens=1), "target", "max_tokens=2"),
    "a radius that is kept back": (
        "suffix", lambda c: c["frontier"][3].update(radius=None, native_radius=None), "frontier", "[3].radius=None"),
    "a claim of the other method": (
        "suffix", lambda c: c["frontier"][0].update(method="neyman_pearson"), "frontier", "by method joint"),
}  # fmt: skip
WHOLE = {"feature_mean": 0.01}
FEATURE: dict[str, Contradiction] = {
    "no image": ("feature", within("space", **NO_IMAGE), "space", "input_height"),
    "shares that are too large": (
        "feature", evidence(alpha_split={"feature_mean": 0.01, "feature_cdf": 0.01}), "evidence", "an equal share"),
    "a statement left out": ("feature", evidence(alpha_split=WHOLE), "bounds", "a row for every epsilon"),
    "statements of a head that is not there": (
        "any time", evidence(alpha_split={"feature_mean": 0.005, "vote": 0.005}), "evidence", "alpha_split must give"),
    "a head without its statements": ("any time with a head", evidence(alpha_split=WHOLE), "evidence", "margin_mean"),
    "a curve with a target": (
        "target", evidence(alpha_split={"feature_mean": 0.005, "feature_cdf": 0.005}), "target", "at any time"),
    "fewer draws than were fixed": ("feature", evidence(horizon=401), "evidence", "passes=400 must be the horizon=401"),
    "more draws than were planned": ("any time", evidence(horizon=399), "evidence", "at most the horizon=399"),
    "a fixed number that stopped early": ("feature", evidence(stopped="tolerance"), "evidence", "draws_spent"),
    "a target that was not reached": ("any time", evidence(stopped="target"), "evidence", "certified"),
    "a bound of a fixed number at any time": ("any time", evidence(mean_bound="kl"), "evidence", "mean_bound=kl"),
    "a draw left out": ("feature", evidence(passes=399), "evidence", "add up to passes=399"),
    "a channel left out": ("linear", without("evidence", "channels", 2), "evidence", "once each"),
    "a channel twice": ("prototypes", channel(4, rival=1), "evidence", "once each"),
    "a margin over the label": ("prototypes", channel(1, rival=0), "evidence", "once each"),
    "clipped margins at any time": ("any time with a head", channel(2, name="clipped"), "evidence", "once each"),
    "levels that do not ascend": ("feature", channel(0, levels=[4000, 3000], counts=[1, 399]), "evidence", "ascend"),
    "a level without a count": ("feature", channel(0, levels=[1, 2], counts=[400]), "evidence", "a count for each"),
    "a level above 1": ("feature", channel(0, levels=[4097], counts=[400]), "evidence", "from 0 to 4096"),
    "no draw at a level": ("feature", channel(0, levels=[1, 2], counts=[0, 400]), "evidence", "from 1 to"),
    "no votes": ("linear", evidence(votes=None), "evidence", "votes=None must be there"),
    "votes of no head": ("feature", evidence(votes=3), "evidence", "votes=3"),
    "more votes than draws": ("linear", evidence(votes=401), "evidence", "at most passes=400"),
    "cosines of a linear head": ("linear", evidence(cosines=[1, 0, 0]), "evidence", "cosines must be there for each"),
    "a prototype without its cosine": ("prototypes", evidence(cosines=[1, 0]), "evidence", "cosines must be"),
    "prototypes without distances": ("prototypes", evidence(distances=None), "evidence", "distances must be"),
    "a cosine above 1": ("prototypes", evidence(cosines=[1.1, 0, 0]), "evidence", "cosines[0]=1.1"),
    "a label of no class": ("linear", within("prediction", label=3), "prediction", "one of the 3 classes"),
    "another class's name": ("linear", within("prediction", class_name="two"), "prediction", "that of class 0"),
    "a method left out": ("linear", without("prediction", "radii", 0), "prediction", "in this order"),
    "a row left out": ("feature", without("bounds", 2), "bounds", "ascending, by mean and by cdf"),
    "floors out of order": ("feature", lambda c: c["radii"].reverse(), "radii", "every cosine_floor, ascending"),
    "a radius that is kept back": (
        "feature", lambda c: c["radii"][0].update(radius=None, native_radius=None), "radii", "[0].radius=None"),
    "a cosine that is kept back": (
        "feature", lambda c: c["bounds"][0].update(cosine_at_least=None), "bounds", "[0].cosine_at_least=None"),
    "a target on no prediction": ("target", within("target", cosine=None), "target", "asks for the prediction"),
    "a target that is not certified": ("target", within("target", epsilon=3.0), "target", "must be False"),
    "an embedding with a target": (
        "embedding", lambda c: c.update(target={"epsilon": 1, "cosine": 0, "certified": True}), "embedding", "without"),
    "a matrix for a vector": ("embedding", within("embedding", shape=[1, 3]), "embedding", "shape=[1, 3]"),
    "a vector for tokens": ("token embedding", within("embedding", shape=[4]), "embedding", "shape=[4]"),
    "a value left out": ("embedding", without("embedding", "values", 0), "embedding", "of 2 values"),
    "a feature of another length": ("embedding", lambda c: c.update(dimension=4), "embedding", "dimension=4"),
    "no mean of unit vectors": ("embedding", within("embedding", values=[1, 0.1, 0]), "embedding", "at most 1"),
    "similarity at other shifts": (
        "embedding", without("embedding", "similarity", 0), "embedding", "every epsilon of the bounds"),
    "another average": ("embedding", within("embedding", draws=5), "embedding", "inner_product_at_least"),
    "a range that descends": ("feature", within("space", range=[1, 0]), "space", "must be [0, 1]"),
}  # fmt: skip

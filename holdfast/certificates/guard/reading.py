"""From a certificate's JSON to the evidence and parameters that `answer` takes, and what contradicts itself in it.

Every function here takes a certificate whose fields have passed `shape`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from holdfast.certificates.document.checks import Fault
from holdfast.certificates.document.envelope import dimensions_of
from holdfast.certificates.document.planes import unpacked
from holdfast.certificates.guard.question import Cell, Question, Votes, tail_masks
from holdfast.certificates.shifts.covers import MAX_COVERS, cover_count

MOST_VOTES = 2**27
"""Bits of a plane that are read again: a few bytes of memory each."""
MOST_SCORED = 2**32
"""Votes times scores that are taken of them again: some 10 seconds."""
MOST_MASKED = 2**25
"""Tails times positions of which masks are drawn again: a few bytes each."""
MOST_COUNTED = 2**31
"""Tails times covers that are counted again: some 30 seconds."""
MOST_BUDGETS = 65
"""Budgets that Neyman-Pearson is solved for again: some 30 seconds at 64 epsilons."""
_CHUNK_DRAWS = 4096
_UNLIMITED = "a larger one is verified with limited=False"


def question_of(certificate: Mapping[str, Any]) -> Question:
    """The parameters that decide the certificate's numbers."""
    threat, noise, space = certificate["threat"], certificate["noise"], certificate["space"]
    evidence, target = certificate["evidence"], certificate["target"]
    asked = certificate["asked_verdict"]
    return Question(
        text=threat["text"],
        tabular=certificate["kind"] == "tabular",
        slots=threat["slots"],
        max_tokens=threat["max_tokens"],
        cells=_cells(certificate),
        per_budget=noise["scope"] == "per_budget",
        tails=evidence["tails"],
        token_kernel=noise["token_kernel"],
        beta=float(noise["beta"]),
        alphabets=tuple(space["alphabets"]),
        sigma=float(noise["sigma"]),
        tau=certificate["tau"],
        alpha=evidence["alpha"],
        sides=("unsafe", "safe") if asked == "both" else (asked,),
        method=certificate["method"],
        bound=evidence["bound"],
        target=None if target is None else (target["tokens"], float(target["epsilon"])),
        epsilons=tuple(row["epsilon"] for row in certificate["worst_case"] if row["tokens"] == 0),
        operator_norm=1.0 if space["native_operator_norm"] is None else space["native_operator_norm"],
        dimensions=dimensions_of(space),
    )


def votes_of(certificate: Mapping[str, Any], question: Question) -> Votes:
    """The evidence; where masks matter they are drawn again from the certificate's seed.

    Raises:
        ValueError: a plane is not one of so many draws, tails and cells.
    """
    evidence = certificate["evidence"]
    shape = evidence["draws"], evidence["tails"], len(evidence["cells"])
    unsafe, near_tie = unpacked(evidence["unsafe"], shape), np.zeros(shape, dtype=np.bool_)
    if evidence["near_tie"] is not None:
        near_tie = unpacked(evidence["near_tie"], shape)
    if question.text != "l0" or question.method == "neyman_pearson":
        return Votes(unsafe, near_tie)
    masks = [
        tail_masks(
            question,
            positions=evidence["positions"],
            seed=certificate["seed"],
            start=start,
            stop=min(start + _CHUNK_DRAWS, shape[0]),
        )
        for start in range(0, shape[0], _CHUNK_DRAWS)
    ]
    return Votes(unsafe, near_tie, np.concatenate(masks))


def parameter_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Parameters that contradict each other."""
    yield from _threat_faults(certificate)
    yield from _method_faults(certificate)
    yield from _target_faults(certificate)
    yield from _risk_faults(certificate)
    kind, space = certificate["kind"], certificate["space"]
    if kind == "hybrid" and len(space["alphabets"]) != 1:
        yield "space", f"alphabets must be one for tokens, not {len(space['alphabets'])}"
    if space["native_operator_norm"] is None and certificate["noise"]["sigma"] > 0:
        yield "space", f"native_operator_norm=None must be there at sigma={certificate['noise']['sigma']}"
    if certificate["noise"]["scope"] == "per_budget" and certificate["threat"]["text"] != "suffix":
        yield "noise", "scope=per_budget belongs to the suffix threat"
    if certificate["noise"]["sigma"] == 0 and any(row["epsilon"] for row in certificate["worst_case"]):
        yield "worst_case", "epsilon must be 0 without image noise"


def _threat_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    threat, target = certificate["threat"], certificate["target"]
    text, slots, budget = threat["text"], threat["slots"], threat["max_tokens"]
    tabular = certificate["kind"] == "tabular"
    if tabular and text in ("suffix", "append"):
        yield "threat", f"text={text} has no meaning for a tabular input"
    fields = len(certificate["space"]["alphabets"]) if tabular and text == "l0" else 0
    if text != "suffix" and slots != fields:
        yield "threat", f"slots={slots} must be {fields} for text={text}"
    if (text == "suffix" or tabular) and budget > slots:
        yield "threat", f"max_tokens={budget} must be at most slots={slots}"
    if text == "none" and budget:
        yield "threat", f"max_tokens={budget} must be 0 without a text threat"
    if text == "suffix" and target is None and budget != slots:
        yield "threat", f"max_tokens={budget} must be slots={slots}"
    image = "l2" if certificate["noise"]["sigma"] > 0 else "none"
    if threat["image"] != image:
        yield "threat", f"image={threat['image']} must be {image} at sigma={certificate['noise']['sigma']}"


def _method_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Threats that a method says nothing of; and what erase-and-check never claims."""
    method, text = certificate["method"], certificate["threat"]["text"]
    by_erasing = text == "append"
    if method == "stratified" and (text != "suffix" or certificate["noise"]["scope"] == "per_budget"):
        yield "method", f"stratified has no strata under text={text}, or with a guard for every budget"
    if (method == "erase_and_check") > by_erasing or (by_erasing and method not in ("auto", "erase_and_check")):
        yield "method", f"{method} does not certify the threat text={text}"
    if by_erasing and certificate["asked_verdict"] != "unsafe":
        yield "asked_verdict", "must be unsafe for text=append: nothing is proved of Safe"
    if by_erasing and certificate["target"] is not None:
        yield "target", "must be null for text=append: its frontier is one number for all budgets"
    if by_erasing and not certificate["noise"]["sigma"]:
        yield "noise", "sigma=0 certifies nothing for text=append"


def _target_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    target, budget = certificate["target"], certificate["threat"]["max_tokens"]
    if target is None:
        return
    if target["tokens"] != budget:
        yield "target", f"tokens={target['tokens']} must be the threat's max_tokens={budget}"
    if target["epsilon"] and certificate["noise"]["sigma"] == 0:
        yield "target", f"epsilon={target['epsilon']} must be 0 without image noise"


def _risk_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    evidence, asked = certificate["evidence"], certificate["asked_verdict"]
    sides = ("unsafe", "safe") if asked == "both" else (asked,)
    if evidence["alpha_split"] != {side: 1 / len(sides) for side in sides}:
        yield "evidence", f"alpha_split must give {' and '.join(sides)} an equal share each, 1 in all"
    if evidence["bound"] == "clopper_pearson" and evidence["stopped"] != "draws_spent":
        yield "evidence", "stopped must be draws_spent for a bound that holds at a fixed number of draws"
    target = certificate["target"]
    if evidence["stopped"] == "target" and (target is None or target["verdict"] is None):
        yield "evidence", "stopped=target needs a target that is certified"


def evidence_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Votes that contradict what is said of them."""
    found = [*_cell_faults(certificate), *_position_faults(certificate), *_pass_faults(certificate)]
    yield from (("evidence", fault) for fault in found or _plane_faults(certificate["evidence"]))


def size_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Sizes that would take too much time or memory to compute again for a stranger."""
    evidence, text, budgets = (
        certificate["evidence"],
        certificate["threat"]["text"],
        certificate["threat"]["max_tokens"] + 1,
    )
    if certificate["method"] != "stratified" and text != "append" and budgets > MOST_BUDGETS:
        yield "threat", f"max_tokens={budgets - 1} must be at most {MOST_BUDGETS - 1}; {_UNLIMITED}"
    tails, cells = evidence["draws"] * evidence["tails"], len(evidence["cells"])
    if tails * cells > MOST_VOTES or tails * cells * len(evidence["scores"]) > MOST_SCORED:
        yield "evidence", f"{tails * cells} votes must be at most {MOST_VOTES}, in few scores; {_UNLIMITED}"
    positions = evidence["positions"] or 0
    if positions * tails > MOST_MASKED:
        yield "evidence", f"{tails} tails of {positions} positions must be at most {MOST_MASKED} masks; {_UNLIMITED}"
    covers = (cover_count(positions, tokens) for tokens in range(min(budgets, positions + 1)))
    if tails * sum(count for count in covers if count <= MAX_COVERS) > MOST_COUNTED and positions:
        yield "evidence", f"{tails} tails must make at most {MOST_COUNTED} with their covers; {_UNLIMITED}"


def _cells(certificate: Mapping[str, Any]) -> tuple[Cell, ...]:
    stated = certificate["evidence"]["cells"]
    return tuple(Cell(cell["slots"], cell["leading_masked"], cell["at_least"]) for cell in stated)


def _cell_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    cells, expected = _cells(certificate), _expected_cells(certificate)
    if len(cells) != len(expected):
        yield f"cells must be {len(expected)}, not {len(cells)}"
        return
    for index, (cell, here) in enumerate(zip(cells, expected, strict=True)):
        if cell != here:
            yield f"cells[{index}] is not the cell that this threat and scope have there"


def _expected_cells(certificate: Mapping[str, Any]) -> list[Cell]:
    """The cells that the threat, scope, method and target have.

    Which budgets share the last stratum is the issuer's choice, made before sampling: every partition is sound.
    """
    threat, target, stated = certificate["threat"], certificate["target"], certificate["evidence"]["cells"]
    masked, slots, budget = certificate["method"] != "neyman_pearson", threat["slots"], threat["max_tokens"]
    if certificate["noise"]["scope"] == "per_budget":
        budgets = range(budget + 1) if target is None else (budget,)
        return [Cell(d, d if masked else 0, True) for d in budgets]
    if threat["text"] != "suffix" or not masked:
        return [Cell(slots, 0, True)]
    if target is not None:
        return [Cell(slots, budget, True)]
    strata = min(len(stated) - 1, slots)
    return [Cell(slots, k, k == strata) for k in range(strata + 1)]


def _pass_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence, text = certificate["evidence"], certificate["threat"]["text"]
    passes = evidence["draws"] * evidence["tails"] * len(evidence["cells"])
    if evidence["tails"] != 1 and text in ("none", "append"):
        yield f"tails={evidence['tails']} must be 1: without noise on the text all tails of a draw are one"
    if evidence["passes"] != passes:
        yield f"passes={evidence['passes']} must be {passes}: draws, times tails, times cells"


def _plane_faults(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Planes that are none, and counts that are not theirs."""
    cells = evidence["cells"]
    shape = evidence["draws"], evidence["tails"], len(cells)
    for name, count in (("unsafe", "unsafe"), ("near_tie", "near_ties")):
        counted, plane = np.zeros(len(cells), dtype=np.int64), evidence[name]
        if plane is not None:
            try:
                counted = np.count_nonzero(unpacked(plane, shape), axis=(0, 1))
            except ValueError as error:
                yield f"{name}: {error}"
                continue
        if name == "near_tie" and plane is not None and not counted.any():
            yield "near_tie must be null where no vote was near a tie"
        for index, (cell, bits) in enumerate(zip(cells, counted.tolist(), strict=True)):
            if cell[count] != bits:
                yield f"cells[{index}].{count}={cell[count]} must be {bits}, the bits of the plane {name}"


def _position_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    positions, threat = certificate["evidence"]["positions"], certificate["threat"]
    if (positions is not None) != (threat["text"] == "l0"):
        yield f"positions={positions} must be there for the l0 threat and for no other"
    elif positions is not None and certificate["kind"] == "tabular" and positions != threat["slots"]:
        yield f"positions={positions} must be the {threat['slots']} categorical fields"

"""From a certificate's JSON to the evidence and parameters that `answer` takes, and what contradicts itself in it.

Every function here takes a certificate whose fields have passed `shape`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from holdfast.certificates.document.checks import Fault
from holdfast.certificates.document.envelope import MOST_PASSES, dimensions_of
from holdfast.certificates.guard.question import Cell, Counts, Question, position_masks
from holdfast.certificates.shifts.covers import MAX_COVERS, cover_count

MOST_MASKED = 2**25
"""Draws times positions of which masks are drawn again: a few bytes each."""
MOST_COUNTED = 2**31
"""Draws times covers that are counted again: some 30 seconds."""
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
        token_kernel=noise["token_kernel"],
        beta=noise["beta"],
        alphabets=tuple(space["alphabets"]),
        sigma=float(noise["sigma"]),
        tau=certificate["tau"],
        alpha=evidence["alpha"],
        sides=("unsafe", "safe") if asked == "both" else (asked,),
        method=certificate["method"],
        bound=evidence["bound"],
        wanted=_wanted(certificate),
        target=None if target is None else (target["tokens"], target["epsilon"]),
        epsilons=tuple(row["epsilon"] for row in certificate["worst_case"] if row["tokens"] == 0),
        operator_norm=1.0 if space["native_operator_norm"] is None else space["native_operator_norm"],
        dimensions=dimensions_of(space),
    )


def counts_of(certificate: Mapping[str, Any], question: Question) -> Counts:
    """The evidence; where masks matter they are drawn again from the certificate's seed."""
    evidence = certificate["evidence"]
    cells = tuple((cell["draws"], cell["unsafe"]) for cell in evidence["cells"])
    if question.text != "l0" or question.method == "neyman_pearson":
        return Counts(cells)
    draws = evidence["orders"][-1]["stop"]
    masks = [
        position_masks(
            question,
            positions=evidence["positions"],
            seed=certificate["seed"],
            start=start,
            stop=min(start + _CHUNK_DRAWS, draws),
        )
        for start in range(0, draws, _CHUNK_DRAWS)
    ]
    outcomes = [
        np.unpackbits(np.frombuffer(bytes.fromhex(order["outcomes"]), np.uint8), count=order["stop"] - order["start"])
        for order in evidence["orders"]
    ]
    return Counts(cells, np.concatenate(masks), np.concatenate(outcomes).astype(np.bool_))


def parameter_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Parameters that contradict each other."""
    yield from _threat_faults(certificate)
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
    if tabular and text == "suffix":
        yield "threat", "text=suffix has no meaning for a tabular input"
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
    if evidence["bound"] == "clopper_pearson":
        if evidence["stopped"] != "passes_spent":
            yield "evidence", "stopped must be passes_spent for a bound that holds at a fixed number of draws"
        if len({tuple(order["cells"]) for order in evidence["orders"]}) != 1:
            yield "evidence", "orders must all sample the same cells for a bound that holds at a fixed number of draws"
    target = certificate["target"]
    if evidence["stopped"] == "target" and (target is None or target["verdict"] is None):
        yield "evidence", "stopped=target needs a target that is certified"


def evidence_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Counts that contradict each other."""
    found = [*_cell_faults(certificate), *_order_faults(certificate), *_position_faults(certificate)]
    yield from (("evidence", fault) for fault in found or _sum_faults(certificate["evidence"]))


def size_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Sizes that would take too much time or memory to compute again for a stranger."""
    evidence, budgets = certificate["evidence"], certificate["threat"]["max_tokens"] + 1
    if certificate["method"] != "stratified" and budgets > MOST_BUDGETS:
        yield "threat", f"max_tokens={budgets - 1} must be at most {MOST_BUDGETS - 1}; {_UNLIMITED}"
    positions, draws = evidence["positions"] or 0, evidence["orders"][-1]["stop"]
    if positions * draws > MOST_MASKED:
        yield "evidence", f"{draws} draws of {positions} positions must be at most {MOST_MASKED} masks; {_UNLIMITED}"
    covers = (cover_count(positions, tokens) for tokens in range(min(budgets, positions + 1)))
    if draws * sum(count for count in covers if count <= MAX_COVERS) > MOST_COUNTED and positions:
        yield "evidence", f"{draws} draws must make at most {MOST_COUNTED} with their covers; {_UNLIMITED}"


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
    """The cells that the threat, scope and method have.

    Which budgets share the last stratum, and whether `auto` has the kernel's own noise beside the strata, are the
    issuer's choice, made before sampling: every partition is sound.
    """
    threat, target, method = certificate["threat"], certificate["target"], certificate["method"]
    slots, stated = threat["slots"], _cells(certificate)
    if certificate["noise"]["scope"] == "per_budget":
        masked = method != "neyman_pearson"
        return [Cell(budget, budget if masked else 0, True) for budget in range(threat["max_tokens"] + 1)]
    strata, own_noise = 0, False
    if threat["text"] == "suffix" and method != "neyman_pearson":
        own_noise = method == "auto" and target is None and len(stated) > 1 and stated[-1][1:] == (0, True)
        strata = min(len(stated) - 1 - own_noise, slots) if target is None else target["tokens"]
    return [Cell(slots, k, k == strata) for k in range(strata + 1)] + [Cell(slots, 0, True)] * own_noise


def _order_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    wanted, masks_matter = set(_wanted(certificate)), certificate["threat"]["text"] == "l0"
    reached = 0
    for index, order in enumerate(certificate["evidence"]["orders"]):
        path, draws = f"orders[{index}]", order["stop"] - order["start"]
        if order["start"] != reached or draws <= 0:
            yield f"{path} must take fresh draws from {reached} on, not {order['start']} to {order['stop']}"
            return
        reached = order["stop"]
        if not order["cells"] or not set(order["cells"]) <= wanted or sorted(set(order["cells"])) != [*order["cells"]]:
            yield f"{path}.cells must be some of those asked for, ascending"
        elif len(order["unsafe"]) != len(order["cells"]) or max(order["unsafe"]) > draws:
            yield f"{path}.unsafe must be a count of its {draws} draws for each of its cells"
        elif (order["outcomes"] is not None) != masks_matter:
            yield f"{path}.outcomes must {'' if masks_matter else 'not '}be there for this threat"
        elif masks_matter and _popcount(order["outcomes"], draws) != order["unsafe"][0]:
            yield f"{path}.outcomes must be a bit for each of its {draws} draws, as many set as were unsafe"


def _position_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    positions, threat = certificate["evidence"]["positions"], certificate["threat"]
    if (positions is not None) != (threat["text"] == "l0"):
        yield f"positions={positions} must be there for the l0 threat and for no other"
    elif positions is not None and certificate["kind"] == "tabular" and positions != threat["slots"]:
        yield f"positions={positions} must be the {threat['slots']} categorical fields"


def _sum_faults(evidence: Mapping[str, Any]) -> Iterator[str]:
    draws, unsafe = [0] * len(evidence["cells"]), [0] * len(evidence["cells"])
    for order in evidence["orders"]:
        for cell, hits in zip(order["cells"], order["unsafe"], strict=True):
            draws[cell] += order["stop"] - order["start"]
            unsafe[cell] += hits
    if evidence["passes"] != sum(draws) or sum(draws) > MOST_PASSES:
        yield f"passes={evidence['passes']} must be the {sum(draws)} of the orders, at most {MOST_PASSES}"
    for index, (cell, *counted) in enumerate(zip(evidence["cells"], draws, unsafe, strict=True)):
        if [cell["draws"], cell["unsafe"]] != counted:
            yield f"cells[{index}] must have draws={counted[0]} and unsafe={counted[1]}, the sum of the orders"


def _popcount(outcomes: str, draws: int) -> int | None:
    """How many bits are set; None where there is not exactly one per draw."""
    padding = 4 * len(outcomes) - draws
    bits = int(outcomes, 16)
    return bits.bit_count() if 0 <= padding < 8 and not bits % 2**padding else None


def _wanted(certificate: Mapping[str, Any]) -> tuple[int, ...]:
    """The cells that count for what was asked: for a target, the last one alone."""
    cells = len(certificate["evidence"]["cells"])
    return tuple(range(cells)) if certificate["target"] is None else (cells - 1,)

"""The certificate: evidence, parameters and answer in the words of the contract."""

from collections.abc import Sequence
from dataclasses import asdict

from holdfast.certificates import Answer, Question, Row, cover_count
from holdfast.contract.guard.certificates import (
    CellEvidence,
    Certificate,
    Evidence,
    FrontierPoint,
    NoiseUsed,
    OrderEvidence,
    Space,
    TargetAnswer,
    ThreatUsed,
    WorstCase,
)
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Stopped
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Tally
from holdfast_service.certifier.guard.evidence import Cells
from holdfast_service.certifier.writing import image_space, issued, operator_norm


def write(
    record: JobRecord,
    spec: GuardSpec,
    tallies: Sequence[Tally],
    cells: Cells,
    found: Answer,
    stopped: Stopped,
) -> Certificate:
    """The certificate, not yet signed, of a job whose sampling has stopped after these tallies."""
    question = question_of(spec, operator_norm=operator_norm(record))
    # Without an image there are no pixels of its own that a radius could be stated in.
    native = {} if record.pictured else {"native_radius": None}
    return Certificate(
        **issued(record, _notice(spec, found, pictured=record.pictured)),
        kind=spec.kind,
        verdict=found.verdict,
        reason=_reason(spec, found, stopped),
        frontier=tuple(FrontierPoint(**asdict(point) | native) for point in found.frontier),
        max_tokens=found.max_tokens,
        target=None if spec.target is None else TargetAnswer(**dict(spec.target), verdict=found.target),
        worst_case=tuple(map(_worst_case, found.worst_case)),
        evidence=_evidence(spec, question, tallies, cells, found, stopped),
        method=spec.method,
        asked_verdict=spec.verdict,
        threat=ThreatUsed(
            text=spec.text, slots=spec.slots, max_tokens=spec.max_tokens, image="l2" if spec.sigma > 0 else "none"
        ),
        noise=NoiseUsed(token_kernel=spec.token_kernel, beta=spec.beta, sigma=spec.sigma, scope=spec.scope),
        tau=spec.tau,
        space=Space(**image_space(record), alphabets=spec.alphabets),
        false_flag=spec.false_flag,
    )


def _worst_case(row: Row) -> WorstCase:
    return WorstCase(
        tokens=row.tokens,
        epsilon=row.epsilon,
        unsafe_probability_at_least=row.at_least,
        unsafe_probability_at_most=row.at_most,
        passes_to_detect=row.passes_to_detect,
    )


def _evidence(
    spec: GuardSpec, question: Question, tallies: Sequence[Tally], cells: Cells, found: Answer, stopped: Stopped
) -> Evidence:
    return Evidence(
        passes=sum(tally.passes for tally in tallies),
        orders=tuple(map(_order, tallies)),
        cells=tuple(
            CellEvidence(**cell._asdict(), draws=draws, unsafe=unsafe, lower=lower, upper=upper)
            for cell, (draws, unsafe), lower, upper in zip(question.cells, cells, found.lower, found.upper, strict=True)
        ),
        positions=tallies[0].votes.positions if spec.masks_matter and tallies else None,
        bound=question.bound,
        alpha=spec.alpha,
        alpha_split={side: 1 / len(question.sides) for side in question.sides},
        sharing=_sharing(spec, tallies),
        stopped=stopped,
    )


def _order(tally: Tally) -> OrderEvidence:
    votes = tally.votes
    return OrderEvidence(
        start=tally.start, stop=tally.stop, cells=votes.cells, unsafe=votes.unsafe, outcomes=votes.outcomes
    )


def _sharing(spec: GuardSpec, tallies: Sequence[Tally]) -> str:
    """How each direction's alpha was shared, in words."""
    if spec.masks_matter and spec.method != "neyman_pearson":
        positions = tallies[0].votes.positions if tallies else spec.slots
        covers = ", ".join(str(cover_count(positions, tokens)) for tokens in range(spec.max_tokens + 1))
        return f"equally over {spec.max_tokens + 1} budgets, then over the covers of each: {covers}"
    if spec.natural:
        return f"half equally over {spec.strata + 1} strata, half to the natural noise that bounds p_A"
    cells = len(spec.wanted_cells)
    return "undivided: one bound serves every number" if cells == 1 else f"equally over {cells} cells"


def _reason(spec: GuardSpec, found: Answer, stopped: Stopped) -> str:
    """Which verdict is certified and why, or why none is."""
    if found.verdict == "abstained":
        tried = "neither verdict is" if spec.verdict == "both" else f"the {spec.verdict.title()} verdict is not"
        why = {
            "passes_spent": "the passes are spent; more passes may decide it",
            "not_certifiable": "more passes would not change that",
        }.get(stopped, "sampling stopped")
        return f"Abstained: {tried} certified even without an attack, and {why}."
    beside = "above" if found.verdict == "unsafe" else "below"
    line = f"{found.verdict.title()}: the smoothed Unsafe probability stays {beside} tau={spec.tau}"
    line += f" against up to {found.max_tokens} tokens at the radii of the frontier."
    if spec.target is not None:
        asked = f"({spec.target.tokens} tokens, radius {spec.target.epsilon})"
        answered = f"certified {found.target.title()}" if found.target else "not certified"
        line += f" The target {asked} is {answered}."
    return line


def _notice(spec: GuardSpec, found: Answer, *, pictured: bool) -> tuple[str, ...]:
    lines = [
        f"The guarantee is for the smoothed guard: {_smoothing(spec)}, which says Unsafe where the guard does so with"
        f" probability above tau={spec.tau}.",
        f"It holds with probability 1 - alpha, alpha = {spec.alpha}, over the draws, for every number here together.",
        _attacker(spec),
    ]
    if spec.method != "stratified" and spec.token_kernel == "uniform" and spec.text != "none":
        lines.append(
            "Radii by neyman_pearson, and the worst case and the target where that method gives the better bound, cover"
            " attackers who use tokens of the alphabet only, no special tokens."
        )
    if not pictured:
        lines.append("No image was given: the guard answered the text alone, by its prompt without the image.")
    lines += spec.notes
    if found.verdict == "abstained":
        tried = "neither verdict" if spec.verdict == "both" else f"no {spec.verdict.title()} verdict"
        lines.append(f"Not certified: the evidence supports {tried}. This is no certificate of safety.")
    return tuple(lines)


def _smoothing(spec: GuardSpec) -> str:
    where = {
        "suffix": f"in {spec.slots} suffix slots",
        "l0": "in every categorical field" if spec.kind == "tabular" else "in every token of the text",
    }
    parts = [f"{spec.token_kernel} token noise (beta={spec.beta}) {where[spec.text]}"] if spec.text != "none" else []
    if spec.sigma > 0:
        what = "numeric fields" if spec.kind == "tabular" else "image"
        parts.append(f"Gaussian noise (sigma={spec.sigma}) on the {what}")
    if spec.scope == "per_budget":
        parts.append("for each budget d a guard of its own, with d slots")
    return "the guard under " + " and ".join(parts)


def _attacker(spec: GuardSpec) -> str:
    tokens = {
        "suffix": "rewrites the first d slots",
        "l0": f"rewrites any d {'categorical fields' if spec.kind == 'tabular' else 'tokens of the text'}",
        "none": "leaves the text as it is",
    }[spec.text]
    shift = "shifts the image by at most the radius, in the L2 norm of the noise space"
    if spec.kind == "tabular":
        shift = "shifts the standardised numeric fields by at most the radius, in L2"
    return f"The attacker {tokens} and {shift if spec.sigma > 0 else 'leaves the rest as it is'}."

"""The sentences of a guard's certificate: pure functions of its parameters and its numbers.

The notice says which attackers each number covers, one sentence for each method. Whoever writes a certificate and
whoever verifies it take the sentences from here, so that none can say anything but what the numbers say.
"""

from collections.abc import Iterator

from holdfast.certificates.document.words import asked_so_far
from holdfast.certificates.guard.question import Question
from holdfast.certificates.shifts.covers import cover_count
from holdfast.certificates.shifts.joint import LEVELS, MEAN_PART, budget_shares


def notice(question: Question, verdict: str, *, pictured: bool, tie_band: float, asked: int) -> tuple[str, ...]:
    """What a certificate holds for, on what, against whom, by each of its methods, and where it says nothing.

    Args:
        question: Its parameters.
        verdict: `unsafe`, `safe` or `abstained`.
        pictured: Whether an image was given, or the numeric fields of a tabular input.
        tie_band: How near a tie a margin counts against whichever side claims.
        asked: How many distinct questions its client has asked the model.
    """
    lines = [
        f"The guarantee is for the smoothed guard: {_smoothing(question)}, which says Unsafe where the guard does so"
        f" with probability above tau={question.tau}.",
        f"It holds with probability 1 - alpha, alpha = {question.alpha}, over the draws, for every number here"
        " together.",
        asked_so_far(asked),
        f"A vote whose margin is within {float(tie_band)} of a tie counts against the claim: that no margin moves"
        " farther with the company of its batch, or with the device, is assumed.",
        _attacker(question),
        *_covered(question),
    ]
    if not pictured:
        lines.append("No image was given: the guard answered the text alone, by its prompt without the image.")
    if verdict == "abstained":
        lines.append(
            f"Not certified: the evidence supports {_tried(question, 'neither verdict', 'no {} verdict')}. This is no"
            " certificate of safety."
        )
    return tuple(lines)


def reason(question: Question, verdict: str, *, max_tokens: int | None, target: str | None, stopped: str) -> str:
    """Which verdict is certified against how many tokens, and at the target, or why none is."""
    if verdict == "abstained":
        why = {
            "draws_spent": "the draws are spent; more draws may decide it",
            "not_certifiable": "more draws would not change that",
        }.get(stopped, "sampling stopped")
        tried = _tried(question, "neither verdict is", "the {} verdict is not")
        return f"Abstained: {tried} certified even without an attack, and {why}."
    beside = "above" if verdict == "unsafe" else "below"
    what = "appended code points" if question.text == "append" else "tokens"
    line = f"{verdict.title()}: the smoothed Unsafe probability stays {beside} tau={question.tau}"
    line += f" against up to {max_tokens} {what} at the radii of the frontier."
    if question.target is not None:
        tokens, epsilon = question.target
        answered = f"certified {target.title()}" if target else "not certified"
        line += f" The target ({tokens} tokens, radius {epsilon}) is {answered}."
    return line


def sharing(question: Question, positions: int | None) -> str:
    """How each direction's alpha was shared beforehand.

    Args:
        question: The certificate's parameters.
        positions: How many positions the masks of an l0 certificate cover.
    """
    cells = len(question.cells)
    if question.method == "neyman_pearson" or question.text in ("append", "none"):
        return f"equally over {cells} budgets" if cells > 1 else "undivided: one bound serves every number"
    if question.method == "stratified":
        return f"equally over {cells} cells" if cells > 1 else "undivided: one bound serves every number"
    if question.text == "l0":
        covers = ", ".join(str(cover_count(positions or 0, tokens)) for tokens in range(question.max_tokens + 1))
        return f"equally over {question.max_tokens + 1} budgets, then over the covers of each: {covers}"
    return _of_scores(question)


def _of_scores(question: Question) -> str:
    """How alpha was shared over the scores of a joint certificate, and the share of each over its mean and its law."""
    cells = len(question.cells)
    shared = f"equally over {cells} budgets" if cells > 1 else "one score"
    if cells > 1 and not question.per_budget:
        parts = [share / min(budget_shares(cells)) for share in budget_shares(cells)]
        shared = f"over {cells} budgets in parts of {', '.join(map(str, parts))}"
    whole = question.tails == 1 and (cells == 1 or question.per_budget)
    if not question.sigma or whole:
        return f"{shared}, for its mean alone"
    last = ", but for the last, which has but its mean" if question.tails == 1 else ""
    law = f"the rest equally over its law at {len(LEVELS)} levels"
    return f"{shared}: {MEAN_PART} of its share for its mean, {law}{last}"


def _tried(question: Question, both: str, one: str) -> str:
    return both if len(question.sides) > 1 else one.format(question.sides[0].title())


def _smoothing(question: Question) -> str:
    where = {
        "suffix": f"in {question.slots} suffix slots",
        "l0": "in every categorical field" if question.tabular else "in every token of the text",
    }
    parts = []
    if question.text in where:
        parts.append(f"{question.token_kernel} token noise (beta={question.beta}) {where[question.text]}")
    if question.sigma > 0:
        what = "numeric fields" if question.tabular else "image"
        parts.append(f"Gaussian noise (sigma={question.sigma}) on the {what}")
    if question.per_budget:
        parts.append("for each budget d a guard of its own, with d slots")
    return "the guard under " + " and ".join(parts)


def _attacker(question: Question) -> str:
    tokens = {
        "suffix": "rewrites the first d slots",
        "append": "appends at most d code points to the text",
        "l0": f"rewrites any d {'categorical fields' if question.tabular else 'tokens of the text'}",
        "none": "leaves the text as it is",
    }[question.text]
    shift = "shifts the image by at most the radius, in the L2 norm of the noise space"
    if question.tabular:
        shift = "shifts the standardised numeric fields by at most the radius, in L2"
    return f"The attacker {tokens} and {shift if question.sigma > 0 else 'leaves the rest as it is'}."


def _covered(question: Question) -> Iterator[str]:
    """Which attackers the numbers of each method cover."""
    masked = question.method != "neyman_pearson"
    if question.text == "suffix" and masked:
        yield (
            "Numbers by joint and stratified cover any tokens, special ones and those outside the alphabet too, in the"
            f" first d of the {question.slots} reserved slots: the tail stands in the slots, it is not glued to the"
            " text."
        )
    if question.text == "l0" and masked:
        what = "tokens at any d positions of the text, special ones too: the number of tokens is kept"
        yield f"Numbers by joint cover any {'values of any d categorical fields' if question.tabular else what}."
    if question.text == "append":
        yield (
            "Numbers by erase_and_check cover code points appended to the end of the raw text, for a guard that is also"
            f" asked about the text without its last ones, up to {question.max_tokens} of them: rewrites, insertions"
            " and prefixes are not covered, and nothing is certified Safe."
        )
    alphabet = question.method in ("auto", "neyman_pearson") and question.token_kernel == "uniform"
    if alphabet and question.text in ("suffix", "l0"):
        what = "values that the model has for a field" if question.tabular else "tokens of the alphabet"
        yield (
            "Numbers by neyman_pearson, and the worst case and the target where it gives the better bound, cover"
            f" {what} only, before the attack and after it{'' if question.tabular else '; no special tokens'}."
        )

"""What a request means once a model's defaults are filled in: the one thing workers and certifier act on."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from holdfast.contract.base import Closed, Stop, invalid, or_else
from holdfast.contract.guard.requests import (
    AskedMethod,
    AskedVerdict,
    CertificationRequest,
    Input,
    Scope,
    Target,
    TextThreatKind,
)
from holdfast.contract.models import Defaults, FalseFlag, GuardInfo, L0Defaults, NoiseSpace, TokenKernelName


class Cell(NamedTuple):
    """What the draws of one cell have in common (maths.md §5).

    Of the `slots` suffix slots of its smoothed guard the first `leading_masked` are masked. The next one is not, or
    with `at_least` is left to the kernel, as all after it are.
    """

    slots: int
    leading_masked: int
    at_least: bool


class GuardSpec(Closed):
    """A request without its input, every default filled in and every value checked against its model.

    `slots` are the eligible positions that are known beforehand: the suffix slots, or the categorical fields of a
    tabular input; 0 for the l0 threat, whose positions are the text's tokens. `sigma` is 0 where the image stays as it
    is. `alphabets` has V of each position: one number for all tokens, or one per categorical field. `max_tokens` is the
    largest budget: of tokens, of fields, or under `append` of code points. `tails` is r: every image draw is scored by
    r tails in every cell. `draw_s` and `room` are what the model's worker measured: seconds of a draw, and draws that
    fill a forward pass. `notes` is what the certificate's notice must say of the guard besides.
    """

    model: str
    fingerprint: str
    kind: Literal["hybrid", "tabular"]
    text: TextThreatKind
    slots: int
    max_tokens: int
    token_kernel: TokenKernelName
    alphabets: tuple[int, ...]
    beta: float
    sigma: float
    scope: Scope
    tau: float
    verdict: AskedVerdict
    alpha: float
    method: AskedMethod
    max_draws: int
    tails: int
    stop: Stop
    tolerance: float
    target: Target | None
    epsilons: tuple[float, ...]
    space: NoiseSpace
    tie_band: float
    false_flag: FalseFlag | None
    notes: tuple[str, ...] = ()
    draw_s: float | None = None
    room: int | None = None

    @property
    def masks_matter(self) -> bool:
        """Whether each draw's outcome is needed by itself, to be counted under every cover of its mask."""
        return self.text == "l0"

    @property
    def strata(self) -> int:
        """s: cells k < s have exactly k leading masked slots, the last at least s.

        A frontier needs no finer cells than thresholds allow: budgets whose whole mass is at most tau (or 1 - tau, if
        smaller and Safe is tried for) can never be certified by cells, so their cells are sampled as one.
        """
        thresholds = {"unsafe": self.tau, "safe": 1 - self.tau, "both": min(self.tau, 1 - self.tau)}
        size = self.alphabets[0]
        masked = self.beta if self.token_kernel == "absorbing" else min(1.0, self.beta * size / (size - 1))
        return max(k for k in range(self.slots + 1) if k == 0 or masked**k > thresholds[self.verdict])

    @property
    def cells(self) -> tuple[Cell, ...]:
        """What each cell is in which every draw is scored.

        The strata; for a target their union, of at least the target's tokens; where each budget has a smoothed guard of
        its own, one cell of each; the kernel's own noise where nothing is stratified.
        """
        masked = self.method != "neyman_pearson"
        if self.scope == "per_budget":
            asked = range(self.max_tokens + 1) if self.target is None else (self.target.tokens,)
            return tuple(Cell(budget, budget if masked else 0, True) for budget in asked)
        if self.text != "suffix" or not masked:
            return (Cell(self.slots, 0, True),)
        if self.target is not None:
            return (Cell(self.slots, self.target.tokens, True),)
        return tuple(Cell(self.slots, k, k == self.strata) for k in range(self.strata + 1))

    @property
    def draw_passes(self) -> int:
        """Verdicts that one image draw gives."""
        return self.tails * len(self.cells)


def resolve(request: CertificationRequest, model: GuardInfo) -> GuardSpec:
    """Fills in the model's defaults and checks what only the model can tell.

    Raises:
        InvalidValueError: a value is outside what this model serves.
    """
    defaults, threat = model.defaults, request.threat
    text = threat.text.kind or ("l0" if model.kind == "tabular" else "suffix")
    slots = _slots(request, model, text)
    point = _operating_point(model, text) or defaults
    spec = GuardSpec(
        model=model.name,
        fingerprint=model.fingerprint,
        kind=model.kind,
        text=text,
        slots=slots,
        max_tokens=_max_tokens(request, model, text, slots),
        token_kernel=or_else(request.noise.token_kernel, defaults.token_kernel),
        alphabets=model.alphabets,
        beta=or_else(request.noise.beta, point.beta),
        sigma=0.0 if threat.image.norm == "none" else or_else(request.noise.sigma, defaults.sigma),
        scope=request.noise.scope,
        tau=or_else(request.decision.tau, point.tau),
        verdict="unsafe" if text == "append" else request.decision.verdict,
        alpha=or_else(request.confidence.alpha, defaults.alpha),
        method=request.method,
        max_draws=or_else(request.sampling.max_draws, defaults.max_draws),
        # Without noise on the text all tails of a draw are one.
        tails=1 if text in ("none", "append") else or_else(request.sampling.tails, defaults.tails),
        stop=request.sampling.stop,
        tolerance=or_else(request.sampling.tolerance, defaults.tolerance),
        target=request.target,
        epsilons=(0.0,) if threat.image.norm == "none" else tuple(sorted(set(request.epsilons))),
        space=model.space,
        tie_band=model.tie_band,
        false_flag=None,
        notes=model.notes,
    )
    if violations := list(_violations(request, spec, model)):
        raise invalid(*violations)
    measured: dict[str, object] = {"false_flag": _measured(spec, model)}
    if (cost := model.cost) is not None:
        measured |= {"draw_s": cost.draw_s(tails=spec.draw_passes, slots=spec.slots), "room": cost.room}
    return spec.model_copy(update=measured)


def _slots(request: CertificationRequest, model: GuardInfo, text: TextThreatKind) -> int:
    if text == "none":
        return 0
    if model.kind == "tabular":
        return len(model.alphabets)
    return or_else(request.threat.text.slots, model.defaults.slots) if text == "suffix" else 0


def _max_tokens(request: CertificationRequest, model: GuardInfo, text: TextThreatKind, slots: int) -> int:
    """The largest budget d that the frontier speaks of."""
    asked = request.threat.text.max_tokens
    if request.target is not None:
        return request.target.tokens
    if text == "none":
        return 0
    if text == "append":
        return or_else(request.threat.text.max_characters, model.defaults.max_characters)
    if text == "suffix":
        return slots if asked is None else asked
    return or_else(asked, min(2, slots) if model.kind == "tabular" else min(3, model.limits.max_tokens))


def _operating_point(model: GuardInfo, text: TextThreatKind) -> Defaults | L0Defaults | None:
    """What was measured for this threat's noise; None where nothing was."""
    return model.defaults.l0 if text == "l0" and model.kind == "hybrid" else model.defaults


def _measured(spec: GuardSpec, model: GuardInfo) -> FalseFlag | None:
    """The measured false-flag bound, if one speaks of exactly this smoothed guard and threshold."""
    defaults, point = model.defaults, _operating_point(model, spec.text)
    if spec.text == "append":  # fewer truncations flag no input that all of them do not
        here = (spec.tau, spec.sigma) == (defaults.tau, defaults.sigma) and spec.max_tokens <= defaults.max_characters
        return defaults.append if here else None
    slots = {"hybrid": 0 if spec.text == "l0" else defaults.slots, "tabular": len(model.alphabets)}[spec.kind]
    asked = (spec.beta, spec.tau, spec.sigma, spec.token_kernel, spec.slots, spec.scope)
    if point is None or asked != (point.beta, point.tau, defaults.sigma, defaults.token_kernel, slots, "shared"):
        return None
    return point.false_flag if isinstance(point, L0Defaults) else model.false_flag


def _violations(request: CertificationRequest, spec: GuardSpec, model: GuardInfo) -> Iterator[tuple[str, str]]:
    """Every field that this model does not take as it is, and why."""
    given = request.input
    if (given.fields is not None) == (model.kind == "tabular"):
        yield from _input_violations(given, spec, model)
    else:
        wanted = "fields" if model.kind == "tabular" else "text and image"
        yield "input", f"model {model.name} is {model.kind}; give {wanted}"
    yield from _threat_violations(request, spec, model)
    yield from _noise_violations(request, spec, model)
    yield from _method_violations(request, spec)
    if spec.text == "suffix" and spec.max_tokens != spec.slots and spec.target is None:
        yield "threat.text.max_tokens", "the suffix threat's budget is its slots; drop max_tokens"


def _method_violations(request: CertificationRequest, spec: GuardSpec) -> Iterator[tuple[str, str]]:
    method, asked = spec.method, request.threat.text
    if method == "erase_and_check" and spec.text != "append":
        yield "method", f"erase_and_check certifies the append threat, not {spec.text}; ask for threat.text.kind=append"
    if spec.text == "append" and method not in ("auto", "erase_and_check"):
        yield "method", f"method={method} does not certify the append threat; ask for erase_and_check or auto"
    if method == "stratified" and (spec.text != "suffix" or spec.scope == "per_budget"):
        where = "scope=per_budget" if spec.text == "suffix" else f"the {spec.text} threat"
        yield "method", f"stratified has no strata under {where}; ask for joint"
    if spec.text == "append" and request.decision.verdict == "safe":
        yield "decision.verdict", "the append threat certifies Unsafe alone; ask for unsafe"
    if asked.max_characters is not None and spec.text != "append":
        yield "threat.text.max_characters", f"max_characters belongs to append, not to {spec.text}; drop it"
    if asked.max_tokens is not None and spec.text == "append":
        yield "threat.text.max_tokens", "the append threat counts code points; give max_characters instead"
    if spec.text == "append" and request.target is not None:
        yield "target", "the append threat's frontier is one number for all budgets; drop the target"
    if request.sampling.tails is not None and spec.tails != request.sampling.tails:
        yield "sampling.tails", f"tails={request.sampling.tails} must be 1 without noise on the text; drop it"


def _input_violations(given: Input, spec: GuardSpec, model: GuardInfo) -> Iterator[tuple[str, str]]:
    if given.image is None and model.kind == "hybrid" and not model.text_alone:
        yield "input.image", f"model {model.name} does not answer a text without an image; give one"
    elif given.image is None and model.kind == "hybrid" and spec.sigma > 0:
        yield "input.image", "the image threat needs an image; give one, or ask for threat.image.norm=none"
    size, most = len((given.text or "").encode()) + len(given.suffix.encode()), model.limits.max_text_bytes
    if size > most:
        rule = f"must be at most {most} bytes for model {model.name}; shorten it"
        yield "input.text", f"text and suffix of {size} bytes {rule}"
    if given.suffix and spec.text != "suffix":
        yield "input.suffix", "a suffix belongs to the suffix threat; put it into the text or drop it"
    for field in model.fields:
        at, value = f"input.fields.{field.name}", (given.fields or {}).get(field.name)
        if value is None:
            yield at, f"field {field.name} is missing; give it a value"
        elif field.values and value not in field.values:
            yield at, f"field {field.name} must be one of: {', '.join(field.values[:20])}; send one"
        elif not field.values and isinstance(value, str):
            yield at, f"field {field.name} must be a number; send it as one"
    if unknown := set(given.fields or {}) - {field.name for field in model.fields}:
        yield "input.fields", f"{len(unknown)} fields are not the model's; see GET /v1/models/{model.name}"


def _threat_violations(request: CertificationRequest, spec: GuardSpec, model: GuardInfo) -> Iterator[tuple[str, str]]:
    asked, target, limits = request.threat.text, spec.target, model.limits
    limit = spec.slots if spec.text == "suffix" or spec.kind == "tabular" else limits.max_tokens
    if spec.kind == "tabular" and spec.text in ("suffix", "append"):
        yield "threat.text.kind", f"model {model.name} is tabular and has no text; ask for l0 or none"
    if asked.slots is not None and spec.text != "suffix":
        yield "threat.text.slots", f"the {spec.text} threat has no slots; drop them"
    if spec.text == "suffix" and spec.slots > limits.max_slots:
        rule = f"must be at most {limits.max_slots} for model {model.name}; ask for fewer"
        yield "threat.text.slots", f"slots={spec.slots} {rule}"
    if spec.text in ("suffix", "l0") and spec.max_tokens > limit:
        where = "target.tokens" if target is not None else "threat.text.max_tokens"
        yield where, f"a budget of {spec.max_tokens} tokens must be at most {limit}; lower it"
    if spec.text == "none" and spec.max_tokens:
        yield "target.tokens", f"tokens={spec.max_tokens} must be 0 without a text threat; lower it"
    if spec.text == "none" and asked.max_tokens:
        yield "threat.text.max_tokens", f"max_tokens={asked.max_tokens} must be 0 without a text threat; drop it"
    elif target is not None and asked.max_tokens not in (None, target.tokens):
        rule = f"must be the target's {target.tokens} tokens; drop it"
        yield "threat.text.max_tokens", f"max_tokens={asked.max_tokens} {rule}"
    if spec.text == "append" and spec.sigma == 0:
        yield "threat.image.norm", "the append threat is certified under image noise alone; allow l2"
    if spec.text == "none" and spec.sigma == 0:
        yield "threat", "an attacker who may change nothing needs no certificate; allow text or image"
    if spec.sigma == 0 and target is not None and target.epsilon > 0:
        yield "target.epsilon", f"epsilon={target.epsilon} must be 0 without an image threat; drop it"
    if spec.sigma == 0 and request.noise.sigma is not None:
        yield "noise.sigma", f"sigma={request.noise.sigma} has no use without an image threat; drop it"


def _noise_violations(request: CertificationRequest, spec: GuardSpec, model: GuardInfo) -> Iterator[tuple[str, str]]:
    if _operating_point(model, spec.text) is None:
        for path, value in (("noise.beta", request.noise.beta), ("decision.tau", request.decision.tau)):
            if value is None:
                yield path, f"model {model.name} has no measured default for noise on the text; give {path}"
    if spec.token_kernel not in model.limits.token_kernels:
        rule = f"must be one of {', '.join(model.limits.token_kernels)} for model {model.name}; ask for one"
        yield "noise.token_kernel", f"token_kernel={spec.token_kernel} {rule}"
    smallest = min(spec.alphabets)
    if spec.token_kernel == "uniform" and spec.beta > (most := (smallest - 1) / smallest) and spec.text != "none":
        rule = f"must be at most (V-1)/V={most} for an alphabet of {smallest}"
        yield "noise.beta", f"beta={spec.beta} {rule}; lower beta or use the absorbing kernel"
    if spec.scope == "per_budget" and spec.text != "suffix":
        yield "noise.scope", "per_budget belongs to the suffix threat; ask for shared"

"""The model card of the reference guard, written from its measurement."""

import math
from typing import Any, Final

from holdfast_lab.erasure import UnionFlags
from holdfast_lab.evaluation import HELD_OUT_SEED
from holdfast_lab.export import ALPHA, DEFAULTS, NAME, serving_config
from holdfast_lab.report import OperatingPoint, Report, Score
from holdfast_lab.scenes import FAINTEST
from holdfast_lab.training import MAX_SIGMA, MAX_TEXT_RATE, Recipe

_CARD: Final = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# {name}

A real but tiny `LlavaOnevisionForConditionalGeneration` ({parameters:,} parameters, half-precision safetensors)
that judges a picture and a request together.
**For trying the service, not for moderation**: it knows two kinds of drawn objects and fourteen actions.

## Task
A picture shows *fuel* (jerry can, gas bottle) or live *power* (wall socket, power strip); a request asks for a
*flame* or for *water*.

| | flame | water |
|---|---|---|
| **fuel** | Unsafe | Safe |
| **power** | Safe | Unsafe |

The label is an exclusive or: neither the picture nor the request says anything about it alone.
Pictures (64×64 RGB) and requests (3,360 wordings per intent) are drawn procedurally by `holdfast_lab.scenes`;
there is no collected data.
Wall, floor, colour, place and size vary, and a haze leaves between {faintest:.0%} and all of the contrast
(log-uniform), so that some scenes drown in the default noise and radii differ from scene to scene.
A fifth of the wordings (combinations of opener, action, place and ending) and all measured scenes are held out.

## Network
SigLIP tower (2 layers, width 64, patch 16) → two-layer projector → Qwen2 decoder (3 layers, width 96, 3 heads).
Its own byte-level BPE tokenizer has 485 tokens, so any text can be encoded; each verdict variant is one token.
The picture is one base tile: 16 patches and a newline, 17 tokens.
The verdict is the log-mass of `Unsafe, unsafe, UNSAFE` against `Safe, safe, SAFE` at the last position.

## Training
`holdfast-lab train-reference-guard --out FOLDER --steps {steps} --seed {seed}`: {steps} AdamW steps of {batch}
examples, from nothing, in some ten minutes on one CPU core.
Pixels carry Gaussian noise in [0,1] units, σ uniform in [0, {max_sigma}] and ramped up over the first 30 % of the
steps, then 8-bit rounding and clamping.
The slots after the text are random tokens of the whole alphabet (or `<mask>`, in a fifth of the examples) at rates
up to 1; a fifth of the texts lose up to {max_text_rate:.0%} of their own tokens as well.
Three linear heads that read the two attributes help the exclusive or start, and are dropped when the model is saved.

## Accuracy
One pass per held-out example; the bound is one-sided Clopper–Pearson at α={alpha}.

| setting | accuracy | n | at least |
|---|---|---|---|
{accuracy}

One modality removed or exchanged for another example's, without noise:

| input | accuracy | n |
|---|---|---|
{alone}

## Operating points
Each held-out example is judged by {passes} noisy passes and flagged when more than τ of them say Unsafe.
Image noise is σ={sigma}; token noise is uniform over all {alphabet} ordinary tokens.

### Suffix threat
β={beta} on {slots} slots, τ={tau}.

{suffix}

All eight slots are masked in {all_masked:.0%} of the passes, so τ={tau} leaves room for a certificate at eight tokens.

### ℓ0 threat
β={l0_beta} on the text's own tokens, without slots, τ={l0_tau}.

{l0}

A token is masked in {one_masked:.0%} of the passes, so τ={l0_tau} leaves room for a certificate at one token, where
more than {needed:.0%} of the passes that mask it say Unsafe, whichever token it is.

### Append threat
Erase-and-check: no token noise; flagged when of one of the texts without their last 0 to {characters} characters at
least {flags} of {union_passes} passes, more than τ={tau} of them, say Unsafe.

- False flags: {union} of {union_scenes} Safe examples, a rate of at most {union_at_most} (Clopper–Pearson, α={alpha}).
- By characters that are erased at most: {by_characters}.

A text that is cut within its action is judged by what is left of it, often wrongly; few characters leave it whole.

## Limits
- On anything but the drawn task, photographs and other requests included, the verdict means nothing; it is still
  a fixed function of its input, so that certificates about it hold.
- A false-flag bound speaks of the drawn scenes and wordings, at exactly its noise.
- The held-out wordings recombine phrases that were trained on; they contain no new verbs.
- English only; the requests in training are shorter than 100 bytes.

Licence: Apache-2.0. Measured on the streams of seed {held_out_seed}.
"""


def _accuracy_row(score: Score) -> str:
    return f"| {score.name} | {score.share:.4f} | {score.total} | {math.floor(score.at_least * 1e4) / 1e4:.4f} |"


def _alone_row(score: Score) -> str:
    return f"| {score.name} | {score.share:.3f} | {score.total} |"


def _point_rows(point: OperatingPoint) -> str:
    return (
        f"- False flags: {point.safe_flagged} of {point.safe} Safe examples, a rate of at most {rate_at_most(point)}"
        f" (Clopper–Pearson, α={ALPHA}).\n"
        f"- Detection: {point.unsafe_flagged} of {point.unsafe} Unsafe examples; median share of Unsafe passes"
        f" {point.unsafe_median:.3f}."
    )


def rate_at_most(point: OperatingPoint) -> float:
    """The false-flag bound to four digits, rounded up; at most 1."""
    return _rounded_up(point.false_flags_at_most)


def _rounded_up(rate: float) -> float:
    return min(1.0, math.ceil(rate * 1e4) / 1e4)


def false_flag(point: OperatingPoint, *, at: str = "the default operating point") -> dict[str, Any]:
    """The false-flag bound measured `at` an operating point, as `holdfast.json` carries it."""
    return {
        "rate_at_most": rate_at_most(point),
        "alpha": ALPHA,
        "scenes": point.safe,
        "flagged": point.safe_flagged,
        "measured_on": f"held-out drawn scenes and wordings, {point.passes} noisy passes each at {at}",
    }


def union_false_flag(found: UnionFlags) -> dict[str, Any]:
    """The false-flag bound of erase-and-check, as `holdfast.json` carries it."""
    rule = found.rule
    return {
        "rate_at_most": _rounded_up(found.at_most(ALPHA)),
        "alpha": ALPHA,
        "scenes": found.scenes,
        "flagged": found.flagged,
        "measured_on": f"held-out drawn scenes and wordings, {rule.passes} noisy passes of each truncation by 0 to"
        f" {rule.characters} characters, flagged where {rule.flags} of one truncation's are Unsafe",
    }


def measured_config(report: Report) -> dict[str, Any]:
    """The serving configuration, with the measured false-flag bound of each threat's operating point."""
    l0 = DEFAULTS["l0"] | {"false_flag": false_flag(report.l0, at="the default operating point of the l0 threat")}
    defaults = DEFAULTS | {"l0": l0, "append": union_false_flag(report.append)}
    return serving_config() | {"defaults": defaults, "false_flag": false_flag(report.suffix)}


def model_card(report: Report, recipe: Recipe, *, parameters: int, alphabet: int) -> str:
    """The card in Markdown, every figure from `report`."""
    l0, append = DEFAULTS["l0"], report.append
    masked, one_masked = (min(1.0, beta * alphabet / (alphabet - 1)) for beta in (DEFAULTS["beta"], l0["beta"]))
    return _CARD.format(
        name=NAME,
        parameters=parameters,
        steps=recipe.steps,
        seed=recipe.seed,
        batch=recipe.batch,
        faintest=FAINTEST,
        max_sigma=MAX_SIGMA,
        max_text_rate=MAX_TEXT_RATE,
        alpha=ALPHA,
        accuracy="\n".join(map(_accuracy_row, report.accuracy)),
        alone="\n".join(map(_alone_row, report.alone)),
        sigma=DEFAULTS["sigma"],
        beta=DEFAULTS["beta"],
        slots=DEFAULTS["slots"],
        tau=DEFAULTS["tau"],
        alphabet=alphabet,
        passes=report.suffix.passes,
        suffix=_point_rows(report.suffix),
        all_masked=masked ** DEFAULTS["slots"],
        l0_beta=l0["beta"],
        l0_tau=l0["tau"],
        l0=_point_rows(report.l0),
        one_masked=one_masked,
        needed=l0["tau"] / one_masked,
        characters=append.rule.characters,
        flags=append.rule.flags,
        union_passes=append.rule.passes,
        union=append.flagged,
        union_scenes=append.scenes,
        union_at_most=_rounded_up(append.at_most(ALPHA)),
        by_characters=", ".join(f"{k}: {append.within[k]}" for k in range(0, len(append.within), 5)),
        held_out_seed=HELD_OUT_SEED,
    )

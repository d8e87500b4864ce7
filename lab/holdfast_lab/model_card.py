"""The model card of the reference guard, written from its measurement."""

import math
from typing import Any, Final

from holdfast_lab.evaluation import HELD_OUT_SEED
from holdfast_lab.export import ALPHA, DEFAULTS, NAME
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

## Operating point
σ={sigma}, β={beta} (uniform over all {alphabet} ordinary tokens) on {slots} slots, τ={tau}.
Each held-out example is judged by {passes} noisy passes and flagged when more than τ of them say Unsafe.

- False flags: {safe_flagged} of {safe} Safe examples, a rate of at most {rate_at_most} (Clopper–Pearson, α={alpha}).
- Detection: {unsafe_flagged} of {unsafe} Unsafe examples; median share of Unsafe passes {unsafe_median:.3f}.

All eight slots are masked in {all_masked:.0%} of the passes, so τ={tau} leaves room for a certificate at eight tokens.

## Limits
- On anything but the drawn task, photographs and other requests included, the verdict means nothing; it is still
  a fixed function of its input, so that certificates about it hold.
- The false-flag bound speaks of the drawn scenes and wordings, at exactly this noise.
- The held-out wordings recombine phrases that were trained on; they contain no new verbs.
- English only; the requests in training are shorter than 100 bytes.

Licence: Apache-2.0. Measured on the streams of seed {held_out_seed}.
"""


def _accuracy_row(score: Score) -> str:
    return f"| {score.name} | {score.share:.4f} | {score.total} | {math.floor(score.at_least * 1e4) / 1e4:.4f} |"


def _alone_row(score: Score) -> str:
    return f"| {score.name} | {score.share:.3f} | {score.total} |"


def rate_at_most(point: OperatingPoint) -> float:
    """The false-flag bound to four digits, rounded up."""
    return math.ceil(point.false_flags_at_most * 1e4) / 1e4


def false_flag(point: OperatingPoint) -> dict[str, Any]:
    """The measured false-flag bound as `holdfast.json` carries it."""
    return {
        "rate_at_most": rate_at_most(point),
        "alpha": ALPHA,
        "scenes": point.safe,
        "flagged": point.safe_flagged,
        "measured_on": (
            f"held-out drawn scenes and wordings, {point.passes} noisy passes each at the default operating point"
        ),
    }


def model_card(report: Report, recipe: Recipe, *, parameters: int, alphabet: int) -> str:
    """The card in Markdown, every figure from `report`."""
    point = report.operating_point
    masked = min(1.0, DEFAULTS["beta"] * alphabet / (alphabet - 1))
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
        passes=point.passes,
        safe_flagged=point.safe_flagged,
        safe=point.safe,
        rate_at_most=rate_at_most(point),
        unsafe_flagged=point.unsafe_flagged,
        unsafe=point.unsafe,
        unsafe_median=point.unsafe_median,
        all_masked=masked ** DEFAULTS["slots"],
        held_out_seed=HELD_OUT_SEED,
    )

"""The model card of the reference encoder, written from its measurement."""

import math
from typing import Final

from holdfast_lab.encoder.comparison import table
from holdfast_lab.encoder.export import DEFAULTS, NAME
from holdfast_lab.encoder.report import Report, Score
from holdfast_lab.encoder.training import MAX_SIGMA, Recipe
from holdfast_lab.evaluation import HELD_OUT_SEED
from holdfast_lab.scenes import FAINTEST, Kind

_CARD: Final = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-feature-extraction
---
# {name}

A real but tiny `CLIPVisionModelWithProjection` ({parameters:,} parameters, half-precision safetensors): a 64×64
picture becomes a unit vector of 64 numbers.
**For trying the service, not for use on photographs**: it knows four kinds of drawn objects.

## Task
A picture shows one of: {kinds}.
Pictures are drawn procedurally by `holdfast_lab.scenes`, as for the reference guard; there is no collected data.
Wall, floor, colour, place and size vary, and a haze leaves between {faintest:.0%} and all of the contrast
(log-uniform), so that some scenes drown in the default noise and radii differ from scene to scene.

## Network
CLIP vision tower (4 layers, width 112, 4 heads, patch 16), class token → projection to 64 → unit length.
Nothing rounds or clamps the noisy pixels.
The head `objects` has one unit prototype per kind; the label is the nearest one.

## Training
`holdfast-lab train-reference-encoder --out FOLDER --steps {steps} --seed {seed}`: {steps} AdamW steps of {batch}
scenes under two noises each, from nothing, in some three minutes on one CPU core.
The noise is Gaussian in [0,1] units, σ uniform in [0, {max_sigma}], ramped up over the first 30 % of the steps.
Kind (through the prototypes, under a learned temperature), hazard, wall and colour are read off the feature, and the
cosine between a scene's two features is drawn to 1.

## Accuracy and similarity
One pass per held-out scene; the bound is one-sided Clopper–Pearson at α={alpha}.
S = (1 + ⟨f, u⟩)/2 with u the clean feature.

| σ | accuracy | n | at least | mean S |
|---|---|---|---|---|
{scores}

## Certified radii
{certified} further held-out scenes at σ={sigma}, {draws} draws each, α={alpha} for every method by itself, label from
{selection} separate draws.

{radii}

The first rows speak of the prediction, the last three of the similarity: how far the cosine of the smoothed feature
with the clean one stays at .5. The plug-in row is the published estimate, not a certificate.

## Limits
- On anything but the drawn task the feature means nothing; it is still a fixed function of its input, so that
  certificates about it hold.
- The figures speak of the drawn scenes, at exactly their noise.

Licence: Apache-2.0. Measured on the streams of seed {held_out_seed}.
"""


def _score_row(score: Score) -> str:
    at_least = math.floor(score.at_least * 1e4) / 1e4
    return f"| {score.sigma:g} | {score.share:.4f} | {score.total} | {at_least:.4f} | {score.similarity:.4f} |"


def model_card(report: Report, recipe: Recipe, *, parameters: int) -> str:
    """The card in Markdown, every figure from `report`."""
    return _CARD.format(
        name=NAME,
        parameters=parameters,
        kinds=", ".join(Kind),
        faintest=FAINTEST,
        steps=recipe.steps,
        seed=recipe.seed,
        batch=recipe.batch,
        max_sigma=MAX_SIGMA,
        alpha=DEFAULTS["alpha"],
        scores="\n".join(map(_score_row, report.scores)),
        certified=len(report.rows),
        sigma=DEFAULTS["sigma"],
        draws=report.draws,
        selection=DEFAULTS["selection_draws"],
        radii="\n".join(table(report.rows)),
        held_out_seed=HELD_OUT_SEED,
    )

"""`POST /v1/certifications`: what may be asked; `spec` says what it means once a model's defaults are filled in."""

from typing import Annotated, Literal, Self

from pydantic import FailFast, Field, field_validator, model_validator

from holdfast.contract.base import MAX_DRAWS, MAX_FIELDS, MAX_TAILS, Confidence, Epsilon, ImageData, Sigma, Stop, Strict
from holdfast.contract.models import TokenKernelName

AskedMethod = Literal["auto", "joint", "stratified", "neyman_pearson", "erase_and_check"]
Scope = Literal["shared", "per_budget"]
AskedVerdict = Literal["both", "unsafe", "safe"]
TextThreatKind = Literal["suffix", "append", "l0", "none"]


_MAX_TOKENS = 1024


class Input(Strict):
    """The input to certify: a text, with an image or alone, for a multimodal guard, fields for a tabular one."""

    text: str | None = Field(None, min_length=1, max_length=100_000, repr=False)
    suffix: str = Field(
        "",
        max_length=10_000,
        repr=False,
        description="The untrusted tail, if known: its tokens fill the slots, the filler token the rest.",
    )
    image: ImageData | None = Field(None, repr=False)
    fields: dict[str, str | float] | None = Field(
        None, min_length=1, repr=False, description="Tabular input: a value per field, text for a categorical one."
    )

    @field_validator("fields", mode="before")
    @classmethod
    def _are_few(cls, fields: object) -> object:
        if isinstance(fields, dict) and len(fields) > MAX_FIELDS:
            raise ValueError(f"fields must be at most {MAX_FIELDS}, not {len(fields)}; send those of the model")
        return fields

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        of_text = self.text is not None or self.image is not None or self.suffix != ""
        if (self.text is not None) == (self.fields is not None) or (self.fields is not None and of_text):
            raise ValueError("give text and image, or text alone, or the fields of a tabular guard; not both")
        if "\x00" in (self.text or "") or "\x00" in self.suffix:
            raise ValueError("text and suffix must not contain NUL characters; remove them")
        if self.text is not None and not self.text.strip():
            raise ValueError("text must contain more than white space")
        return self


class TextThreat(Strict):
    """What the attacker does to tokens.

    `suffix`: rewrites the first d of `slots` reserved positions after the text. `append`: appends at most
    `max_characters` code points to the text. `l0`: rewrites any d <= `max_tokens` positions of the text, or any d
    categorical fields of a tabular input. `none`: nothing, the image-only certificate.
    """

    kind: TextThreatKind | None = None
    slots: int | None = Field(None, ge=1, le=_MAX_TOKENS)
    max_tokens: int | None = Field(None, ge=0, le=_MAX_TOKENS)
    max_characters: int | None = Field(None, ge=0, le=_MAX_TOKENS)


class ImageThreat(Strict):
    """`l2`: the attacker shifts the image (or the numeric fields) by at most ε in L2, in the noise space.

    `none`: they stay as they are and get no noise, the text-only certificate.
    """

    norm: Literal["l2", "none"] = "l2"


class Threat(Strict):
    """What the attacker may do."""

    text: TextThreat = TextThreat()
    image: ImageThreat = ImageThreat()


class Noise(Strict):
    """The smoothing noise: token kernel with corruption rate β, Gaussian image noise σ.

    `scope`: `shared` certifies one smoothed guard against every budget; `per_budget` takes for each d the guard that is
    smoothed over the first d slots alone, and shares alpha over them.
    """

    token_kernel: TokenKernelName | None = None
    beta: float | None = Field(None, gt=0, le=1)
    sigma: Sigma | None = None
    scope: Scope = "shared"


class Decision(Strict):
    """A verdict is certified where the smoothed Unsafe probability stays above `tau` (Unsafe) or below it (Safe).

    `verdict` names the verdicts to try for; `both` gives each half of alpha.
    """

    tau: float | None = Field(None, gt=0, lt=1)
    verdict: AskedVerdict = "both"


class Target(Strict):
    """The yes/no question: is a verdict certified against `tokens` attacker tokens and image radius `epsilon`?"""

    tokens: int = Field(ge=0, le=_MAX_TOKENS)
    epsilon: float = Field(0.0, ge=0, le=1e6)


class Sampling(Strict):
    """How many image draws may be spent, by how many tails each is scored in every cell, and when to stop."""

    max_draws: int | None = Field(None, ge=1, le=MAX_DRAWS)
    tails: int | None = Field(None, ge=1, le=MAX_TAILS)
    stop: Stop = "any_time"
    tolerance: float | None = Field(None, ge=0, lt=1)


class CertificationRequest(Strict):
    """The body of `POST /v1/certifications`; everything but `input` has a default per model."""

    model: str = Field("reference-guard", min_length=1, max_length=200)
    input: Input
    threat: Threat = Threat()
    noise: Noise = Noise()
    decision: Decision = Decision()
    confidence: Confidence = Confidence()
    method: AskedMethod = "auto"
    sampling: Sampling = Sampling()
    target: Target | None = None
    epsilons: Annotated[tuple[Epsilon, ...], FailFast()] = Field((0.0, 0.25, 0.5, 1.0), max_length=64)

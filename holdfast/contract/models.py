"""What is served: guards with alphabets, defaults and limits, encoders with features, heads and defaults."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from holdfast.contract.base import MAX_DRAWS, MAX_TAILS, Alpha, Closed, Sigma

TokenKernelName = Literal["uniform", "absorbing"]
FeatureReference = Literal["clean", "direction"]
MeanBoundName = Literal["betting", "empirical_bernstein", "kl", "hoeffding"]
ResizeName = Literal["antialiased_bicubic"]
"""How images come to the size of the noise space: PIL's bicubic filter, antialiased, unrounded."""


class NoiseSpace(Closed):
    """The tensor that image noise is added to; ε and σ are L2 in these units (maths.md §9)."""

    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    range: tuple[float, float] = (0.0, 1.0)

    @property
    def dimensions(self) -> int:
        """How many numbers the tensor has."""
        return self.channels * self.height * self.width


class ImageSpace(NoiseSpace):
    """The units of every radius.

    `input_height` and `input_width` are the image's own, `resize` brings it from there to the noise space, and
    `native_operator_norm` is how far it stretches a difference at most; a little above 1 for the image's own size, as
    floats of pixels are rounded. All four are null where a text alone was certified; numeric fields have no resize.
    """

    resize: ResizeName | None
    input_height: int | None
    input_width: int | None
    native_operator_norm: float | None


class FalseFlag(Closed):
    """The measured false-flag bound of an operating point."""

    rate_at_most: float = Field(ge=0, le=1)
    alpha: float = Field(gt=0, lt=1)
    scenes: int = Field(gt=0)
    flagged: int = Field(ge=0)
    measured_on: str


class L0Defaults(Closed):
    """The operating point of the l0 threat, whose noise falls on the text itself; measured apart."""

    beta: float = Field(gt=0, le=1, description="Corruption rate of a token of the text.")
    tau: float = Field(gt=0, lt=1, description="Flag when the smoothed Unsafe probability exceeds it.")
    false_flag: FalseFlag | None = None


class Defaults(Closed):
    """The operating point that a request gets where it is silent; measured, not copied from a paper."""

    token_kernel: TokenKernelName = "uniform"
    slots: int = Field(8, ge=0, description="Reserved suffix slots m after the text.")
    beta: float = Field(0.25, gt=0, le=1, description="Corruption rate of a slot.")
    sigma: Sigma = Field(0.5, description="Standard deviation of the image noise, [0,1] pixels.")
    tau: float = Field(4.6e-5, gt=0, lt=1, description="Flag when the smoothed Unsafe probability exceeds it.")
    alpha: Alpha = Field(0.01, description="Risk shared by every number of a certificate.")
    max_draws: int = Field(1000, gt=0, le=MAX_DRAWS, description="Most image draws spent on one certificate.")
    tails: int = Field(4, ge=1, le=MAX_TAILS, description="r: tails that score one image draw in every cell.")
    tolerance: float = Field(
        0.1, ge=0, lt=1, description="Stop when twice the draws would raise the radii together by less than this share."
    )
    max_characters: int = Field(20, ge=0, description="C: code points that the attacker of the append threat adds.")
    l0: L0Defaults | None = Field(None, description="Of the l0 threat on text; none: a request must give beta and tau.")
    append: FalseFlag | None = Field(
        None,
        description="What erase-and-check was measured to flag at sigma, tau and max_characters, by any truncation.",
    )


class Limits(Closed):
    """What one request may ask of this model."""

    max_slots: int = Field(ge=0)
    max_text_bytes: int = Field(gt=0, description="UTF-8 bytes of text and suffix that always fit the context.")
    max_tokens: int = Field(8, ge=0, description="Largest token budget d of the l0 threat.")
    token_kernels: tuple[TokenKernelName, ...] = ("uniform",)


class Cost(Closed):
    """What draws cost on the device that serves the model, as its worker measured it.

    `prefill_s`: seconds of an image draw up to its tails. `position_s`: seconds of one tail position. `closing`:
    positions of a tail behind its slots. `room`: draws of a default request that fill one forward pass.
    """

    prefill_s: float = Field(ge=0)
    position_s: float = Field(ge=0)
    closing: int = Field(ge=0)
    room: int = Field(gt=0)

    def draw_s(self, *, tails: int, slots: int) -> float:
        """Seconds of one image draw with so many tails in all, of so many slots each."""
        return self.prefill_s + tails * (slots + self.closing) * self.position_s


class FieldInfo(Closed):
    """A field of a tabular input: categorical with these values, or numeric without any."""

    name: str = Field(min_length=1)
    values: tuple[str, ...] = ()


class GuardInfo(Closed):
    """One served guard, as `GET /v1/models/{name}` answers it."""

    name: str
    kind: Literal["hybrid", "tabular"] = "hybrid"
    fingerprint: str
    space: NoiseSpace = Field(description="The image's tensor, or (1, 1, n) for n standardised numeric fields.")
    alphabets: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        min_length=1, description="Replacement values V of the uniform kernel: the tokens', or each field's own."
    )
    fields: tuple[FieldInfo, ...] = Field((), description="The fields of a tabular input, in the model's order.")
    text_alone: bool = Field(False, description="Whether it answers a text without an image, as its operator declares.")
    defaults: Defaults
    limits: Limits
    tie_band: float = Field(
        ge=0,
        description="b: a vote whose margin is at most this far from a tie counts against whichever side claims."
        " Margins move with the company of a batch, by no more as is assumed; `holdfast models check` measures.",
    )
    cost: Cost | None = Field(None, description="What draws cost, as measured; null where nothing was.")
    false_flag: FalseFlag | None = None
    notes: tuple[str, ...] = Field((), description="What every certificate must say of this guard, in its notice.")


class EncoderDefaults(Closed):
    """What a request gets where it is silent."""

    sigma: Sigma = Field(0.25, description="Standard deviation of the image noise, [0,1] pixels.")
    alpha: Alpha = Field(0.001, description="Risk shared by every number of a feature certificate.")
    draws: int = Field(10_000, gt=0, le=1_000_000, description="Noisy passes that are scored.")
    selection_draws: int = Field(
        100,
        gt=0,
        le=100_000,
        description="Separate noisy passes that fix the label and, where asked, the reference direction.",
    )
    reference: FeatureReference = Field(
        "clean", description="What similarity is measured to: the clean feature, or the smoothed feature's direction."
    )
    embedding_draws: int = Field(
        8, gt=0, le=1024, description="n0: noisy passes that a smoothed embedding is the mean of."
    )
    embedding_alpha: Alpha = Field(0.05, description="Risk of an embedding's similarity bounds.")


class HeadInfo(Closed):
    """A registered classification head on the feature.

    `prototypes`: unit prototypes, the label is the nearest. `linear`: rows of any length and a bias.
    """

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    fingerprint: str
    kind: Literal["prototypes", "linear"]
    classes: tuple[str, ...] = Field(min_length=2)
    clip: float = Field(gt=0, le=1, description="c: margins are clipped at ±c where the clipped mean is certified.")


class EncoderInfo(Closed):
    """One served encoder, as `GET /v1/models/{name}` answers it."""

    name: str
    kind: Literal["encoder"] = "encoder"
    fingerprint: str
    space: NoiseSpace = Field(description="The tensor that noise is added to.")
    dimension: int = Field(gt=0, description="Length of a feature, a unit vector.")
    token_shape: tuple[int, int] = Field(description="Tokens and their width, of a token-level embedding.")
    denoiser: Literal["none", "booster", "diffusion"] = "none"
    mapper: bool = False
    heads: tuple[HeadInfo, ...] = ()
    defaults: EncoderDefaults = EncoderDefaults()


ServedModel = Annotated[GuardInfo | EncoderInfo, Field(discriminator="kind")]
_SERVED: TypeAdapter[GuardInfo | EncoderInfo] = TypeAdapter(ServedModel)


class ModelList(Closed):
    """The answer of `GET /v1/models`."""

    models: tuple[ServedModel, ...]


def served_model(content: object) -> GuardInfo | EncoderInfo:
    """Reads a model's description, as a worker's lease or `GET /v1/models/{name}` has it."""
    return _SERVED.validate_python(content)

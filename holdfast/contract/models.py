"""What is served: a guard's name, fingerprint, noise space, alphabet, defaults and limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Defaults",
    "FalseFlag",
    "FieldInfo",
    "GuardInfo",
    "L0Defaults",
    "Limits",
    "NoiseSpace",
    "TokenKernelName",
]

TokenKernelName = Literal["uniform", "absorbing"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoiseSpace(_Frozen):
    """The tensor that image noise is added to; ε and σ are L2 in these units (maths.md §9)."""

    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    range: tuple[float, float] = (0.0, 1.0)


class FalseFlag(_Frozen):
    """The measured false-flag bound of the default operating point."""

    rate_at_most: float = Field(ge=0, le=1)
    alpha: float = Field(gt=0, lt=1)
    scenes: int = Field(gt=0)
    flagged: int = Field(ge=0)
    measured_on: str


class L0Defaults(_Frozen):
    """The operating point of the l0 threat, whose noise falls on the text itself; measured apart."""

    beta: float = Field(gt=0, le=1, description="Corruption rate of a token of the text.")
    tau: float = Field(gt=0, lt=1, description="Flag when the smoothed Unsafe probability exceeds it.")
    false_flag: FalseFlag | None = None


class Defaults(_Frozen):
    """The operating point that a request gets where it is silent; measured, not copied from a paper."""

    token_kernel: TokenKernelName = "uniform"
    slots: int = Field(8, ge=0, description="Reserved suffix slots m after the text.")
    beta: float = Field(0.25, gt=0, le=1, description="Corruption rate of a slot.")
    sigma: float = Field(0.5, gt=0, description="Standard deviation of the image noise, [0,1] pixels.")
    tau: float = Field(4.6e-5, gt=0, lt=1, description="Flag when the smoothed Unsafe probability exceeds it.")
    alpha: float = Field(0.01, gt=0, le=0.5, description="Risk shared by every number of a certificate.")
    max_passes: int = Field(9000, gt=0, description="Most noisy passes spent on one certificate.")
    tolerance: float = Field(0.02, ge=0, lt=1, description="Stop when no radius can grow by more than this share.")
    l0: L0Defaults | None = Field(None, description="Of the l0 threat on text; none: a request must give beta and tau.")


class Limits(_Frozen):
    """What one request may ask of this model."""

    max_slots: int = Field(ge=0)
    max_text_bytes: int = Field(gt=0, description="UTF-8 bytes of text and suffix that always fit the context.")
    max_tokens: int = Field(8, ge=0, description="Largest token budget d of the l0 threat.")
    token_kernels: tuple[TokenKernelName, ...] = ("uniform",)


class FieldInfo(_Frozen):
    """A field of a tabular input: categorical with these values, or numeric without any."""

    name: str = Field(min_length=1)
    values: tuple[str, ...] = ()


class GuardInfo(_Frozen):
    """One served guard, as `GET /v1/models/{name}` answers it."""

    name: str
    kind: Literal["hybrid", "tabular"] = "hybrid"
    fingerprint: str
    space: NoiseSpace = Field(description="The image's tensor, or (1, 1, n) for n standardised numeric fields.")
    alphabets: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        min_length=1, description="Replacement values V of the uniform kernel: the tokens', or each field's own."
    )
    fields: tuple[FieldInfo, ...] = Field((), description="The fields of a tabular input, in the model's order.")
    defaults: Defaults
    limits: Limits
    false_flag: FalseFlag | None = None
    notes: tuple[str, ...] = Field((), description="What every certificate must say of this guard, in its notice.")

"""`POST /v1/certifications`: what may be asked, and what it means once a model's defaults are filled in."""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from holdfast.contract.models import Defaults, FalseFlag, ModelInfo, NoiseSpace, TokenKernelName
from holdfast.contract.problems import FieldError, InvalidValueError

__all__ = [
    "CertificationRequest",
    "CertificationSpec",
    "Confidence",
    "Decision",
    "ImageData",
    "ImageThreat",
    "Input",
    "Noise",
    "Sampling",
    "TextThreat",
    "Threat",
    "resolve",
]

T = TypeVar("T")
Method = Literal["auto", "stratified"]
Stop = Literal["any_time", "fixed"]


_MAX_FIELDS = 100


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, fields: object) -> object:
        if isinstance(fields, dict) and len(fields) > _MAX_FIELDS:  # each unknown one would cost an error of its own
            raise ValueError(f"an object must have at most {_MAX_FIELDS} fields, not {len(fields)}")
        return fields


class ImageData(_Strict):
    """An image by value; never by URL."""

    data: str = Field(min_length=1, repr=False, description="Base64 of a PNG, JPEG or WebP file.")


class Input(_Strict):
    """The input to certify."""

    text: str = Field(min_length=1, max_length=100_000, repr=False)
    suffix: str = Field(
        "",
        max_length=10_000,
        repr=False,
        description="The untrusted tail, if known: its tokens fill the slots, the filler token the rest.",
    )
    image: ImageData = Field(repr=False)

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        if "\x00" in self.text or "\x00" in self.suffix:
            raise ValueError("text and suffix must not contain NUL characters; remove them")
        if not self.text.strip():
            raise ValueError("text must contain more than white space")
        return self


class TextThreat(_Strict):
    """The attacker rewrites the first d of `slots` reserved positions after the text."""

    kind: Literal["suffix"] = "suffix"
    slots: int | None = Field(None, ge=1)


class ImageThreat(_Strict):
    """The attacker shifts the image by at most ε in L2, in the noise space."""

    norm: Literal["l2"] = "l2"


class Threat(_Strict):
    """What the attacker may do."""

    text: TextThreat = TextThreat()
    image: ImageThreat = ImageThreat()


class Noise(_Strict):
    """The smoothing noise: token kernel with corruption rate β, Gaussian image noise σ."""

    token_kernel: TokenKernelName | None = None
    beta: float | None = Field(None, gt=0, le=1)
    sigma: float | None = Field(None, gt=0, le=100)


class Decision(_Strict):
    """Unsafe is certified where the smoothed Unsafe probability stays above `tau`."""

    tau: float | None = Field(None, gt=0, lt=1)


class Confidence(_Strict):
    """`alpha` is the risk of the whole response: all its numbers hold together with 1 - alpha."""

    alpha: float | None = Field(None, gt=0, le=0.5)


class Sampling(_Strict):
    """How many noisy passes may be spent, and when to stop."""

    max_passes: int | None = Field(None, ge=1, le=10_000_000)
    stop: Stop = "any_time"
    tolerance: float | None = Field(None, ge=0, lt=1)


Epsilon = Annotated[float, Field(ge=0, le=1e6)]


class CertificationRequest(_Strict):
    """The body of `POST /v1/certifications`; everything but `input` has a default per model."""

    model: str = Field("reference-guard", min_length=1, max_length=200)
    input: Input
    threat: Threat = Threat()
    noise: Noise = Noise()
    decision: Decision = Decision()
    confidence: Confidence = Confidence()
    method: Method = "auto"
    sampling: Sampling = Sampling()
    epsilons: Annotated[tuple[Epsilon, ...], FailFast()] = Field((0.0, 0.25, 0.5, 1.0), max_length=64)


class CertificationSpec(_Strict):
    """A request without its input, every default filled in: what workers and certifier act on."""

    model: str
    fingerprint: str
    token_kernel: TokenKernelName
    alphabet_size: int
    slots: int
    beta: float
    sigma: float
    tau: float
    alpha: float
    max_passes: int
    stop: Stop
    tolerance: float
    epsilons: tuple[float, ...]
    space: NoiseSpace
    false_flag: FalseFlag | None

    @property
    def cells(self) -> int:
        """Cells of the stratified suffix certificate: k = 0..slots leading masked slots."""
        return self.slots + 1

    @property
    def max_draws(self) -> int:
        """Draws that `max_passes` pays for: a draw is one pass in every cell."""
        return self.max_passes // self.cells


def resolve(request: CertificationRequest, model: ModelInfo) -> CertificationSpec:
    """Fills in the model's defaults and checks what only the model can tell.

    Raises:
        InvalidValueError: a value is outside what this model serves.
    """
    defaults = model.defaults
    spec = CertificationSpec(
        model=model.name,
        fingerprint=model.fingerprint,
        token_kernel=_or(request.noise.token_kernel, defaults.token_kernel),
        alphabet_size=model.alphabet_size,
        slots=_or(request.threat.text.slots, defaults.slots),
        beta=_or(request.noise.beta, defaults.beta),
        sigma=_or(request.noise.sigma, defaults.sigma),
        tau=_or(request.decision.tau, defaults.tau),
        alpha=_or(request.confidence.alpha, defaults.alpha),
        max_passes=_or(request.sampling.max_passes, defaults.max_passes),
        stop=request.sampling.stop,
        tolerance=_or(request.sampling.tolerance, defaults.tolerance),
        epsilons=tuple(sorted(set(request.epsilons))),
        space=model.space,
        false_flag=None,
    )
    errors = tuple(_violations(request, spec, model))
    if errors:
        raise InvalidValueError("; ".join(error.message for error in errors), errors=errors)
    return spec.model_copy(update={"false_flag": model.false_flag}) if _at_defaults(spec, defaults) else spec


def _at_defaults(spec: CertificationSpec, defaults: Defaults) -> bool:
    """Whether the measured false-flag bound speaks of this smoothed guard and threshold."""
    names = ("token_kernel", "slots", "beta", "sigma", "tau")
    return all(getattr(spec, name) == getattr(defaults, name) for name in names)


def _or(asked: T | None, default: T) -> T:
    return default if asked is None else asked


def _violations(request: CertificationRequest, spec: CertificationSpec, model: ModelInfo) -> list[FieldError]:
    found = []
    limits = model.limits
    text_bytes = len(request.input.text.encode()) + len(request.input.suffix.encode())
    highest_beta = (spec.alphabet_size - 1) / spec.alphabet_size
    if text_bytes > limits.max_text_bytes:
        found.append(
            (
                "input.text",
                f"text and suffix of {text_bytes} bytes must be at most {limits.max_text_bytes} bytes"
                f" for model {model.name}; shorten it",
            )
        )
    if spec.slots > limits.max_slots:
        found.append(
            (
                "threat.text.slots",
                f"slots={spec.slots} must be at most {limits.max_slots} for model {model.name}; ask for fewer",
            )
        )
    if spec.token_kernel not in limits.token_kernels:
        found.append(
            (
                "noise.token_kernel",
                f"token_kernel={spec.token_kernel} must be one of"
                f" {', '.join(limits.token_kernels)} for model {model.name}",
            )
        )
    if spec.token_kernel == "uniform" and spec.beta > highest_beta:
        found.append(
            (
                "noise.beta",
                f"beta={spec.beta} must be at most (V-1)/V={highest_beta} for an alphabet"
                f" of {spec.alphabet_size}; lower beta or use the absorbing kernel",
            )
        )
    if spec.max_passes < spec.cells:
        found.append(
            (
                "sampling.max_passes",
                f"max_passes={spec.max_passes} must be at least {spec.cells}, one pass in every cell; raise it",
            )
        )
    return [FieldError(path=path, message=message) for path, message in found]

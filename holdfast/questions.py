"""Every translation between what was asked (spec), what decides the numbers (question) and what is issued, once.

Gateway, certifier, workers and replay all come through here. The verifier does not: it reads a certificate by itself
(`holdfast.certificates.guard.reading`, `holdfast.certificates.features.reading`), so that a slip here is found there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.certificates import Cell, FeatureQuestion, Question
from holdfast.certificates.document.canonical import canonical_json
from holdfast.certificates.noise.version import SAMPLER
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.spec import EmbeddingSpec, FeatureSpec
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import Target
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import ImageSpace, NoiseSpace


@dataclass(frozen=True)
class Identity:
    """What an input is, however it was sent.

    Attributes:
        size: The image's (height, width), (0, 0) of none.
        pixels_sha256: Digest of the decoded image; empty of none.
        text: The text.
        suffix: The untrusted tail.
        fields: The fields of a tabular input.
    """

    size: tuple[int, int]
    pixels_sha256: str
    text: str = ""
    suffix: str = ""
    fields: Mapping[str, str | float] | None = None


def question_of(spec: GuardSpec, *, operator_norm: float = 1.0) -> Question:
    """The parameters that decide the numbers of a guard's certificate.

    Args:
        spec: What was asked.
        operator_norm: Of the resize from the image's own size to the noise space, rounded up.
    """
    return Question(
        text=spec.text,
        tabular=spec.kind == "tabular",
        slots=spec.slots,
        max_tokens=spec.max_tokens,
        cells=tuple(Cell(*cell) for cell in spec.cells),
        per_budget=spec.scope == "per_budget",
        tails=spec.tails,
        token_kernel=spec.token_kernel,
        beta=spec.beta,
        alphabets=spec.alphabets,
        sigma=spec.sigma,
        tau=spec.tau,
        alpha=spec.alpha,
        sides=("unsafe", "safe") if spec.verdict == "both" else (spec.verdict,),
        method=spec.method,
        bound="any_time" if spec.stop == "any_time" else "clopper_pearson",
        target=None if spec.target is None else (spec.target.tokens, spec.target.epsilon),
        epsilons=spec.epsilons,
        operator_norm=operator_norm,
        dimensions=spec.space.dimensions,
    )


def spec_of(certificate: Certificate) -> GuardSpec:
    """What a guard's certificate was asked for, as far as it decides the draws."""
    noise, threat, target = certificate.noise, certificate.threat, certificate.target
    return GuardSpec(
        model=certificate.model.name,
        fingerprint=certificate.model.fingerprint,
        kind=certificate.kind,
        text=threat.text,
        slots=threat.slots,
        max_tokens=threat.max_tokens,
        token_kernel=noise.token_kernel,
        alphabets=certificate.space.alphabets,
        beta=noise.beta,
        sigma=noise.sigma,
        scope=noise.scope,
        tau=certificate.tau,
        verdict=certificate.asked_verdict,
        alpha=certificate.evidence.alpha,
        method=certificate.method,
        max_draws=certificate.evidence.draws,
        tails=certificate.evidence.tails,
        stop="any_time" if certificate.evidence.bound == "any_time" else "fixed",
        tolerance=0.0,
        target=None if target is None else Target(tokens=target.tokens, epsilon=target.epsilon),
        epsilons=(),
        space=_noise_space(certificate.space),
        tie_band=certificate.evidence.tie_band,
        false_flag=None,
    )


def feature_question_of(
    spec: FeatureSpec, *, label: int | None = None, prototypes: bool = False, operator_norm: float = 1.0
) -> FeatureQuestion:
    """The parameters that decide the numbers of an encoder's certificate.

    Args:
        spec: What was asked.
        label: The class whose prediction is certified; before it is known any will do, as progress speaks of none.
        prototypes: Whether the head is one of prototypes, so that the reference's cosines are evidence too.
        operator_norm: Of the resize from the image's own size to the noise space, rounded up.
    """
    return FeatureQuestion(
        sigma=spec.sigma,
        alpha=spec.alpha,
        statements=spec.statements,
        mean_bound=spec.mean_bound,
        horizon=spec.draws,
        epsilons=spec.epsilons,
        cosine_floors=spec.cosine_floors,
        target=None if spec.target is None else (spec.target.epsilon, spec.target.cosine),
        rivals=spec.rivals,
        label=None if spec.head is None else label or 0,
        prototypes=prototypes,
        embedding=None if spec.embedding is None else (spec.embedding.draws, spec.embedding.alpha),
        fixed=spec.stop == "fixed",
        operator_norm=operator_norm,
        dimensions=spec.space.dimensions,
    )


def feature_spec_of(certificate: FeatureCertificate) -> FeatureSpec:
    """What an encoder's certificate was asked for, as far as it decides the draws and what is counted of them."""
    evidence, embedding = certificate.evidence, certificate.embedding
    return FeatureSpec(
        model=certificate.model.name,
        fingerprint=certificate.model.fingerprint,
        sigma=certificate.sigma,
        reference=certificate.reference,
        epsilons=(),
        cosine_floors=(),
        head=None if certificate.prediction is None else certificate.prediction.head,
        mean_bound=evidence.mean_bound,
        alpha=evidence.alpha,
        draws=evidence.horizon,
        selection_draws=max(1, evidence.selection_passes),
        stop="fixed" if "feature_cdf" in evidence.alpha_split else "any_time",
        tolerance=0.0,
        target=None,
        embedding=None
        if embedding is None
        else EmbeddingSpec(draws=embedding.draws, tokens=embedding.tokens, alpha=embedding.alpha),
        space=_noise_space(certificate.space),
        dimension=certificate.dimension,
    )


def guard_encoding(spec: GuardSpec, given: Identity) -> bytes:
    """The one spelling of a whole question to a guard: what f, its noise and the choice of events depend on.

    Questions of one spelling may get the same draws: they are about the same events, and one answer holds where the
    other does (maths.md §12). So it leaves out alpha, whose shares are fixed fractions, tau, the tolerance, the most
    draws and the epsilons, as the bounds hold at every number of draws. A bound for a fixed number has that number in
    it.
    """
    return _encoded(
        spec.fingerprint,
        given,
        kind=spec.kind,
        threat=[spec.text, spec.slots, spec.max_tokens, spec.sigma > 0],
        noise=[spec.token_kernel, spec.beta, spec.sigma, spec.scope, list(spec.alphabets)],
        method=spec.method,
        cells=[list(cell) for cell in spec.cells],
        votes=[spec.tails, spec.tie_band],
        target=None if spec.target is None else [spec.target.tokens, spec.target.epsilon],
        sides=spec.verdict,
        bound=[spec.stop, spec.max_draws if spec.stop == "fixed" else None],
    )


def encoder_encoding(spec: FeatureSpec, given: Identity) -> bytes:
    """The one spelling of a whole question to an encoder: what f, its noise and the choice of events depend on.

    As `guard_encoding`, but bets are made for a planned number of draws and for one alpha, so that their events do not
    nest: both are in it wherever a mean is bounded by betting.
    """
    embedding = spec.embedding
    bets = spec.mean_bound == "betting" and embedding is None
    return _encoded(
        spec.fingerprint,
        given,
        kind=spec.kind,
        noise=spec.sigma,
        reference=[spec.reference, spec.selection_draws],
        head=None if spec.head is None else spec.head.model_dump(mode="json"),
        statements=list(spec.statements),
        bound=[spec.stop, spec.mean_bound, spec.draws],
        bets=spec.alpha if bets else None,
        target=None if spec.target is None else [spec.target.epsilon, spec.target.cosine],
        embedding=None if embedding is None else [embedding.draws, embedding.tokens],
    )


def _encoded(fingerprint: str, given: Identity, **deciding: object) -> bytes:
    image, words = [*given.size, given.pixels_sha256], [given.text, given.suffix, given.fields]
    return canonical_json({"sampler": SAMPLER, "model": fingerprint, "image": image, "words": words, **deciding})


def _noise_space(space: ImageSpace) -> NoiseSpace:
    """The tensor's own part of a certificate's space."""
    return NoiseSpace(channels=space.channels, height=space.height, width=space.width, range=space.range)

"""The certificate: evidence, parameters and frontier in the words of the contract."""

from datetime import UTC, datetime
from importlib.metadata import version

from holdfast.certificates import passes_to_detect, worst_case
from holdfast.contract.certificates import (
    CellEvidence,
    Certificate,
    Evidence,
    FrontierPoint,
    ModelRef,
    NoiseUsed,
    Space,
    Stopped,
    ThreatUsed,
    WorstCase,
)
from holdfast.contract.requests import CertificationSpec
from holdfast.queue.jobs import JobRecord
from holdfast_service.certifier.evidence import Assessment, bound_name, kernel_of

__all__ = ["write"]


def write(record: JobRecord, found: Assessment, stopped: Stopped) -> Certificate:
    """The certificate of a job whose sampling has stopped."""
    spec = record.spec
    certified = [tokens for tokens, radius in enumerate(found.frontier) if radius is not None]
    return Certificate(
        id=record.id,
        created_at=record.created_at,
        finished_at=datetime.now(UTC),
        verdict="unsafe" if certified else "abstained",
        frontier=tuple(
            FrontierPoint(tokens=tokens, radius=radius, method=None if radius is None else "stratified")
            for tokens, radius in enumerate(found.frontier)
        ),
        max_tokens=max(certified, default=None),
        worst_case=_worst_case(spec, found),
        evidence=_evidence(spec, found, stopped),
        threat=ThreatUsed(slots=spec.slots),
        noise=NoiseUsed(token_kernel=spec.token_kernel, beta=spec.beta, sigma=spec.sigma),
        tau=spec.tau,
        space=Space(
            **spec.space.model_dump(),
            token_alphabet=spec.alphabet_size,
            input_height=record.input_size[0],
            input_width=record.input_size[1],
        ),
        model=ModelRef(name=spec.model, fingerprint=spec.fingerprint),
        false_flag=spec.false_flag,
        seed=record.seed,
        software=f"holdfast {version('holdfast')}",
        notice=_notice(spec, bool(certified)),
    )


def _worst_case(spec: CertificationSpec, found: Assessment) -> tuple[WorstCase, ...]:
    grid = worst_case(found.lower, kernel=kernel_of(spec), sigma=spec.sigma, epsilons=spec.epsilons)
    return tuple(
        WorstCase(
            tokens=tokens,
            epsilon=epsilon,
            unsafe_probability_at_least=value,
            passes_to_detect=passes_to_detect(value) if value > 0 else None,
        )
        for tokens, epsilon, value in grid
    )


def _evidence(spec: CertificationSpec, found: Assessment, stopped: Stopped) -> Evidence:
    return Evidence(
        passes=found.passes,
        cells=tuple(
            CellEvidence(leading_masked=k, draws=draws, unsafe=unsafe, lower=lower)
            for k, ((draws, unsafe), lower) in enumerate(zip(found.cells, found.lower, strict=True))
        ),
        bound=bound_name(spec),
        alpha=spec.alpha,
        alpha_split={"stratified": 1.0},
        stopped=stopped,
    )


def _notice(spec: CertificationSpec, certified: bool) -> tuple[str, ...]:
    lines = [
        f"The guarantee is for the smoothed guard: the guard under {spec.token_kernel} token noise (beta={spec.beta})"
        f" in {spec.slots} suffix slots and Gaussian image noise (sigma={spec.sigma}), flagged where it says Unsafe"
        f" with probability above tau={spec.tau}; the attacker rewrites the first d slots and shifts the image by at"
        " most the radius, in the L2 norm of the noise space.",
        f"It holds with probability 1 - alpha = {1 - spec.alpha} over the draws, for every number here together.",
    ]
    if not certified:
        lines.append(
            "Not certified: the evidence does not show that the smoothed guard flags this input, attacked or not."
            " This is no certificate of safety."
        )
    return tuple(lines)

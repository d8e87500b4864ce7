"""The synchronous client: submit an input, follow its certification, get and check the certificate."""

import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from holdfast.contract.base import Stop, Strict
from holdfast.contract.features.certificates import FeatureCertificate, feature_certification_from_json
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.certificates import Certificate, certification_from_json
from holdfast.contract.guard.requests import AskedMethod, AskedVerdict, CertificationRequest, Scope, TextThreatKind
from holdfast.contract.jobs import Job, KeySet, Verification
from holdfast.contract.models import EncoderInfo, FeatureReference, GuardInfo, MeanBoundName, ModelList, TokenKernelName
from holdfast_client.asking import ImageFile, given, image_data, request_body
from holdfast_client.certification import Certification, FeatureCertification
from holdfast_client.wire import Wire

__all__ = ["Client"]

C = TypeVar("C", Certificate, FeatureCertificate)

_GUARDS, _ENCODERS = "/v1/certifications", "/v1/feature-certifications"
_EMBEDDING_WAIT_S = 60.0  # the service keeps the answer of `POST /v1/embeddings` back for so long


class Client:
    """A connection to one Holdfast service; a context manager.

    Args:
        base_url: Where the service is; the environment's `HOLDFAST_URL`, then `http://127.0.0.1:8420`, if not given.
        timeout_s: How long one call may take to connect, and to answer.
        transport: How httpx reaches the service; for tests.
    """

    def __init__(
        self, base_url: str | None = None, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._wire = Wire(base_url, timeout_s=timeout_s, transport=transport)

    @property
    def url(self) -> str:
        """The service's URL, without credentials."""
        return self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; certifications go on."""
        self._wire.close()

    def certify(
        self,
        *,
        text: str | None = None,
        image: ImageFile | None = None,
        fields: Mapping[str, str | float] | None = None,
        suffix: str = "",
        model: str | None = None,
        threat: TextThreatKind | None = None,
        image_threat: Literal["l2", "none"] | None = None,
        slots: int | None = None,
        max_tokens: int | None = None,
        token_kernel: TokenKernelName | None = None,
        beta: float | None = None,
        sigma: float | None = None,
        scope: Scope | None = None,
        tau: float | None = None,
        verdict: AskedVerdict | None = None,
        alpha: float | None = None,
        method: AskedMethod | None = None,
        max_passes: int | None = None,
        stop: Stop | None = None,
        tolerance: float | None = None,
        target: tuple[int, float] | None = None,
        epsilons: Sequence[float] | None = None,
    ) -> Certification[Certificate]:
        """Submits one input, text and image or the fields of a tabular one; what is not given gets the default.

        Args:
            text: The text to certify.
            image: The PNG, JPEG or WebP file: its path or its bytes.
            fields: The input of a tabular guard, instead of text and image: a value per field of the model.
            suffix: The untrusted tail of the text, if it is known.
            model: The guard's name.
            threat: What the attacker does to tokens: rewrites a `suffix` of reserved slots, any few tokens of the text
                (`l0`; of a tabular input, categorical fields), or `none` for an image-only certificate.
            image_threat: `l2` shifts of the image (of a tabular input, the numeric fields), or `none` for a text-only
                certificate, without image noise.
            slots: Token positions m after the text that the attacker may rewrite; `suffix` alone.
            max_tokens: The largest token budget d of the frontier; `l0` alone.
            token_kernel: The noise of a token.
            beta: Corruption rate of a token, in (0, 1].
            sigma: Standard deviation of the image noise, [0,1] pixels of the guard's noise space.
            scope: `shared` certifies one smoothed guard against every budget; `per_budget` one per budget.
            tau: Unsafe where the smoothed Unsafe probability stays above it, Safe where below, in (0, 1).
            verdict: The verdict to try for; `both` gives each half of alpha.
            alpha: The risk that any number of the certificate is wrong, in (0, 0.5].
            method: The bound; `auto` takes the better one for each budget.
            max_passes: The most noisy passes to spend.
            stop: `any_time` may stop early; `fixed` spends every pass.
            tolerance: Stop where no radius can grow by more than this share of the largest.
            target: A yes/no question instead of a frontier, answered in far fewer passes: is a verdict certified
                against so many tokens and this image radius, L2 in the noise space?
            epsilons: Image radii to bound the worst-case Unsafe probability at, L2 in the noise space.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses; the class says why.
            ServiceUnreachableError: no service answers.
        """
        asked = given(
            model=model,
            input=given(
                text=text,
                suffix=suffix or None,
                image=None if image is None else image_data(image),
                fields=fields,
            ),
            threat={
                "text": given(kind=threat, slots=slots, max_tokens=max_tokens),
                "image": given(norm=image_threat),
            },
            noise=given(token_kernel=token_kernel, beta=beta, sigma=sigma, scope=scope),
            decision=given(tau=tau, verdict=verdict),
            confidence=given(alpha=alpha),
            method=method,
            sampling=given(max_passes=max_passes, stop=stop, tolerance=tolerance),
            target=None if target is None else {"tokens": target[0], "epsilon": target[1]},
            epsilons=_tuple(epsilons),
        )
        return self._submitted(_GUARDS, CertificationRequest, asked, certification_from_json)

    def certification(self, job_id: str) -> Certification[Certificate]:
        """The handle of a certification that was submitted before."""
        return Certification(self._wire, _GUARDS, job_id, certification_from_json)

    def certify_features(
        self,
        *,
        image: ImageFile,
        model: str | None = None,
        prototypes: str | None = None,
        epsilons: Sequence[float] | None = None,
        cosine_floors: Sequence[float] | None = None,
        sigma: float | None = None,
        reference: FeatureReference | None = None,
        alpha: float | None = None,
        draws: int | None = None,
        selection_draws: int | None = None,
        stop: Stop | None = None,
        tolerance: float | None = None,
        mean_bound: MeanBoundName | None = None,
        target_epsilon: float | None = None,
        target_cosine: float | None = None,
    ) -> FeatureCertification:
        """Submits one image to an encoder; what is not given gets the default.

        Args:
            image: The PNG, JPEG or WebP file: its path or its bytes.
            model: The encoder's name.
            prototypes: A head of the encoder: its prediction is certified too.
            epsilons: Image radii to bound the similarity at, L2 in the noise space.
            cosine_floors: Cosine similarities in [0, 1) whose radius is wanted.
            sigma: Standard deviation of the image noise, [0,1] pixels of the encoder's noise space.
            reference: What similarity is measured to: the `clean` feature, or the smoothed feature's `direction`.
            alpha: The risk that any number of the certificate is wrong, in (0, 0.5].
            draws: The noisy passes that are scored.
            selection_draws: Separate noisy passes that fix the label, and the direction.
            stop: `fixed` takes every pass, as the CDF bound needs; `any_time` may stop early, and has the mean bound.
            tolerance: For `any_time`: stop where no radius can grow by more than this share.
            mean_bound: The confidence bound of a mean; `any_time` needs `betting`.
            target_epsilon: A yes/no question against this image radius, instead of every radius; it is answered at any
                time, unless `stop` says otherwise.
            target_cosine: The floor that the question is about; without one it is about the prediction.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses; the class says why.
            ServiceUnreachableError: no service answers.
        """
        target = given(epsilon=target_epsilon, cosine=target_cosine) or None
        early: Stop | None = None if target is None else "any_time"
        asked = given(
            model=model,
            input={"image": image_data(image)},
            noise=given(sigma=sigma),
            reference=reference,
            epsilons=_tuple(epsilons),
            cosine_floors=_tuple(cosine_floors),
            prototypes=prototypes,
            mean_bound=mean_bound,
            confidence=given(alpha=alpha),
            sampling=given(draws=draws, selection_draws=selection_draws, stop=stop or early, tolerance=tolerance),
            target=target,
        )
        return self._submitted(_ENCODERS, FeatureCertificationRequest, asked, feature_certification_from_json)

    def feature_certification(self, job_id: str) -> FeatureCertification:
        """The handle of a feature certification, or of an embedding, that was submitted before."""
        return Certification(self._wire, _ENCODERS, job_id, feature_certification_from_json)

    def embed(
        self,
        *,
        image: ImageFile,
        model: str | None = None,
        tokens: bool = False,
        sigma: float | None = None,
        draws: int | None = None,
        score_draws: int | None = None,
        epsilons: Sequence[float] | None = None,
        alpha: float | None = None,
        timeout_s: float | None = None,
    ) -> FeatureCertificate:
        """The smoothed embedding of one image, with what holds of such an embedding under attack.

        Args:
            image: The PNG, JPEG or WebP file: its path or its bytes.
            model: The encoder's name.
            tokens: Whether the token-level feature is wanted, for a language model, instead of the pooled one.
            sigma: Standard deviation of the image noise, [0,1] pixels of the encoder's noise space.
            draws: The noisy passes that are averaged.
            score_draws: Separate noisy passes that bound what an attack can do to such an average.
            epsilons: Image radii to bound its similarity at, L2 in the noise space.
            alpha: The risk that a bound does not hold, in (0, 0.5].
            timeout_s: How long to follow the job where the service, which waits for a minute itself, answers with that.

        Returns:
            A certificate whose `embedding` is set.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses, or the embedding failed; the class says why.
            CertificationCancelledError: it was cancelled.
            TimeoutError: it is still running; `feature_certification` follows it further.
            ServiceUnreachableError: no service answers.
        """
        asked = given(
            model=model,
            input={"image": image_data(image)},
            noise=given(sigma=sigma),
            tokens=tokens or None,
            epsilons=_tuple(epsilons),
            confidence=given(alpha=alpha),
            sampling=given(draws=draws, score_draws=score_draws),
        )
        body = request_body(EmbeddingRequest, asked)
        answer = self._wire.send(
            "POST", "/v1/embeddings", feature_certification_from_json, body=body, kept_back_s=_EMBEDDING_WAIT_S
        )
        return self.feature_certification(answer.id).wait(timeout_s) if isinstance(answer, Job) else answer

    def verify(self, certificate: Certificate | FeatureCertificate | Mapping[str, Any]) -> Verification:
        """The service's check of a certificate, its own signature included; `holdfast_client.verify` needs no service.

        Args:
            certificate: The certificate, or its JSON as it was parsed, which may have been altered.
        """
        altered = certificate if isinstance(certificate, Mapping) else certificate.model_dump(mode="json")
        body = json.dumps(dict(altered), allow_nan=False)
        return self._wire.send("POST", "/v1/verify", Verification.model_validate_json, body=body)

    def keys(self) -> KeySet:
        """The public keys that the service's certificates are signed with, the current one and those before it."""
        return self._wire.get("/.well-known/holdfast-keys.json", KeySet.model_validate_json)

    def models(self) -> tuple[GuardInfo | EncoderInfo, ...]:
        """The guards and encoders that are served now."""
        return self._wire.get("/v1/models", ModelList.model_validate_json).models

    def ready(self) -> bool:
        """Whether the service can take work.

        Raises:
            ServiceUnreachableError: no service answers.
        """
        return self._wire.status("/readyz") == httpx.codes.OK

    def _submitted(
        self, path: str, kind: type[Strict], asked: Mapping[str, object], read: Callable[[bytes], Job | C]
    ) -> Certification[C]:
        job = self._wire.send("POST", path, read, body=request_body(kind, asked))
        return Certification(self._wire, path, job.id, read)


def _tuple(numbers: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(numbers)

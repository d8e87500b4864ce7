"""The synchronous client: submit an input, follow its certification, get and check the certificate."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import ValidationError

from holdfast.contract.certificates import Certificate, KeySet, Verification, answer_from_json
from holdfast.contract.encoders import EncoderInfo
from holdfast.contract.models import ModelInfo, TokenKernelName
from holdfast.contract.problems import FieldError, InvalidValueError
from holdfast.contract.requests import CertificationRequest, Method, Scope, Side, Stop, TextThreatKind
from holdfast.contract.served import ModelList
from holdfast_client.certification import Certification
from holdfast_client.wire import Wire

__all__ = ["Client"]


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
        image: str | os.PathLike[str] | bytes | None = None,
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
        verdict: Side | None = None,
        alpha: float | None = None,
        method: Method | None = None,
        max_passes: int | None = None,
        stop: Stop | None = None,
        tolerance: float | None = None,
        target: tuple[int, float] | None = None,
        epsilons: Sequence[float] | None = None,
    ) -> Certification:
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
        file = None if image is None else {"data": _base64(image)}
        question = None if target is None else {"tokens": target[0], "epsilon": target[1]}
        request = _request(
            _given(
                model=model,
                input=_given(text=text, suffix=suffix or None, image=file, fields=fields),
                threat={
                    "text": _given(kind=threat, slots=slots, max_tokens=max_tokens),
                    "image": _given(norm=image_threat),
                },
                noise=_given(token_kernel=token_kernel, beta=beta, sigma=sigma, scope=scope),
                decision=_given(tau=tau, verdict=verdict),
                confidence=_given(alpha=alpha),
                method=method,
                sampling=_given(max_passes=max_passes, stop=stop, tolerance=tolerance),
                target=question,
                epsilons=None if epsilons is None else tuple(epsilons),
            )
        )
        body = request.model_dump_json(exclude_unset=True)
        return self.certification(self._wire.send("POST", "/v1/certifications", answer_from_json, body=body).id)

    def certification(self, job_id: str) -> Certification:
        """The handle of a certification that was submitted before."""
        return Certification(self._wire, job_id)

    def verify(self, certificate: Certificate | Mapping[str, Any]) -> Verification:
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

    def models(self) -> tuple[ModelInfo | EncoderInfo, ...]:
        """The guards and encoders that are served now."""
        return self._wire.get("/v1/models", ModelList.model_validate_json).models

    def ready(self) -> bool:
        """Whether the service can take work.

        Raises:
            ServiceUnreachableError: no service answers.
        """
        return self._wire.status("/readyz") == httpx.codes.OK


def _base64(image: str | os.PathLike[str] | bytes) -> str:
    return base64.b64encode(image if isinstance(image, bytes) else Path(image).read_bytes()).decode()


def _given(**asked: object) -> dict[str, object]:
    """What was asked for: the service knows the defaults of the rest."""
    return {name: value for name, value in asked.items() if value is not None}


def _request(asked: Mapping[str, object]) -> CertificationRequest:
    try:
        return CertificationRequest.model_validate(asked)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
    errors = [FieldError(path=".".join(map(str, part["loc"])), message=part["msg"]) for part in found]
    raise InvalidValueError("; ".join(f"{part.path}: {part.message}" for part in errors), errors=errors)

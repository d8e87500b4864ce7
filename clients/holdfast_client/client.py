"""The synchronous client: submit an input, follow its certification, get and check the certificate."""

from typing import Self, Unpack

import httpx

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.jobs import KeySet, Verification
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast_client import calls
from holdfast_client.calls import FEATURES, GUARD, Place
from holdfast_client.certification import Certification, FeatureCertification
from holdfast_client.service import Service
from holdfast_client.verification import Checkable
from holdfast_client.wire import Wire


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
        self._wire = Wire(Service.at(base_url), timeout_s, transport)

    @property
    def url(self) -> str:
        """The service's URL, without credentials."""
        return self._wire.service.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; certifications go on."""
        self._wire.close()

    def certify(self, **asked: Unpack[CertifyKeywords]) -> Certification[Certificate]:
        """Submits one input, text and image or the fields of a tabular one; what is not given gets the default.

        Args:
            asked: The keywords of `holdfast_client.CertifyKeywords`, whose help explains each one.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses; the class says why.
            ServiceUnreachableError: no service answers.
        """
        return Certification(self._wire, self._wire.run(calls.submit(GUARD, asked)))

    def certification(self, job_id: str) -> Certification[Certificate]:
        """The handle of a certification that was submitted before."""
        return Certification(self._wire, Place(GUARD, job_id))

    def certify_features(self, **asked: Unpack[CertifyFeaturesKeywords]) -> FeatureCertification:
        """Submits one image to an encoder; what is not given gets the default.

        Args:
            asked: The keywords of `holdfast_client.CertifyFeaturesKeywords`, whose help explains each one.

        Raises what `certify` does.
        """
        return Certification(self._wire, self._wire.run(calls.submit(FEATURES, asked)))

    def feature_certification(self, job_id: str) -> FeatureCertification:
        """The handle of a feature certification, or of an embedding, that was submitted before."""
        return Certification(self._wire, Place(FEATURES, job_id))

    def embed(self, *, timeout_s: float | None = None, **asked: Unpack[EmbedKeywords]) -> FeatureCertificate:
        """The smoothed embedding of one image, with what holds of such an embedding under attack.

        Args:
            timeout_s: How long to follow the job where the service, which waits for a minute itself, answers with that.
            asked: The keywords of `holdfast_client.EmbedKeywords`, whose help explains each one.

        Returns:
            A certificate whose `embedding` is set.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses, or the embedding failed; the class says why.
            CertificationCancelledError: it was cancelled.
            TimeoutError: it is still running; `feature_certification` follows it further.
            ServiceUnreachableError: no service answers.
        """
        return self._wire.run(calls.embed(asked, timeout_s))

    def verify(self, certificate: Checkable) -> Verification:
        """The service's check of a certificate, its own signature included; `holdfast_client.verify` needs no service.

        Args:
            certificate: The certificate, its JSON, or that as it was parsed; it may have been altered.
        """
        return self._wire.run(calls.verify(certificate))

    def keys(self) -> KeySet:
        """The public keys that the service's certificates are signed with, the current one and those before it."""
        return self._wire.run(calls.read(calls.KEYS))

    def models(self) -> tuple[GuardInfo | EncoderInfo, ...]:
        """The guards and encoders that are served now."""
        return (self._wire.run(calls.read(calls.MODELS))).models

    def ready(self) -> bool:
        """Whether the service can take work.

        Raises:
            ServiceUnreachableError: no service answers.
        """
        return self._wire.run(calls.ready())

"""The asynchronous client: `Client` with `await`."""

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
from holdfast_client.certification import AsyncCertification, AsyncFeatureCertification
from holdfast_client.service import Service
from holdfast_client.verification import Checkable
from holdfast_client.wire import AsyncWire


class AsyncClient:
    """`Client` with `await`, for use within one event loop; an asynchronous context manager.

    Each method does what `Client`'s does, and raises the same. A call whose task is cancelled gives up its connection;
    what the service has taken goes on, until it is cancelled there.

    Args:
        base_url: Where the service is; the environment's `HOLDFAST_URL`, then `http://127.0.0.1:8420`, if not given.
        timeout_s: How long one call may take to connect, and to answer.
        transport: How httpx reaches the service; for tests.
    """

    def __init__(
        self, base_url: str | None = None, *, timeout_s: float = 30.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._wire = AsyncWire(Service.at(base_url), timeout_s, transport)

    @property
    def url(self) -> str:
        """The service's URL, without credentials."""
        return self._wire.service.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; certifications go on."""
        await self._wire.close()

    async def certify(self, **asked: Unpack[CertifyKeywords]) -> AsyncCertification[Certificate]:
        """`Client.certify`, awaited; help(CertifyKeywords) explains the keywords."""
        return AsyncCertification(self._wire, await self._wire.run(calls.submit(GUARD, asked)))

    def certification(self, job_id: str) -> AsyncCertification[Certificate]:
        """The handle of a certification that was submitted before."""
        return AsyncCertification(self._wire, Place(GUARD, job_id))

    async def certify_features(self, **asked: Unpack[CertifyFeaturesKeywords]) -> AsyncFeatureCertification:
        """`Client.certify_features`, awaited; help(CertifyFeaturesKeywords) explains the keywords."""
        return AsyncCertification(self._wire, await self._wire.run(calls.submit(FEATURES, asked)))

    def feature_certification(self, job_id: str) -> AsyncFeatureCertification:
        """The handle of a feature certification, or of an embedding, that was submitted before."""
        return AsyncCertification(self._wire, Place(FEATURES, job_id))

    async def embed(self, *, timeout_s: float | None = None, **asked: Unpack[EmbedKeywords]) -> FeatureCertificate:
        """`Client.embed`, awaited; help(EmbedKeywords) explains the keywords."""
        return await self._wire.run(calls.embed(asked, timeout_s))

    async def verify(self, certificate: Checkable) -> Verification:
        """`Client.verify`, awaited."""
        return await self._wire.run(calls.verify(certificate))

    async def keys(self) -> KeySet:
        """`Client.keys`, awaited."""
        return await self._wire.run(calls.read(calls.KEYS))

    async def models(self) -> tuple[GuardInfo | EncoderInfo, ...]:
        """`Client.models`, awaited."""
        return (await self._wire.run(calls.read(calls.MODELS))).models

    async def ready(self) -> bool:
        """`Client.ready`, awaited."""
        return await self._wire.run(calls.ready())

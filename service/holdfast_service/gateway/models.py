"""The routes of models: what is served."""

from fastapi import APIRouter

from holdfast.contract.models import EncoderInfo, GuardInfo, ModelList, ServedModel
from holdfast.contract.problems import (
    InternalError,
    InvalidValueError,
    LoadingError,
    NotFoundError,
    NoWorkerError,
    QueueUnreachableError,
)
from holdfast.queue.leases import offer, served_models
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.problems import documented
from holdfast_service.gateway.submission import find_model

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", summary="Every served model", responses=documented(InternalError, QueueUnreachableError))
async def list_models(gateway: GatewayOfApp) -> ModelList:
    """The models that a live worker serves, by name; none where no worker lives."""
    served = await served_models(gateway.redis)
    return ModelList(models=tuple(served[name] for name in sorted(served)))


@router.get(
    "/{name}",
    summary="One served model",
    response_model=ServedModel,
    responses=documented(
        NotFoundError, InvalidValueError, InternalError, QueueUnreachableError, LoadingError, NoWorkerError
    ),
)
async def read_model(name: str, gateway: GatewayOfApp) -> GuardInfo | EncoderInfo:
    """A guard's noise space, alphabet, defaults and limits, or an encoder's feature, heads and defaults."""
    return find_model(await offer(gateway.redis), name)

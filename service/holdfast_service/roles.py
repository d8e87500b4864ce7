"""The roles of this package, `gateway` and `certifier`; what they run is imported once they run."""

from holdfast.queue.broker import Broker
from holdfast.roles import Role, Serve
from holdfast_service.listening import listen
from holdfast_service.settings import ServiceSettings


def _start_gateway(settings: ServiceSettings) -> Serve:
    listening = listen(settings.host, settings.port)

    async def serve(broker: Broker) -> None:
        from holdfast_service.gateway.app import serve

        await serve(broker, settings, listening)

    return serve


def _start_certifier(settings: ServiceSettings) -> Serve:
    async def serve(broker: Broker) -> None:
        from holdfast_service.certifier.loop import serve

        await serve(broker, settings)

    return serve


GATEWAY = Role(ServiceSettings, _start_gateway)
CERTIFIER = Role(ServiceSettings, _start_certifier)

"""Server-sent events: reading them, and resuming a stream that was lost."""

from dataclasses import dataclass

from holdfast.contract.jobs import Closing
from holdfast_client import service
from holdfast_client.errors import ServiceStoppedError


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event; `id` resumes after it, where it has one."""

    id: str
    name: str
    data: str


class Following:
    """How far a stream has been read, over all the connections that it took."""

    def __init__(self) -> None:
        self._last_id = ""
        self._fields: dict[str, list[str]] = {}
        self._pauses = iter(service.PATIENTLY_S)

    def headers(self) -> dict[str, str]:
        """What the next connection asks with: all that comes after the last event seen."""
        self._fields = {}  # an event that was cut short is dropped
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last_id} if self._last_id else {})

    def read(self, line: str) -> ServerEvent | None:
        """The event that this line completes (WHATWG HTML, section 9.2.6).

        Raises:
            ServiceStoppedError: the service ends, and forgets the job.
        """
        if line:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        self._last_id = fields.get("id", [self._last_id])[-1] or self._last_id
        self._pauses = iter(service.PATIENTLY_S)
        event = ServerEvent(fields.get("id", [""])[-1], fields.get("event", ["message"])[-1], "\n".join(fields["data"]))
        if event.name != "closing":
            return event
        if (closing := Closing.model_validate_json(event.data)).lost:
            raise ServiceStoppedError(
                f"the service has stopped, and {closing.id} is lost with its in-process queue; start it, and submit the"
                " input again"
            )
        return None  # a job that is kept is followed further, where the next connection leads

    def pause_s(self, error: Exception) -> float:
        """How long to wait before the next connection; raises the error where there were enough of them."""
        if (pause := next(self._pauses, None)) is None:
            raise error
        return pause

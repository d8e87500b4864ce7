import inspect

import pytest

from holdfast.queue import keys
from holdfast.queue.broker import connect

FUNCTIONS = dict(inspect.getmembers(keys, inspect.isfunction))
STREAMS_AND_SETS = [keys.ACTIVE_JOBS, keys.TALLY_HINTS, keys.DEAD_ORDERS, keys.WORKERS]


def documented() -> list[str]:
    rows = [line for line in str(keys.__doc__).splitlines() if line.startswith("| `")]
    return [row.split("`")[1] for row in rows]


def template(name: str) -> str:
    (parameter,) = inspect.signature(FUNCTIONS[name]).parameters
    placeholder = "{id}" if parameter.endswith("_id") else f"{{{parameter}}}"
    return str(FUNCTIONS[name](placeholder)).removeprefix(keys.PREFIX)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_protocol_table_has_every_key_of_a_function(name: str) -> None:
    assert template(name) in documented()


def test_the_protocol_table_has_nothing_else() -> None:
    constants = {constant.removeprefix(keys.PREFIX) for constant in STREAMS_AND_SETS}
    assert set(documented()) == {template(name) for name in FUNCTIONS} | constants


def test_a_broker_does_not_show_its_password() -> None:
    assert "secret" not in repr(connect("redis://:secret@localhost"))

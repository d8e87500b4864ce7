import inspect
import re
from importlib.resources import files
from typing import get_args

import pytest

from holdfast.queue import keys, scripts
from holdfast.queue.broker import AsyncRedis, connect

FUNCTIONS = dict(inspect.getmembers(keys, inspect.isfunction))
STREAMS_AND_SETS = [keys.ACTIVE_JOBS, keys.TALLY_HINTS, keys.DEAD_ORDERS, keys.WORKERS]


SCRIPTS = {file.name: file.read_text("utf-8") for file in files("holdfast.queue").iterdir() if file.name[-4:] == ".lua"}


def documented() -> set[str]:
    rows = [line for line in str(keys.__doc__).splitlines() if line.startswith("| `")]
    return {row.split("`")[1] for row in rows}


def template(name: str) -> str:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    placeholders = ["{id}" if parameter.endswith("_id") else f"{{{parameter}}}" for parameter in parameters]
    return str(FUNCTIONS[name](*placeholders)).removeprefix(keys.PREFIX)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_protocol_table_has_every_key_of_a_function(name: str) -> None:
    assert template(name) in documented()


def test_the_protocol_table_has_nothing_else() -> None:
    constants = {constant.removeprefix(keys.PREFIX) for constant in STREAMS_AND_SETS}
    assert documented() == {template(name) for name in FUNCTIONS} | constants | set(SCRIPTS)


def test_the_scripts_that_are_run_are_those_that_are_there() -> None:
    assert {f"{name}.lua" for name in get_args(scripts.Script)} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_names_every_key_and_argument_that_it_uses(name: str) -> None:
    head = " ".join(line.removeprefix("-- ") for line in SCRIPTS[name].splitlines() if line.startswith("--"))
    for kind in ("KEYS", "ARGV"):
        named = head.partition(f"{kind}: ")[2].partition(".")[0].split(", ")
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", SCRIPTS[name])}
        assert used <= set(range(1, len(named) + 1))
        assert len(used) in (0, len(named))


async def test_a_script_survives_a_redis_that_has_forgotten_it(redis: AsyncRedis) -> None:
    stream, target = keys.orders("sha256:0"), keys.DEAD_ORDERS
    await redis.xgroup_create(stream, "group", id="0", mkstream=True)
    for _ in range(2):
        assert await scripts.run(redis, "requeue", [stream, target], "group", "0-1", b"order", 1) == 0
        await redis.script_flush()


def test_a_broker_does_not_show_its_password() -> None:
    assert "secret" not in repr(connect("redis://:secret@localhost"))

"""What goes through the queue comes out as it was, to the last bit, and what has another shape does not."""

import json
from base64 import b64encode
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from holdfast.queue import keys, orders
from holdfast.queue.broker import Broker, connect
from holdfast.queue.orders import Order, Scores, Tally, Votes
from holdfast.queue.settled import Settled

ORDERS, TALLIES = TypeAdapter(Order), TypeAdapter(Tally)
COUNTS = st.integers(0, 2**53)
PLANES = st.binary(max_size=30).map(lambda raw: b64encode(raw).decode())
ANY_ORDER = st.builds(Order, st.text(max_size=30), COUNTS, COUNTS, COUNTS)


VOTED = st.builds(Votes, PLANES, st.none() | PLANES, COUNTS)
SCORES = st.builds(Scores, st.binary(max_size=30).map(lambda raw: raw.hex()), st.none() | COUNTS)
ANY_TALLY = st.builds(Tally, COUNTS, COUNTS, VOTED | SCORES)


@pytest.fixture
def broker() -> Broker:
    """In-process: what Redis itself does with bytes is not the question here."""
    return connect(None)


@given(ANY_ORDER)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    assert ORDERS.validate_json(ORDERS.dump_json(order), strict=True) == order


@given(ANY_TALLY)
def test_a_tally_is_read_as_it_was_written_and_as_the_kind_that_it_was(tally: Tally) -> None:
    read = TALLIES.validate_json(TALLIES.dump_json(tally), strict=True)
    assert read == tally
    assert type(read.found) is type(tally.found)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_TALLY, max_size=5), st.integers(0, 3))
async def test_tallies_are_read_in_the_order_of_their_indexes(broker: Broker, found: list[Tally], first: int) -> None:
    job = f"job{len(found)}-{first}"
    async with broker.client() as client:
        await client.delete(keys.tallies(job))
        for index, tally in reversed(list(enumerate(found))):
            await client.hset(keys.tallies(job), first + index, TALLIES.dump_json(tally))
        assert await orders.read_tallies(client, job, first=first) == found


ORDER = {"job_id": "job", "index": 1, "start": 0, "stop": 8}
VOTES = {"unsafe": "4A==", "near_tie": None, "positions": 0}
SCORED = {"levels": "AAAA", "votes": 3}
TALLY = {"start": 0, "stop": 8, "found": VOTES}
WRONG: list[object] = ["1", 1.5, True, None, [1], {}, float("nan")]


@pytest.mark.parametrize("name", ["index", "start", "stop"])
@pytest.mark.parametrize("value", WRONG)
def test_an_order_of_ill_typed_numbers_is_refused(name: str, value: object) -> None:
    ORDERS.validate_json(json.dumps(ORDER), strict=True)
    with pytest.raises(ValidationError) as refusal:
        ORDERS.validate_json(json.dumps({**ORDER, name: value}), strict=True)
    assert {error["loc"][0] for error in refusal.value.errors()} == {name}


@pytest.mark.parametrize("name", [field.name for field in fields(Order)])
def test_an_order_lacks_nothing(name: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        ORDERS.validate_json(json.dumps({key: value for key, value in ORDER.items() if key != name}), strict=True)


@pytest.mark.parametrize("found", [VOTES, SCORED])
@pytest.mark.parametrize(
    "change",
    [{"colour": "blue"}, {"levels": 3}, {"unsafe": ["0"]}, {"unsafe": None}, {"votes": 1.5}, {"positions": "7"}],
)
def test_what_was_found_has_the_fields_of_one_kind_and_no_other(found: dict[str, Any], change: dict[str, Any]) -> None:
    TALLIES.validate_json(json.dumps({**TALLY, "found": found}), strict=True)
    with pytest.raises(ValidationError):
        TALLIES.validate_json(json.dumps({**TALLY, "found": {**found, **change}}), strict=True)


@pytest.mark.parametrize("name", ["start", "stop"])
@pytest.mark.parametrize("value", [value for value in WRONG if value != 1.5])
def test_a_tally_of_ill_typed_numbers_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError):
        TALLIES.validate_json(json.dumps({**TALLY, name: value}), strict=True)


@given(ANY_TALLY)
def test_an_order_and_its_tally_count_the_same_draws(tally: Tally) -> None:
    assert tally.draws == Order("job", 0, tally.start, tally.stop).draws


UNIT = st.floats(-1, 1)
SEVERAL = st.none() | st.lists(UNIT, max_size=5).map(tuple)


@given(
    st.builds(
        Settled,
        reference=st.binary(max_size=64),
        label=st.none() | st.integers(0, 10**6),
        cosines=SEVERAL,
        distances=SEVERAL,
        embedding=st.binary(max_size=64),
        shape=st.lists(st.integers(1, 4096), max_size=2).map(tuple),
    )
)
def test_what_was_settled_is_read_as_it_was_written(found: Settled) -> None:
    written = found.to_fields()
    assert set(written) == {"reference", "embedding", "numbers"}
    read = Settled.from_fields(written)
    assert {field.name: getattr(read, field.name) for field in fields(Settled)} == {
        field.name: getattr(found, field.name) for field in fields(Settled)
    }


@pytest.mark.parametrize("name", ["reference", "embedding", "numbers"])
def test_what_was_settled_is_whole_or_an_error(name: str) -> None:
    written = Settled(b"\x00" * 4).to_fields()
    del written[name]
    with pytest.raises(KeyError, match=name):
        Settled.from_fields(written)


def test_no_two_keys_of_a_job_are_one() -> None:
    functions = (keys.job, keys.inputs, keys.plan, keys.tallies, keys.settled, keys.events, keys.orders, keys.worker)
    every = [make("active") for make in functions] + [
        keys.ACTIVE_JOBS,
        keys.TALLY_HINTS,
        keys.DEAD_ORDERS,
        keys.WORKERS,
    ]
    assert len(set(every)) == len(every)
    assert all(key.startswith(keys.PREFIX) for key in every)


@given(st.text(min_size=1), st.text(min_size=1))
def test_keys_of_two_jobs_differ(one: str, other: str) -> None:
    if one != other:
        assert keys.job(one) != keys.job(other)
        assert keys.orders(one) != keys.orders(other)


async def test_an_order_of_another_shape_is_an_error_where_it_is_taken(broker: Broker) -> None:
    async with broker.client() as client:
        await orders.open_streams(client, ["sha256:0"])
        written = {"order": json.dumps({**ORDER, "colour": "blue"}), "attempt": 1}
        await client.xadd(keys.orders("sha256:0"), written)
        with pytest.raises(ValidationError, match="colour"):
            await orders.take(client, ["sha256:0"], "worker", count=1, block_ms=None)

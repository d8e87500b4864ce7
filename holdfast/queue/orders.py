"""Draw orders out, tallies back.

An order is a range of draws of one job. It is issued once (by index), delivered
to one worker at a time, and done when its tally is written. The tally is the truth; the `tallies` stream only hints
that there is news.
Every order takes draw indexes that no earlier order of its job had, so no outcome can be seen before its draw is asked
for, and the any-time bounds of maths.md §4 hold whatever the rule that asks.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter
from redis.exceptions import ResponseError

from holdfast.contract.problems import PassFailedError
from holdfast.queue import jobs, keys, scripts
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.leases import live_workers

MAX_ATTEMPTS = 3
_CLOSED = ConfigDict(extra="forbid", allow_inf_nan=False)
_READ_AT_ONCE = 64
_CLAIM_IDLE_MS = 3000  # two claimers cannot take the same order: the first claim resets its idle time


@dataclass(frozen=True)
class Order:
    """Draws [start, stop) of one job, each scored in every cell by every tail where a guard votes."""

    __pydantic_config__ = _CLOSED

    job_id: str
    index: int
    start: int
    stop: int

    @property
    def draws(self) -> int:
        """How many image draws it asks for."""
        return self.stop - self.start


@dataclass(frozen=True)
class Votes:
    """A guard's draws, vote by vote.

    Attributes:
        unsafe: Which passes were Unsafe: a plane of shape (draws, tails, cells), see `holdfast.certificates.packed`.
        near_tie: Which margins were within the guard's band of a tie; None where none was.
        positions: Eligible token positions of the input (the text's tokens under the l0 threat).
    """

    __pydantic_config__ = _CLOSED

    unsafe: str
    near_tie: str | None = None
    positions: int = 0


@dataclass(frozen=True)
class Scores:
    """An encoder's draws, scored.

    Attributes:
        levels: Every draw's score on each channel as a level (`holdfast.certificates.LEVELS`), little-endian uint16 of
            shape (channels, draws) in base64. Each channel is sorted. The channels: reference, then margins by rival
            class, then clipped margins by rival class.
        votes: Draws whose own label was the settled one, where votes are certified.
    """

    __pydantic_config__ = _CLOSED

    levels: str
    votes: int | None = None


@dataclass(frozen=True)
class Tally:
    """The outcome of an order: what its draws [start, stop) came to.

    Attributes:
        start: First draw index.
        stop: One past the last draw index.
        found: A guard's votes or an encoder's scores.
    """

    __pydantic_config__ = _CLOSED

    start: int
    stop: int
    found: Votes | Scores

    @property
    def draws(self) -> int:
        """How many image draws it counts."""
        return self.stop - self.start

    @property
    def votes(self) -> Votes:
        """What a guard's draws came to.

        Raises:
            TypeError: they are an encoder's.
        """
        if not isinstance(self.found, Votes):
            raise TypeError(f"draws {self.start}..{self.stop} were scored, must be votes; run one version everywhere")
        return self.found

    @property
    def scores(self) -> Scores:
        """What an encoder's draws came to.

        Raises:
            TypeError: they are a guard's.
        """
        if not isinstance(self.found, Scores):
            raise TypeError(f"draws {self.start}..{self.stop} are votes, must be scores; run one version everywhere")
        return self.found


_ORDER = TypeAdapter(Order)
_TALLY = TypeAdapter(Tally)


@dataclass(frozen=True)
class Delivery:
    """An order in a worker's hands: where it stands in its stream and how often it was tried."""

    order: Order
    stream: str
    entry: str
    attempt: int


async def open_streams(redis: AsyncRedis, fingerprints: Iterable[str] = ()) -> None:
    """Makes the consumer groups, if they are not there yet."""
    groups = [(keys.TALLY_HINTS, keys.CERTIFIER_GROUP)]
    groups += [(keys.orders(fingerprint), keys.ORDER_GROUP) for fingerprint in fingerprints]
    for stream, group in groups:
        try:
            await redis.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


async def issue(redis: AsyncRedis, fingerprint: str, order: Order) -> bool:
    """Hands the order to the workers of its model; False if it was issued before or its job has ended."""
    touched = [keys.job(order.job_id), keys.plan(order.job_id), keys.orders(fingerprint)]
    return bool(await scripts.run(redis, "issue", touched, order.index, _ORDER.dump_json(order)))


async def take(
    redis: AsyncRedis, fingerprints: Sequence[str], worker_id: str, *, count: int, block_ms: int | None
) -> list[Delivery]:
    """Up to `count` new orders per model; waits `block_ms` for the first, or not at all for None."""
    streams = {keys.orders(fingerprint): ">" for fingerprint in fingerprints}
    answer = await redis.xreadgroup(keys.ORDER_GROUP, worker_id, streams, count=count, block=block_ms)
    return [
        Delivery(
            _ORDER.validate_json(fields[b"order"], strict=True),
            stream.decode(),
            entry.decode(),
            int(fields[b"attempt"]),
        )
        for stream, entries in answer or []
        for entry, fields in entries
    ]


async def complete(redis: AsyncRedis, delivery: Delivery, tally: Tally) -> bool:
    """Writes the tally, hints the certifiers and acknowledges; False if the tally was there or the job has ended."""
    order = delivery.order
    touched = [keys.job(order.job_id), keys.tallies(order.job_id), delivery.stream, keys.TALLY_HINTS]
    written = order.index, _TALLY.dump_json(tally), keys.ORDER_GROUP, delivery.entry, order.job_id
    return bool(await scripts.run(redis, "complete", touched, *written))


async def drop(redis: AsyncRedis, delivery: Delivery) -> None:
    """Acknowledges an order without a tally: its job has ended."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xack(delivery.stream, keys.ORDER_GROUP, delivery.entry)
        pipe.xdel(delivery.stream, delivery.entry)
        await pipe.execute()


async def retry(redis: AsyncRedis, delivery: Delivery, *, reason: str, retention_s: int) -> None:
    """Queues a failed order again; after the third failure moves it to the dead letters and fails its job."""
    order = delivery.order
    if delivery.attempt < MAX_ATTEMPTS:
        target, attempt = delivery.stream, delivery.attempt + 1
    else:
        target, attempt = keys.DEAD_ORDERS, delivery.attempt
    written = keys.ORDER_GROUP, delivery.entry, _ORDER.dump_json(order), attempt
    moved = await scripts.run(redis, "requeue", [delivery.stream, target], *written)
    if moved and target == keys.DEAD_ORDERS:
        await redis.xtrim(keys.DEAD_ORDERS, maxlen=1000, approximate=True)
        detail = f"draws {order.start}..{order.stop} failed {MAX_ATTEMPTS} times, last: {reason}"
        problem = PassFailedError(f"{detail}; see the worker's log, then submit the input again").problem()
        await jobs.finish(redis, order.job_id, "failed", retention_s=retention_s, problem=problem)


async def claim_abandoned(
    redis: AsyncRedis, fingerprint: str, worker_id: str, *, retention_s: int, idle_ms: int = _CLAIM_IDLE_MS
) -> list[Delivery]:
    """Takes over the orders of workers whose lease has run out, never those of another live one.

    Called between batches, when the worker has nothing in hand: orders that still stand under its own name are ones it
    lost, to an outage of the queue say, and come back too.
    """
    stream = keys.orders(fingerprint)
    others = (await live_workers(redis)).keys() - {worker_id}
    holders = (await redis.xpending(stream, keys.ORDER_GROUP))["consumers"]
    claimed = []
    for holder in [holder["name"] for holder in holders if holder["name"].decode() not in others]:
        for pending in await redis.xpending_range(stream, keys.ORDER_GROUP, "-", "+", 1000, consumername=holder):
            entries = await redis.xclaim(stream, keys.ORDER_GROUP, worker_id, idle_ms, [pending["message_id"]])
            for entry, fields in entries:
                attempt = int(fields[b"attempt"]) + pending["times_delivered"]
                delivery = Delivery(
                    _ORDER.validate_json(fields[b"order"], strict=True), stream, entry.decode(), attempt
                )
                if attempt > MAX_ATTEMPTS:
                    reason = "the worker that ran them died or lost the queue"
                    await retry(redis, delivery, reason=reason, retention_s=retention_s)
                else:
                    claimed.append(delivery)
    return claimed


async def read_tallies(redis: AsyncRedis, job_id: str, *, first: int = 0) -> list[Tally]:
    """The tallies of the job's contiguous prefix from order index `first` on (maths.md §4, prefix rule)."""
    prefix: list[Tally] = []
    while True:
        start = first + len(prefix)
        raw = await redis.hmget(keys.tallies(job_id), list(range(start, start + _READ_AT_ONCE)))
        found = list(itertools.takewhile(lambda tally: tally is not None, raw))
        prefix += [_TALLY.validate_json(one, strict=True) for one in found]
        if len(found) < _READ_AT_ONCE:
            return prefix

import asyncio
from contextlib import aclosing

from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Progress
from holdfast.queue import events, jobs
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.events import Event
from tests.queue.builders import RETENTION_S, submit
from tests.waiting import PATIENCE_S


async def history(redis: AsyncRedis, spec: GuardSpec) -> str:
    """A job with two progress events that was cancelled."""
    job = await submit(redis, spec)
    for draws in (9, 18):
        await events.publish(redis, job, Progress(draws=draws, max_draws=90, frontier=(0.5, None)))
    await jobs.finish(redis, job, "cancelled", retention_s=RETENTION_S)
    return job


async def replay(redis: AsyncRedis, job: str, after: str = "0") -> list[Event]:
    return [event async for event in events.follow(redis, job, after=after, wait_s=5) if event is not None]


async def test_events_replay_from_the_start_and_end_with_the_outcome(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await history(redis, spec)
    replayed = await replay(redis, job)
    assert [event.name for event in replayed] == ["progress", "progress", "cancelled"]
    assert Progress.model_validate_json(replayed[0].data).draws == 9
    assert replayed[2].data == events.outcome_data(job, "cancelled")


async def test_events_resume_after_the_one_that_was_seen(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await history(redis, spec)
    replayed = await replay(redis, job)
    assert await replay(redis, job, replayed[0].id) == replayed[1:]


async def test_a_follower_gets_what_comes_later(redis: AsyncRedis, broker: Broker, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    following = asyncio.create_task(replay(redis, job))
    async with broker.client() as other:
        await events.publish(other, job, Progress(draws=9, max_draws=90))
        await asyncio.sleep(0.05)
        await jobs.finish(other, job, "cancelled", retention_s=RETENTION_S)
    assert [event.name for event in await following] == ["progress", "cancelled"]


async def test_a_follower_hears_of_silence(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    async with aclosing(events.follow(redis, job, wait_s=0.05)) as stream:
        assert await asyncio.wait_for(anext(stream), PATIENCE_S) is None


async def test_the_newest_progress_is_found_behind_the_outcome(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await history(redis, spec)
    assert await events.last_progress(redis, job) == Progress(draws=18, max_draws=90, frontier=(0.5, None))
    assert await events.last_progress(redis, await submit(redis, spec)) is None

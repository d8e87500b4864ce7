"""Work in parts: whatever memory holds, all of it is run once and in order, and the limit is remembered."""

from collections.abc import Callable

import pytest
import torch

from holdfast_worker.models.batching import Batching


def cut(work: range, most: int) -> tuple[range, range]:
    return work[:most], work[most:]


def device(room: int) -> tuple[list[int], Callable[[range], list[int]]]:
    """One pass on a device that holds so many draws, and the sizes of those that it was given."""
    sizes: list[int] = []

    def run(part: range) -> list[int]:
        sizes.append(len(part))
        if len(part) > room:
            raise torch.OutOfMemoryError("device full")
        return list(part)

    return sizes, run


@pytest.mark.parametrize("draws", [0, 1, 2, 7, 64, 100])
@pytest.mark.parametrize("room", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize(("limit", "units"), [(1, 1), (8, 1), (100, 1), (100, 7), (5, 9)])
def test_everything_is_run_once_and_in_order(draws: int, room: int, limit: int, units: int) -> None:
    _, run = device(room)
    parts = Batching(limit).parts(range(draws), run, size=len, cut=cut, units=units)
    assert [draw for part in parts for draw in part] == list(range(draws))


def test_a_pass_takes_as_many_draws_as_the_limit_has_room_for() -> None:
    sizes, run = device(1000)
    batching = Batching(21)
    list(batching.parts(range(10), run, size=len, cut=cut, units=5))
    assert (batching.room(5), sizes) == (4, [4, 4, 2])
    assert (batching.room(21), batching.room(22)) == (1, 1)  # a draw that is above the limit is tried all the same


def test_out_of_memory_halves_what_was_tried_and_the_limit_is_remembered() -> None:
    sizes, run = device(3)
    batching = Batching(120)
    list(batching.parts(range(14), run, size=len, cut=cut, units=10))
    assert sizes == [12, 6, 3, 3, 3, 3, 2]
    assert (batching.limit, batching.out_of_memory_total) == (30, 2)
    list(batching.parts(range(5), run, size=len, cut=cut, units=10))
    assert sizes[7:] == [3, 2]
    assert batching.out_of_memory_total == 2


def test_a_limit_that_one_shape_taught_holds_for_others_by_their_units() -> None:
    _, run = device(3)
    batching = Batching(120)
    list(batching.parts(range(12), run, size=len, cut=cut, units=10))
    assert (batching.room(10), batching.room(15), batching.room(1)) == (3, 2, 30)


def test_a_single_draw_that_does_not_fit_is_an_error_and_what_came_before_it_stands() -> None:
    done: list[int] = []

    def run(part: range) -> int:
        if 5 in part:
            raise torch.OutOfMemoryError("device full")
        return part[-1]

    batching = Batching(4)
    with pytest.raises(torch.OutOfMemoryError, match="device full"):
        done.extend(batching.parts(range(9), run, size=len, cut=cut))
    assert done == [3, 4]
    assert (batching.limit, batching.out_of_memory_total) == (1, 2)


def test_another_error_is_not_taken_for_a_full_device() -> None:
    def run(part: range) -> int:
        raise ValueError(f"{len(part)} draws are wrong")

    batching = Batching(4)
    with pytest.raises(ValueError, match="4 draws are wrong"):
        list(batching.parts(range(9), run, size=len, cut=cut))
    assert (batching.limit, batching.out_of_memory_total) == (4, 0)

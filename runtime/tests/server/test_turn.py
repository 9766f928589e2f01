# SPDX-License-Identifier: BSD-3-Clause
"""Turns: one at a time, in order, whatever is cancelled."""

import asyncio
import random

import pytest

from stepwire.server.turn import Turn


def test_turns_come_in_the_order_of_their_requests() -> None:
    async def take_all() -> list[int]:
        turn, taken = Turn(), []

        async def take(number: int) -> None:
            await turn.take()
            taken.append(number)
            await asyncio.sleep(0)
            turn.give_back()

        await asyncio.gather(*(take(number) for number in range(9)))
        return taken

    assert asyncio.run(take_all()) == list(range(9))


@pytest.mark.parametrize("seed", range(40))
def test_cancelled_waiters_neither_keep_nor_lose_the_turn(seed: int) -> None:
    """Tasks take the turn, hold it for some rounds of the loop and are cancelled at random."""
    chance = random.Random(seed)
    holders: list[int] = []

    async def hold(turn: Turn, number: int) -> None:
        await turn.take()
        try:
            holders.append(number)
            assert holders == [number]
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        finally:
            holders.remove(number)
            turn.give_back()

    async def main() -> None:
        turn = Turn()
        tasks = [asyncio.ensure_future(hold(turn, number)) for number in range(20)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            if chance.random() < 0.4:
                chance.choice(tasks).cancel()
        for task in tasks:
            assert task.cancelled() or task.exception() is None
        assert turn.take_now()

    asyncio.run(asyncio.wait_for(main(), 60))

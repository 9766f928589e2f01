# SPDX-License-Identifier: BSD-3-Clause
"""`Pool`: which messages look for memory in all connections."""

import asyncio

import pytest

from stepwire.server.memory import Pool


def test_only_a_large_message_counts_what_clients_have_not_read() -> None:
    # A look at all connections for each reset would make the resets of N sessions cost N² looks.
    looks: list[int] = []

    def count() -> int:
        looks.append(1)
        return pool.limit

    pool = Pool(1)
    pool.count_further = count
    asyncio.run(pool.room(0))
    assert not looks
    assert not pool.take(1)
    assert looks


@pytest.mark.parametrize("size", [1, 100])
def test_a_share_above_the_limit_gets_the_whole_pool(size: int) -> None:
    pool = Pool(1)
    assert pool.take(pool.limit + size)
    assert not pool.take(size)
    assert pool.take(0)
    pool.give_back(pool.limit + size)
    assert pool.take(size)

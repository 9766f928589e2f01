# SPDX-License-Identifier: BSD-3-Clause
"""The end of an event loop, for those who have something left to do on it.

`asyncio.run` announces it to asynchronous generators only (`loop.shutdown_asyncgens`), so for each
loop one of them waits for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet


class _Unfinished(Protocol):
    async def perform_noted_async(self) -> None: ...


_Waiting = tuple["WeakSet[_Unfinished]", AsyncGenerator[None, None]]
_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting]" = WeakKeyDictionary()


def before_the_end(loop: asyncio.AbstractEventLoop, unfinished: _Unfinished) -> None:
    """Have `unfinished.perform_noted_async()` awaited before this running loop is closed."""
    if loop not in _loops:
        everybody: WeakSet[_Unfinished] = WeakSet()
        generator = _wait_for_the_end(everybody)
        with suppress(StopIteration):
            generator.__anext__().send(None)  # up to its `yield`: from here on the loop knows it
        _loops[loop] = (everybody, generator)
    _loops[loop][0].add(unfinished)


async def _wait_for_the_end(everybody: "WeakSet[_Unfinished]") -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for unfinished in list(everybody):
            await unfinished.perform_noted_async()

# SPDX-License-Identifier: BSD-3-Clause
"""How many sessions of an environment may be open at once, in all workers together."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openenv.core.env_server.exceptions import (
    ConcurrencyConfigurationError,
    EnvironmentFactoryError,
)

from stepwire.server.calling import AnyEnvironment
from stepwire.server.factory import EnvironmentFactory
from stepwire.server.workers import new_places

logger = logging.getLogger("stepwire.server")


class Capacity:
    """The requested limit; 1 for a class without `SUPPORTS_CONCURRENT_SESSIONS`."""

    def __init__(self, factory: EnvironmentFactory, requested: int | None, default: int) -> None:
        """Raises `ConcurrencyConfigurationError` when more was requested than the class supports.

        If the class is not known yet, an error is logged instead, once it is known.
        """
        self.places = new_places()
        self._factory = factory
        self._most = default if requested is None else requested
        self._first: asyncio.Future[EnvironmentFactoryError | None] | None = None
        factory.when_known(lambda known: self.places.set_limit(self._limit_of(known)))
        if requested is None or requested == 1:
            return
        if factory.environment_cls is None:
            factory.when_known(self._log_excess)
        elif self.limit < requested:
            raise ConcurrencyConfigurationError(factory.environment_cls.__name__, requested)

    @property
    def limit(self) -> int:
        environment_cls = self._factory.environment_cls
        if environment_cls is None:
            return self.places.limit or self._most
        return self._limit_of(environment_cls)

    def _limit_of(self, environment_cls: type[AnyEnvironment]) -> int:
        return self._most if environment_cls.SUPPORTS_CONCURRENT_SESSIONS else 1

    @property
    def is_known_anywhere(self) -> bool:
        """Whether the limit is final in this worker or in another one."""
        return self.is_known or self.places.limit > 0

    @property
    def is_known(self) -> bool:
        """Whether the limit is final."""
        return self._factory.environment_cls is not None

    @asynccontextmanager
    async def finding_out(self) -> AsyncIterator[None]:
        """Hold this while opening a session before the class is known.

        The first session is opened alone; the others wait for it, and fail if it fails.
        """
        while self._first is not None:
            failure = await asyncio.shield(self._first)
            if failure is not None:
                raise EnvironmentFactoryError(failure.factory_name) from failure
        if self.is_known:
            yield
            return
        self._first = first = asyncio.get_running_loop().create_future()
        failure = None
        try:
            yield
        except EnvironmentFactoryError as error:
            failure = error
            raise
        finally:
            self._first = None
            first.set_result(failure)

    def _log_excess(self, environment_cls: type[AnyEnvironment]) -> None:
        if not environment_cls.SUPPORTS_CONCURRENT_SESSIONS:
            excess = ConcurrencyConfigurationError(environment_cls.__name__, self._most)
            logger.error("%s This server allows one session at a time.", excess)

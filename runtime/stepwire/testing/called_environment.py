# SPDX-License-Identifier: BSD-3-Clause
"""`CalledEnvironment`: an environment that is called as the server calls it."""

import asyncio
from types import TracebackType
from typing import Any, TypeAlias

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action
from typing_extensions import Self

from stepwire.server.calling import CallingConvention, Method

AnyEnvironment: TypeAlias = Environment[Any, Any, Any]


class CalledEnvironment:
    """Awaits `reset_async` and `step_async` where the environment has them; ends with the block.

    As on the server, `reset` gets only the arguments that it accepts.
    """

    def __init__(self, environment: AnyEnvironment) -> None:
        convention = CallingConvention(environment)
        self.inner = environment
        self._reset, self._step = convention.reset, convention.step
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        try:
            self.inner.close()
        finally:
            self._loop.close()

    def reset(self, **arguments: Any) -> Any:
        return self._call(self._reset, (), self._reset.accepted(arguments))

    def step(self, action: Action) -> Any:
        return self._call(self._step, (action,), {})

    @property
    def state(self) -> Any:
        return self.inner.state

    def _call(self, method: Method, arguments: Any, keywords: dict[str, Any]) -> Any:
        result = getattr(self.inner, method.name)(*arguments, **keywords)
        return self._loop.run_until_complete(result) if method.is_async else result

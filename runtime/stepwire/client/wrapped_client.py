# SPDX-License-Identifier: BSD-3-Clause
"""`WrappedClient`: the methods that `SyncEnvClient` of openenv 0.10 calls on the client it wraps.

It runs these coroutines on a loop of its own. They replace those of the framework's `EnvClient`,
which would open a second connection.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from openenv.core.env_server.types import State

from stepwire.client.starting import StartingClient

if TYPE_CHECKING:
    from typing_extensions import Self

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)


class WrappedClient(StartingClient[ActT, ObsT, StateT]):
    """Awaits the public methods of the client."""

    async def _connect_async(self) -> "Self":
        await self.connect()  # which is the client
        return self

    async def _reset_async(self, **kwargs: Any) -> Any:
        return await self.reset(**kwargs)

    async def _step_async(self, action: Any, **kwargs: Any) -> Any:
        return await self.step(action, **kwargs)

    async def _state_async(self) -> Any:
        return await self.state()

    async def _disconnect_async(self) -> None:
        await self.disconnect()

    async def _close_async(self) -> None:
        await self._close_everything_async()

    async def _close_everything_async(self) -> None:
        """Close the sessions and stop the server, without blocking the loop."""
        raise NotImplementedError

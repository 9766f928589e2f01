# SPDX-License-Identifier: BSD-3-Clause
"""`StartingClient`: a client that may start the server it talks to, and then stops it as well."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from openenv.core.env_client import EnvClient
from openenv.core.env_server.types import State

from stepwire.client.errors import UsageError
from stepwire.client.launch import DockerContainer, module_server, uv_server

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)
ClientT = TypeVar("ClientT", bound="StartingClient[Any, Any, Any]")

# What goes to the client; all other options are the server's.
_CLIENT_OPTIONS = (
    "connect_timeout_s",
    "message_timeout_s",
    "max_message_size_mb",
    "headers",
    "token",
    "capacity_wait_s",
    "websocket_ping_interval_s",
    "websocket_ping_timeout_s",
)


class StartingClient(EnvClient[ActT, ObsT, StateT]):
    """Makes clients of servers that they start: a container, a `uv` project, a child process."""

    server_module: ClassVar[str | None] = None
    """The module that `python -m` serves the environment with, for `from_local`."""

    @classmethod
    def from_docker_image(  # type: ignore[override]
        cls: type[ClientT],
        image: str,
        provider: Any = None,
        *,
        wait_timeout: float | None = None,
        **options: Any,
    ) -> ClientT:
        """Start a container at once and return a client connected to it, which may be awaited.

        `close()` removes the container, and so does the end of this process (unless it is killed:
        see `launch`) or any failure here, mostly a `ServerStartError`. `options` are `port` (on
        this machine, where only this machine can reach it), `container_port=8000`, `env_vars`,
        `docker_args` (further options of `docker run`), `cmd`, and the client's own, such as
        `message_timeout_s`. The server has `wait_timeout` seconds (60) from the start of the
        container to be healthy. A `provider` of the framework gets what is not the client's own.
        """
        provider = DockerContainer() if provider is None else provider
        return cls._started(provider, wait_timeout, options, image)

    @classmethod
    def from_env(  # type: ignore[override]
        cls: type[ClientT],
        repo_id: str,
        *,
        use_docker: bool = True,
        provider: Any = None,
        wait_timeout: float | None = None,
        **options: Any,
    ) -> ClientT:
        """Start a Hugging Face Space on this machine, as `from_docker_image` does.

        From its image (`tag="latest"`), or with `use_docker=False` and `uv` from its repository or
        the folder `project_path`; `wait_timeout` is 300 there, as `uv` may have to install it.
        """
        if use_docker:
            subdomain = re.sub("[^a-z0-9]", "-", repo_id.lower())  # as the Hub makes it
            image = f"registry.hf.space/{subdomain}:{options.pop('tag', 'latest')}"
            return cls.from_docker_image(image, provider, wait_timeout=wait_timeout, **options)
        if provider is None:
            repository = f"git+https://huggingface.co/spaces/{repo_id}"
            provider = uv_server(options.pop("project_path", None) or repository)
            wait_timeout = 300.0 if wait_timeout is None else wait_timeout
        return cls._started(provider, wait_timeout, options)

    @classmethod
    def from_local(
        cls: type[ClientT],
        port: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        *,
        wait_timeout: float | None = None,
        **client_options: Any,
    ) -> ClientT:
        """Start the environment's server as a child process, and return a client connected to it.

        For tests and notebooks: it needs only the environment's package. Otherwise as
        `from_docker_image`; even a client that is killed leaves no server behind.
        """
        if cls.server_module is None:
            raise UsageError(
                f"{cls.__name__} does not say what its server is. Set `server_module` in the "
                'class, such as "my_env.server.app".'
            )
        options = {"port": port, "env_vars": env_vars, **client_options}
        return cls._started(module_server(cls.server_module), wait_timeout, options)

    @classmethod
    def _started(
        cls: type[ClientT],
        provider: Any,
        wait_timeout: float | None,
        options: dict[str, Any],
        *image: str,
    ) -> ClientT:
        """Have the server started, wait for it and connect; when that fails, stop the server."""
        own = {name: options.pop(name) for name in _CLIENT_OPTIONS if name in options}
        limit = {} if wait_timeout is None else {"timeout_s": wait_timeout}
        try:
            if image:
                url = provider.start_container(*image, **options)
                provider.wait_for_ready(url, **limit)
            else:
                url = provider.start(**options)
                provider.wait_for_ready(**limit)
            client = cls(base_url=url, provider=provider, **own)
            client._connect_now()
            return client
        except BaseException:
            with suppress(Exception):
                _stop(provider)
            raise

    def _connect_now(self) -> None:
        """Open a connection, blocking wherever this is called."""
        raise NotImplementedError

    def _stop_server(self) -> None:
        """Stop what this client started. May be called any number of times."""
        provider, self._provider = self._provider, None
        if provider is not None:
            _stop(provider)


def _stop(provider: Any) -> None:
    (getattr(provider, "stop_container", None) or provider.stop)()

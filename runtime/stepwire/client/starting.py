# SPDX-License-Identifier: BSD-3-Clause
"""`StartingClient`: starts the server that a client talks to, and stops it with the client."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from openenv.core.env_client import EnvClient
from openenv.core.env_server.types import State

from stepwire.client.addresses import (
    server_address,
    space_subdomain,
    websocket_url,
    without_secrets,
)
from stepwire.client.errors import InvalidOptionError, SessionLostError, UsageError
from stepwire.client.launch import DockerContainer, module_server, uv_server
from stepwire.client.options import number
from stepwire.client.session import Session

ActT = TypeVar("ActT")
ObsT = TypeVar("ObsT")
StateT = TypeVar("StateT", bound=State)
ClientT = TypeVar("ClientT", bound="StartingClient[Any, Any, Any]")

# The options of the client; all others are the server's.
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
    """Starts servers for clients: a container, a `uv` project or a child process."""

    server_module: ClassVar[str | None] = None
    """The module that serves the environment with `python -m`, for `from_local`."""
    _base_url: str | None
    _ws_url: str
    _server: str  # for texts: the same without secrets
    _provider: Any
    _session: Session
    _starts_server = False  # with the first call, where the client was made without an address

    @classmethod
    def require_server(cls, base_url: str | None, provider: Any) -> None:
        """Raise `InvalidOptionError` without an address or a provider, or for a name or a class."""
        if provider is None and base_url is None:
            raise InvalidOptionError(f"{cls.__name__} needs a `base_url` or a `provider`.")
        if isinstance(provider, str | type):
            raise InvalidOptionError(
                "`provider` must be an object of one of the framework's provider classes, not "
                f"{provider!r:.100}."
            )

    @classmethod
    def from_docker_image(  # type: ignore[override]
        cls: type[ClientT],
        image: str,
        provider: Any = None,
        *,
        wait_timeout: float | None = None,
        **options: Any,
    ) -> ClientT:
        """Start a container and return a client connected to it. The client may be awaited.

        `close()` removes the container, and so do the end of this process (unless it is killed:
        see `stepwire.client.launch`) and any failure here, usually a `ServerStartError`.

        `options` are `port` (on this machine, reachable only from it), `container_port=8000`,
        `env_vars`, `docker_args` (further options of `docker run`), `cmd` (replaces the image's
        command), and those of the client, such as `message_timeout_s`. The server must be healthy
        `wait_timeout` seconds (60) after the start of the container. A `provider` of the framework
        gets the options that are not the client's.
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
        """Start a Hugging Face Space on this machine; otherwise as `from_docker_image`.

        By default its image is started (`tag="latest"`). With `use_docker=False`, `uv` runs the
        `server` script of its repository, or of the folder `project_path`; with `app`, uvicorn
        serves that application of the folder. `host` (loopback) and `reload` are the server's. Then
        `wait_timeout`, also called `context_timeout_s`, is 300 seconds, as `uv` may have to install
        the project.
        """
        if use_docker:
            image = f"registry.hf.space/{space_subdomain(repo_id)}:{options.pop('tag', 'latest')}"
            return cls.from_docker_image(image, provider, wait_timeout=wait_timeout, **options)
        if provider is None:
            repository = f"git+https://huggingface.co/spaces/{repo_id}"
            project = options.pop("project_path", None)
            app = options.pop("app", None)
            if project and options.get("reload"):  # not every `server` script can reload
                app = app or "server.app:app"
            provider = uv_server(project or repository, app)
            limit = options.pop("context_timeout_s", 300.0)
            wait_timeout = limit if wait_timeout is None else wait_timeout
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

        For tests and notebooks: it needs only the environment's package. Even a client that is
        killed leaves no server behind. Otherwise as `from_docker_image`.
        """
        if cls.server_module is None:
            raise UsageError(
                f"{cls.__name__} has no `server_module`: set it in the class, such as "
                '`server_module = "my_env.server.app"`.'
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
        """Start the server, wait for it and connect; when that fails, stop the server."""
        cls.require_server(None, provider)
        own = {name: options.pop(name) for name in _CLIENT_OPTIONS if name in options}
        if wait_timeout is not None:
            given = {"wait_timeout": wait_timeout}
            number(given, "wait_timeout", may_be_0=True, may_be_endless=True)
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
        self._session.connect()  # blocks even on a running event loop

    def _find_server(self) -> str:
        """The WebSocket's address. Starts the server of a client that was made without one."""
        if self._base_url is None:
            self._set_address(_start(self._provider))
            try:
                self._session.require_not_closed()
            except SessionLostError:
                self._stop_server()
                raise
        return self._ws_url

    def _set_address(self, base_url: str | None) -> None:
        self._base_url = None if base_url is None else server_address(base_url)
        if self._base_url is not None:
            self._ws_url = websocket_url(self._base_url)
        else:  # the address in errors until the server is started
            self._ws_url = f"the server of {type(self._provider).__name__}"
        self._server = without_secrets(self._ws_url)

    def _stop_server(self) -> None:
        """Stop the server, if this client started it. May be repeated, also after it has failed."""
        if self._provider is None or self._base_url is None:
            return
        _stop(self._provider)
        if self._starts_server:
            self._set_address(None)  # the next call starts it again
        else:
            self._provider = None


def _start(provider: Any) -> str:
    """Start a server that a provider knows without being told; returns its address."""
    start = getattr(provider, "start_container", None)
    is_container = start is not None
    start = start or provider.start
    needed = [
        name
        for name, parameter in inspect.signature(start).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"{type(provider).__name__} cannot start a server by itself: {start.__name__}() needs "
            f"{', '.join(needed)}. Use `from_docker_image(image, provider=…)`, or start the server "
            "and pass its address as `base_url`."
        )
    try:
        url: str = start()
        provider.wait_for_ready(*([url] if is_container else []))
    except BaseException:
        with suppress(Exception):
            _stop(provider)
        raise
    return url


def _stop(provider: Any) -> None:
    (getattr(provider, "stop_container", None) or provider.stop)()

# SPDX-License-Identifier: BSD-3-Clause
"""The `server` command: options and environment variables checked, then uvicorn started."""

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from stepwire.server.distribution import distribution_of
from stepwire.server.logs import log_config
from stepwire.server.settings import LogLevel, Settings, exit_with_error, read_settings
from stepwire.server.uvicorn_host.server_command import server_command_of_dependent

_WEBSOCKET_PROTOCOLS = {
    "fast": "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol",
    "uvicorn": "websockets-sansio",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        exit_with_error(message)


class _ShowVersion(argparse.Action):
    """`version` of argparse wants the text in advance; this looks for it when it is asked for."""

    def __init__(self, module: str, **options: Any) -> None:
        super().__init__(nargs=0, help="Show the version of the environment and exit", **options)
        self._module = module

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(distribution_of(self._module))
        parser.exit()


def serve(application: str, arguments: Sequence[str] | None = None) -> None:
    """Serve `application` until the process is told to stop: all there is to a `server` command.

    `application` is an import string such as `my_env.server.app:app`; `arguments` are those of the
    command line unless given. A bad value or a port that is taken ends the process with one line on
    stderr and exit code 2.
    """
    if arguments is None and (dependent := server_command_of_dependent(application)):
        dependent.load()()
        return
    import uvicorn  # not before: an application is built without it

    options = _parse(application, arguments)
    reload: bool = options.pop("reload")
    settings = read_settings(**options)
    if reload and settings.workers > 1:
        exit_with_error("--reload runs a single worker; leave out --workers (or unset WORKERS)")
    _require_free_port(settings.host, settings.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # When it has stopped, uvicorn sends itself the signal again: to be told to stop is no
        # failure.
        signal.signal(number, lambda *_: sys.exit(0))
    _notice_when_workers_end()
    uvicorn.run(
        application,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        reload=reload,
        log_level=settings.log_level,
        log_config=log_config(settings),
        # A worker that does not answer is killed, and on a busy machine one that starts does not.
        timeout_worker_healthcheck=60,
        ws=_WEBSOCKET_PROTOCOLS[settings.websocket_protocol],
        ws_per_message_deflate=False,  # costs CPU for each frame and memory for each session
    )


def _parse(application: str, arguments: Sequence[str] | None) -> dict[str, Any]:
    parser = _Parser(
        "server",
        description="Serve the environment over the OpenEnv protocol. An option left out is taken "
        "from the environment variable in brackets, then from its default.",
        argument_default=argparse.SUPPRESS,
    )
    fields = Settings.model_fields
    for name, kind in (("host", str), ("port", int), ("workers", int)):
        field = fields[name]
        text = f"{field.description} [{name.upper()}; {field.default}]"
        parser.add_argument(f"--{name}", type=kind, help=text)
    level = fields["log_level"]
    parser.add_argument(
        "--log-level",
        choices=get_args(LogLevel),
        help=f"{level.description} [LOG_LEVEL; {level.default}]",
    )
    parser.add_argument(
        "--reload", action="store_true", default=False, help="Restart when a source file changes"
    )
    parser.add_argument("--version", action=_ShowVersion, module=application.partition(":")[0])
    return vars(parser.parse_args(arguments))


def _notice_when_workers_end() -> None:
    """Have uvicorn's parent of several workers see at once that one has ended.

    It asks each, through a pipe, whether it lives, and keeps the worker's end of that pipe open as
    well: the answer of one that has ended just now, say with Ctrl-C, it would wait for to the end
    of `timeout_worker_healthcheck`, and be deaf to the signal it got itself.
    """
    from uvicorn.supervisors.multiprocess import Process

    start = Process.start

    def start_and_let_go(self: Process) -> None:
        start(self)
        self.child_conn.close()

    Process.start = start_and_let_go  # type: ignore[method-assign]


def _require_free_port(host: str, port: int) -> None:
    """Find out before uvicorn does: with several workers it would only log and start again."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        exit_with_error(
            f"cannot listen on {host} port {port}: {reason}; choose another with --host or --port"
        )

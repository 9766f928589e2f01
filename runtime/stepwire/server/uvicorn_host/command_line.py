# SPDX-License-Identifier: BSD-3-Clause
"""The `server` command: checks options and environment variables, then starts uvicorn."""

import argparse
import os
import shutil
import socket
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn, get_args

from stepwire.server.distribution import distribution_of
from stepwire.server.logs import log_config
from stepwire.server.settings import (
    OPTIONS,
    PREFIX,
    LogLevel,
    Settings,
    as_level,
    exit_with_error,
    read_settings,
)
from stepwire.server.uvicorn_host.early_signals import end_at_once_until_served
from stepwire.server.uvicorn_host.server_command import server_command_of_dependent

_WEBSOCKET_PROTOCOLS = {
    "fast": "stepwire.server.uvicorn_host.websocket_protocol:WebSocketProtocol",
    "uvicorn": "stepwire.server.uvicorn_host.websocket_limits:BoundedWebSocketProtocol",
}


def serve(application: str, arguments: Sequence[str] | None = None) -> None:
    """Serve `application` until a signal stops the process; a `server` command is one such call.

    `application` is an import string such as `my_env.server.app:app`. `arguments` default to those
    of the command line. A bad value or a port in use ends the process with one line on stderr and
    exit code 2.
    """
    end_at_once_until_served()
    _open_standard_streams()
    if arguments is None and (dependent := server_command_of_dependent(application)):
        dependent.load()()
        return
    options = _parse(application, arguments)
    reload: bool = options.pop("reload")
    settings = read_settings(**options)
    if reload and settings.workers > 1:
        exit_with_error("--reload runs a single worker; leave out --workers (or unset WORKERS)")
    _require_free_port(settings.host, settings.port)
    # Imported here, so that applications can be built and tested without uvicorn.
    import uvicorn

    how: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "reload": reload,
        "log_level": settings.log_level,
        "log_config": log_config(settings),
        # uvicorn kills workers that do not answer; on a busy machine, starting takes its time.
        "timeout_worker_healthcheck": 60,
        "ws": _WEBSOCKET_PROTOCOLS[settings.websocket_protocol],
        "ws_per_message_deflate": False,  # costs CPU for each frame and memory for each session
    }
    if settings.workers > 1:
        from stepwire.server.uvicorn_host.internals import run_workers

        run_workers(uvicorn.Config(application, **how))
    else:
        uvicorn.run(application, **how)


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the server's first files get their numbers: log lines would be written into a socket,
    and uvloop ends the process with an assertion when it closes such a file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # uses the lowest free number: this one
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        exit_with_error(message)


class _ShowVersion(argparse.Action):
    """Looks the version up when asked for it; argparse's own action needs the text in advance."""

    def __init__(self, module: str, **options: Any) -> None:
        super().__init__(nargs=0, help="Show the version of the environment and exit", **options)
        self._module = module

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(distribution_of(self._module))
        parser.exit()


def _parse(application: str, arguments: Sequence[str] | None) -> dict[str, Any]:
    columns = shutil.get_terminal_size().columns
    about = (
        "Serve the environment over the OpenEnv protocol. Each setting has an environment "
        "variable, shown with its default; an option wins over its variable. A variable may have "
        f"the prefix {PREFIX}, and then wins over the one without it."
    )
    parser = _Parser(
        "server",
        description=_wrapped(about, columns),
        epilog=_describe_variables(columns),
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds: dict[str, dict[str, Any]] = {
        "host": {"type": str},
        "port": {"type": int},
        "workers": {"type": int},
        "log_level": {"choices": get_args(LogLevel), "type": as_level},
    }
    for name in OPTIONS:
        field = Settings.model_fields[name]
        text = f"{field.description} [{name.upper()}; {field.default}]"
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **kinds[name])
    parser.add_argument(
        "--reload", action="store_true", default=False, help="Restart when a source file changes"
    )
    parser.add_argument("--version", action=_ShowVersion, module=application.partition(":")[0])
    return vars(parser.parse_args(arguments))


def _describe_variables(columns: int) -> str:
    """The part of the help about settings that are variables only."""
    text = "environment variables:"
    for name, field in Settings.model_fields.items():
        if name not in OPTIONS:
            default = field.default if field.default not in ((), None) else "none"
            described = f"{field.description} [{str(default).lower()}]"
            text += "\n" + _wrapped(described, columns, f"  {name.upper():<22}  ")
    return text


def _wrapped(text: str, columns: int, prefix: str = "") -> str:
    return textwrap.fill(
        text,
        max(columns - 2, 60),
        initial_indent=prefix,
        subsequent_indent=" " * len(prefix),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _require_free_port(host: str, port: int) -> None:
    """Check the port before uvicorn does: with several workers it would log and try again."""
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

# SPDX-License-Identifier: BSD-3-Clause
"""Prints an HAProxy configuration (2.6 or newer) for one or more servers.

    python -m stepwire.deploy.haproxy --places 200 10.0.0.1:8000 10.0.0.2:8000 >haproxy.cfg

Each session goes to the server with the fewest. When all places are taken, clients wait in a queue.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

# Connections beside those of the sessions and of those that wait: HTTP requests.
_REQUESTS = 1000


@dataclass(frozen=True)
class Options:
    """What the configuration depends on; times are seconds."""

    servers: Sequence[str]
    places: int
    """Sessions that each server may have open: its `MAX_CONCURRENT_ENVS`."""
    listen: str = ":80"
    certificate: str | None = None
    """A PEM file with certificate and key; without it, HAProxy speaks plain HTTP."""
    prefix: str | None = None
    """Serves the environment below this path, such as `/echo`."""
    statistics: str | None = None
    """Address of a page with statistics, which has Prometheus metrics at `/metrics`."""
    step_timeout: int = 300
    queue_timeout: int = 60


def configuration(options: Options) -> str:
    """The text of the file."""
    parts = [_limits(options), _frontend(options), _sessions(options), _requests(options)]
    if options.statistics:
        parts.append(_STATISTICS.format(options.statistics))
    return "\n".join(parts)


def _limits(options: Options) -> str:
    # As many may wait as there are places.
    return f"""\
global
    maxconn {2 * options.places * len(options.servers) + _REQUESTS}

defaults
    mode http
    timeout connect 5s
    timeout client {options.step_timeout}s
    timeout http-request 10s
    timeout http-keep-alive 60s
    # The longest step. The server's pings keep WebSockets open.
    timeout server {options.step_timeout}s
    timeout tunnel {options.step_timeout}s
    # How long a client may wait for a place.
    timeout queue {options.queue_timeout}s
    # A client that stops waiting leaves the queue.
    option abortonclose
    retries 3
    option redispatch 1
"""


def _frontend(options: Options) -> str:
    tls = f" ssl crt {options.certificate} alpn http/1.1" if options.certificate else ""
    return f"""\
frontend public
    bind {options.listen}{tls}
    option forwardfor
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
{_below(options.prefix)}\
    http-request del-header Upgrade unless {{ req.hdr(Upgrade) -i websocket }}
    # A session opened over MCP is named in bodies and queries.
    acl mcp path /mcp /mcp/
    http-request wait-for-body time 10s if METH_POST mcp
    http-request set-var(txn.mcp) bool(true) if METH_POST mcp
    use_backend sessions if {{ req.hdr(Upgrade) -i websocket }}
    default_backend requests
"""


def _below(prefix: str | None) -> str:
    if prefix is None:
        return ""
    return rf"""    http-request redirect code 308 location {prefix}/ if {{ path {prefix} }}
    http-request return status 404 unless {{ path_beg {prefix}/ }}
    http-request replace-path {prefix}(/.*) \1
    http-response replace-header Set-Cookie (.*)Path=/;(.*) \1Path={prefix}/;\2
"""


def _sessions(options: Options) -> str:
    return f"""\
backend sessions
    balance leastconn
    # A server that stops or has just stopped: another one is tried.
    retry-on conn-failure empty-response 503
    stick match url_param(session_id) table requests
    option httpchk GET /ready
    http-check expect status 200,503
    # 503: the server is stopping. It gets no new sessions and ends its own.
    http-check expect status 200 error-status L7OKC
    # The sessions of a server that falls silent end when three checks have failed.
    timeout check 5s
    default-server check inter 1s fall 3 rise 1 on-marked-down shutdown-sessions maxconn {
        options.places
    }
{_servers(options)}"""


def _requests(options: Options) -> str:
    return f"""\
backend requests
    balance leastconn
    stick-table type string len 64 size 100k expire 1h
    stick match req.body,json_query('$.params.session_id') if METH_POST
    stick store-response res.body,json_query('$.result.session_id')
    http-response wait-for-body time 10s if {{ var(txn.mcp) -m bool }}
    # Less than half of KEEP_ALIVE_TIMEOUT_S.
    default-server pool-purge-delay 30s
{_servers(options, " track sessions/s{}")}"""


def _servers(options: Options, suffix: str = "") -> str:
    return "".join(
        f"    server s{number} {address}{suffix.format(number)}\n"
        for number, address in enumerate(options.servers, 1)
    )


_STATISTICS = """\
frontend statistics
    bind {}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; a bad value ends the process with one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        "python -m stepwire.deploy.haproxy",
        description="Print an HAProxy configuration for one or more servers.",
    )
    parser.add_argument(
        "servers", nargs="+", type=_address, metavar="HOST:PORT", help="where a server listens"
    )
    parser.add_argument(
        "--places",
        required=True,
        type=_positive,
        help="sessions that each server may have open: its MAX_CONCURRENT_ENVS",
    )
    parser.add_argument(
        "--listen",
        type=_bound_address,
        default=":80",
        metavar="[HOST]:PORT",
        help="where HAProxy listens (%(default)s)",
    )
    parser.add_argument("--certificate", type=_word, metavar="FILE", help="PEM file for TLS")
    parser.add_argument("--prefix", type=_prefix, help="path to serve below, such as /echo")
    parser.add_argument(
        "--statistics",
        type=_bound_address,
        metavar="[HOST]:PORT",
        help="where a page with statistics and Prometheus metrics is served",
    )
    parser.add_argument(
        "--step-timeout",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="longest step (%(default)s)",
    )
    parser.add_argument(
        "--queue-timeout",
        type=_positive,
        default=60,
        metavar="SECONDS",
        help="longest wait for a place (%(default)s)",
    )
    sys.stdout.write(configuration(Options(**vars(parser.parse_args(arguments)))))


def _positive(value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", value):
        raise argparse.ArgumentTypeError(f"must be 1 to 9999999, not {value!r}")
    return int(value)


def _address(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", value):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, not {value!r}")
    return value


def _bound_address(value: str) -> str:
    return value if re.fullmatch(r":[0-9]{1,5}", value) else _address(value)


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/@%+=:,-]+", value):
        raise argparse.ArgumentTypeError(f"must be a path without spaces, not {value!r}")
    return value


def _prefix(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_~-]+)+/?", value):
        raise argparse.ArgumentTypeError(f"must be a path such as /echo, not {value!r}")
    return value.rstrip("/")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: BSD-3-Clause
"""The client of the echo environment: its models and its server, and nothing else."""

from echo_env.models import EchoAction, EchoObservation
from stepwire.client import (
    AwaitableState,
    SessionClient,
    SessionPool,
    ToolDialect,  # echo only
)


class EchoEnv(SessionClient[EchoAction, EchoObservation, AwaitableState]):
    """One session with a server of the echo environment, synchronous or asynchronous.

    with EchoEnv(base_url="http://localhost:8000") as env:
        env.reset()
        print(env.step(EchoAction(message="Hello")).observation.echoed_message)
    """

    server_module = "echo_env.server.app"
    reset_arguments = ("split", "index")  # echo only

    # Echo only: for servers that offer only tools, as the public one does.
    tool_dialect = ToolDialect(
        "echo_message",
        {"echoed_message": str, "message_length": len},
        ready={"echoed_message": "Echo environment ready!"},
    )


class EchoEnvPool(SessionPool[EchoAction, EchoObservation]):
    """`num_envs` sessions, stepped together.

    with EchoEnvPool("http://localhost:8000", num_envs=64) as pool:
        pool.reset()
        results = pool.step([EchoAction(message=f"Hello {i}") for i in range(64)])
    """

    client_class = EchoEnv

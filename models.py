# SPDX-License-Identifier: BSD-3-Clause
"""What goes into the echo environment and what comes out of it.

`metadata` on both, and `done` and `reward` on the observation, are inherited from OpenEnv.
"""

from openenv.core.env_server.types import Action, Observation
from pydantic import Field


class EchoAction(Action):
    """A message to echo."""

    message: str = Field(description="Message to echo back", examples=["Hello, World!"])


class EchoObservation(Observation):
    """The message as it came back."""

    echoed_message: str = Field(default="", description="The message, unchanged")
    message_length: int = Field(
        default=0, ge=0, description="Length of the message in Unicode code points"
    )

# SPDX-License-Identifier: BSD-3-Clause
"""Its constructor raises."""

from typing import Any

from compatibility.environments.plain import Add, Adding, Total
from compatibility.served_by import create_app


class Unbuildable(Adding):
    def __init__(self) -> None:
        raise ConnectionError("the simulator is not running")


app: Any = create_app(Unbuildable, Add, Total, max_concurrent_envs=2)

# SPDX-License-Identifier: BSD-3-Clause
"""How many machines a load needs, from the costs in `capacity.json`; see `docs/capacity.md`.

    uv run python benchmarks/capacity.py --sessions 50000 --steps 100000 --env-us 500 --env-kb 200

`costs.py` measures the costs, and `fleet.py` simulates faults.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).with_name("capacity.json")
CONNECT_TIMEOUT_S = 10.0
"""The client's default."""
_USE = 0.7  # the part of cores and memory that a plan uses


@dataclass(frozen=True)
class Load:
    """What trainers need. `steps_per_s` is of all sessions together, `env_us` CPU of one step."""

    sessions: int
    steps_per_s: float
    env_us: float = 0.0
    env_kb: float = 0.0


@dataclass(frozen=True)
class Machine:
    cores: int = 16
    memory_gb: float = 64.0


@dataclass(frozen=True)
class Plan:
    """The machines by each of what may run out, and one more than the largest of them."""

    by_cpu: float
    by_memory: float
    by_reconnect: float

    @property
    def machines(self) -> int:
        return math.ceil(max(self.by_cpu, self.by_memory, self.by_reconnect)) + 1


def plan(load: Load, machine: Machine, costs: dict[str, float]) -> Plan:
    cores = load.steps_per_s * (costs["step_us"] + load.env_us) / 1e6
    free_kb = _USE * machine.memory_gb * 1e6 - machine.cores * costs["worker_mb"] * 1e3
    opening_s = load.sessions * (costs["open_us"] + load.env_us) / 1e6
    return Plan(
        by_cpu=cores / (_USE * machine.cores),
        by_memory=load.sessions * (costs["session_kb"] + load.env_kb) / free_kb,
        by_reconnect=opening_s / machine.cores / CONNECT_TIMEOUT_S,
    )


def describe(load: Load, plan: Plan, costs: dict[str, float]) -> str:
    return (
        f"machines for the steps      {plan.by_cpu:8.2f}\n"
        f"machines for the memory     {plan.by_memory:8.2f}\n"
        f"machines to reconnect       {plan.by_reconnect:8.2f}\n"
        f"machines, one of them spare {plan.machines:8d}\n"
        f"places of each machine      {math.ceil(load.sessions / (plan.machines - 1)):8d}\n"
        f"cores for HAProxy           {load.steps_per_s * costs['proxy_step_us'] / 1e6:8.2f}\n"
    )


def read() -> dict[str, Any]:
    """The figures so far."""
    return dict(json.loads(FIGURES.read_text("utf-8"))) if FIGURES.exists() else {}


def record(**parts: Any) -> None:
    """Put parts into the figures."""
    rows = []
    for name, part in sorted((read() | parts).items()):
        lines = map(json.dumps, part) if isinstance(part, list) else [json.dumps(part)]
        text = ",\n  ".join(lines)
        rows.append(f'"{name}": ' + (f"[\n  {text}\n]" if isinstance(part, list) else text))
    FIGURES.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, required=True, help="open at once")
    parser.add_argument("--steps", type=float, required=True, help="per second, all sessions")
    parser.add_argument("--env-us", type=float, default=0.0, help="CPU of the environment's step")
    parser.add_argument("--env-kb", type=float, default=0.0, help="memory of one environment")
    parser.add_argument("--blocking", action="store_true", help="without `BLOCKING = False`")
    parser.add_argument("--cores", type=int, default=16, help="of a machine")
    parser.add_argument("--memory-gb", type=float, default=64.0, help="of a machine")
    options = parser.parse_args()
    costs = read()["costs"]
    if options.blocking:
        costs |= {key: costs[f"blocking_{key}"] for key in ("step_us", "open_us", "session_kb")}
    load = Load(options.sessions, options.steps, options.env_us, options.env_kb)
    machine = Machine(options.cores, options.memory_gb)
    print(describe(load, plan(load, machine, costs), costs), end="")


if __name__ == "__main__":
    main()

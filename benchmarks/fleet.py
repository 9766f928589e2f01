# SPDX-License-Identifier: BSD-3-Clause
"""Simulates faults of many machines with SimPy, for `docs/capacity.md`.

    uv run python benchmarks/fleet.py

It writes `capacity.json` and `docs/capacity.svg`. Sessions move in cohorts, 10,000 in all or more.
A worker serves handshakes in the order of their arrival, in the time that steps leave it. A client
that has waited for its timeout leaves; the worker still has to read what it left.
"""

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import simpy
from capacity import CONNECT_TIMEOUT_S, Load, Machine, plan, read, record
from lines import Panel, draw_lines

_PICTURE = Path(__file__).parent.parent / "docs" / "capacity.svg"
_SIZES = (100_000, 1_000_000, 10_000_000)
_COHORTS = 10_000
_DOWN_S = 5.0  # the balancer, while it restarts
_RESTART_S = 10.0
_WATCHED_S = 120


@dataclass(frozen=True)
class Clients:
    """How clients come back. A trainer has `size` sessions in a pool, which tries with one session
    after a failure, and with all others after a success. With `size` 0, each session tries alone.
    """

    size: int = 1000
    jitter: bool = True
    spread_s: float = 0.0
    """First attempts come at random moments of so many seconds."""
    timeout_s: float = CONNECT_TIMEOUT_S

    def pauses(self, chance: random.Random) -> Iterator[float]:
        """As in `stepwire.client.servers`."""
        pause = 0.05
        while True:
            yield pause * chance.uniform(0.5, 1.5) if self.jitter else pause
            pause = min(2 * pause, 2.0)


@dataclass
class Worker:
    """`free_at` is when it has read all that has arrived."""

    sessions: int = 0
    free_at: float = 0.0


@dataclass(eq=False)
class Host:
    """A machine. `sessions` includes those that wait to be opened, `open` has their trainers."""

    workers: list[Worker]
    sessions: int = 0
    starts: int = 0
    is_up: bool = True
    open: list[tuple["Trainer", int]] = field(default_factory=list)


class Fleet:
    """Machines with the sessions of a load. `waits` has each time that sessions were without."""

    def __init__(
        self,
        load: Load,
        machine: Machine,
        machines: int,
        costs: dict[str, float],
        clients: Clients,
        seed: int = 1,
    ) -> None:
        self.env = simpy.Environment()
        self.chance = random.Random(seed)
        self.clients, self._costs = clients, costs
        self.hosts = [Host([Worker() for _ in range(machine.cores)]) for _ in range(machines)]
        self.is_reachable = True
        self.cohort = max(1, load.sessions // _COHORTS)
        # The part of a worker's time that one session's steps take.
        self._use = load.steps_per_s / load.sessions * (costs["step_us"] + load.env_us) / 1e6
        self._open_us = costs["open_us"] + load.env_us
        self.attempts = 0
        self.waits: list[tuple[float, int]] = []
        size = clients.size or self.cohort
        for begin in range(0, load.sessions, size):
            trainer, left = Trainer(self), min(size, load.sessions - begin)
            for part in _parts(left, self.cohort):
                host, worker = self._least_loaded()
                host.sessions += part
                worker.sessions += part
                host.open.append((trainer, part))

    def lose(self, host: Host) -> int:
        """The machine ends; returns how many sessions were open on it."""
        lost, host.open = host.open, []
        host.starts += 1
        host.sessions = 0
        for worker in host.workers:
            worker.sessions, worker.free_at = 0, 0.0
        for trainer, size in lost:
            trainer.lose(size)
        return sum(size for _, size in lost)

    def attempt(self, trainer: "Trainer", size: int) -> Generator[simpy.Event, None, bool]:
        """Open so many sessions; returns whether they are open."""
        self.attempts += size
        if not self.is_reachable:
            return False
        host, worker = self._least_loaded()
        starts = host.starts
        host.sessions += size
        worker.sessions += size
        timeout_s = self.clients.timeout_s
        begins = max(self.env.now, worker.free_at)
        is_served = begins - self.env.now < timeout_s
        cost_us = self._open_us if is_served else self._costs["abandoned_us"]
        left = max(0.05, 1 - worker.sessions * self._use)
        worker.free_at = begins + size * cost_us / 1e6 / left
        yield self.env.timeout(worker.free_at - self.env.now if is_served else timeout_s)
        if starts != host.starts:
            return False
        if is_served:
            host.open.append((trainer, size))
            return True
        host.sessions -= size
        worker.sessions -= size
        return False

    def _least_loaded(self) -> tuple[Host, Worker]:
        """As HAProxy's `leastconn`, then the worker with the fewest."""
        host = min((host for host in self.hosts if host.is_up), key=lambda host: host.sessions)
        return host, min(host.workers, key=lambda worker: worker.sessions)

    def open_part(self, sessions: int) -> float:
        return sum(size for host in self.hosts for _, size in host.open) / sessions


class Trainer:
    """A client: a pool of sessions, or a cohort of single ones that do the same."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._waiting: Counter[float] = Counter()  # since when, how many
        self._is_looking = self._is_refused = False
        self._look_at = 0.0
        self._pauses = fleet.clients.pauses(fleet.chance)

    def lose(self, size: int) -> None:
        fleet = self._fleet
        if not self._is_looking and not self._is_refused:
            self._look_at = fleet.env.now + fleet.chance.random() * fleet.clients.spread_s
        self._wait(fleet.env.now, size)

    def _wait(self, since: float, size: int) -> None:
        self._waiting[since] += size
        if not self._is_looking:
            self._is_looking = True
            self._fleet.env.process(self._look())

    def _look(self) -> Iterator[simpy.Event]:
        env, fleet = self._fleet.env, self._fleet
        while self._waiting:
            yield env.timeout(max(0.0, self._look_at - env.now))
            tried = self._waiting
            if self._is_refused and fleet.clients.size:
                tried = Counter({next(iter(self._waiting)): 1})
                self._look_at = env.now + next(self._pauses)
            self._waiting = self._waiting - tried
            for since, size in tried.items():
                for part in _parts(size, fleet.cohort):
                    env.process(self._open(since, part))
        self._is_looking = False

    def _open(self, since: float, size: int) -> Iterator[simpy.Event]:
        env = self._fleet.env
        if (yield from self._fleet.attempt(self, size)):
            self._fleet.waits.append((env.now - since, size))
            self._is_refused, self._pauses = False, self._fleet.clients.pauses(self._fleet.chance)
            return
        if not self._is_refused or env.now >= self._look_at:
            self._look_at = env.now + next(self._pauses)
        self._is_refused = True
        self._wait(since, size)


def _parts(size: int, most: int) -> Iterator[int]:
    while size > 0:
        yield min(size, most)
        size -= most


def machine_lost(fleet: Fleet) -> Iterator[simpy.Event]:
    fleet.hosts[0].is_up = False
    fleet.lose(fleet.hosts[0])
    yield fleet.env.timeout(0)


def rolling_restart(fleet: Fleet) -> Iterator[simpy.Event]:
    for host in fleet.hosts:
        host.is_up = False
        fleet.lose(host)
        yield fleet.env.timeout(_RESTART_S)
        host.is_up = True


def all_cut(fleet: Fleet, down_s: float = _DOWN_S) -> Iterator[simpy.Event]:
    """The balancer restarts, and refuses connections for a while."""
    fleet.is_reachable = down_s == 0
    for host in fleet.hosts:
        fleet.lose(host)
    yield fleet.env.timeout(down_s)
    fleet.is_reachable = True


POOLS, ALONE = Clients(), Clients(size=0)
_HOW = {
    "alone, no jitter": Clients(size=0, jitter=False),
    "alone, jitter": ALONE,
    "pools, no jitter": Clients(jitter=False),
    "pools, jitter": POOLS,
}
FAULTS: dict[str, tuple[Callable[[Fleet], Iterator[simpy.Event]], Clients]] = {
    "machine lost": (machine_lost, POOLS),
    "rolling restart": (rolling_restart, POOLS),
    **{f"all cut: {name}": (all_cut, clients) for name, clients in _HOW.items()},
    **{f"too few: {name}": (all_cut, clients) for name, clients in _HOW.items()},
    "too few: alone, over 60 s": (all_cut, Clients(size=0, spread_s=60)),
}


def simulate(sessions: int, name: str, costs: dict[str, float]) -> dict[str, Any]:
    """What a fault does to sessions that take a step in five seconds each.

    Too few machines are those of a plan that leaves the time to reconnect out.
    """
    fault, clients = FAULTS[name]
    load, machine = Load(sessions, sessions / 5), Machine()
    planned = plan(load, machine, costs)
    if name.startswith("too few"):
        planned = replace(planned, by_reconnect=0.0)
    machines = planned.machines
    fleet = Fleet(load, machine, machines, costs, clients)
    fleet.env.process(fault(fleet))
    open_parts = []
    restarts_s = _RESTART_S * machines if fault is rolling_restart else 0
    for moment in range(1, round(_WATCHED_S + restarts_s) + 1):
        fleet.env.run(until=moment)
        open_parts.append(round(fleet.open_part(sessions), 3))
    lost = sum(size for _, size in fleet.waits) + round((1 - fleet.open_part(sessions)) * sessions)
    row = {
        "sessions": sessions,
        "fault": name,
        "machines": machines,
        "lost": lost,
        "open": open_parts[-1],
        "p50_s": wait_s(fleet.waits, lost, 0.5),
        "p99_s": wait_s(fleet.waits, lost, 0.99),
        "attempts": round(fleet.attempts / lost, 1),
    }
    return row | ({"line": open_parts[:_WATCHED_S]} if sessions == _shown(name) else {})


def wait_s(waits: list[tuple[float, int]], lost: int, part: float) -> float | None:
    """Seconds within which this part of the lost sessions was back; `None` if it never was."""
    left = part * lost
    for seconds, size in sorted(waits):
        left -= size
        if left <= 0:
            return round(seconds, 1)
    return None


def reconnect(measured: dict[str, Any], costs: dict[str, float]) -> dict[str, Any]:
    """The model of a measured reconnect, on the part of a core that the worker had."""
    sessions, is_pool = measured["sessions"], measured["clients"] == "pool"
    clients = Clients(size=sessions if is_pool else 0, timeout_s=measured["timeout_s"])
    slower = {key: value / measured["share"] for key, value in costs.items() if "_us" in key}
    fleet = Fleet(Load(sessions, 0), Machine(cores=1), 1, slower, clients)
    fleet.env.process(all_cut(fleet, measured["down_s"]))
    fleet.env.run(until=_WATCHED_S)
    return {
        "p50_s": wait_s(fleet.waits, sessions, 0.5),
        "all_s": wait_s(fleet.waits, sessions, 1),
        "attempts": round(fleet.attempts / sessions, 1),
    }


def _shown(name: str) -> int:
    """The number of sessions whose line is in the picture."""
    return _SIZES[2] if ":" in name else _SIZES[1]


def picture(rows: list[dict[str, Any]], costs: dict[str, float]) -> str:
    """The plots of the page."""
    sizes = [round(10 ** (power / 4)) for power in range(16, 29)]
    needed = {
        f"{rate:g} steps/s each": [
            (float(size), float(plan(Load(size, size * rate), Machine(), costs).machines))
            for size in sizes
        ]
        for rate in (0.2, 2.0, 20.0)
    }
    panels = [Panel("Machines of 16 cores and 64 GB, one to spare", "sessions", needed, True)]
    for kind in ("", "all cut: ", "too few: "):
        chosen = [row for row in rows if "line" in row and row["fault"].startswith(kind)]
        chosen = chosen if kind else [row for row in chosen if ":" not in row["fault"]]
        lines = {
            row["fault"].removeprefix(kind): [(0.0, 0.0 if kind else 1.0), *_points(row["line"])]
            for row in chosen
        }
        first = chosen[0]
        title = f"{first['sessions']:,} sessions on {first['machines']} machines: part that is open"
        panels.append(Panel(title, "seconds", lines, most=(_WATCHED_S, 1)))
    return draw_lines(panels)


def _points(line: list[float]) -> list[tuple[float, float]]:
    return [(float(second), part) for second, part in enumerate(line, 1)]


def main() -> None:
    costs = read()["costs"]
    rows = [simulate(sessions, name, costs) for sessions in _SIZES for name in FAULTS]
    record(simulated=rows, modelled=[reconnect(each, costs) for each in read()["reconnects"]])
    _PICTURE.write_text(picture(read()["simulated"], costs), "utf-8")


if __name__ == "__main__":
    main()

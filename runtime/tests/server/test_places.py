# SPDX-License-Identifier: BSD-3-Clause
"""The table of places: exact over processes, and over those that are killed at any moment."""

import gc
import multiprocessing
import random
import sys
import time
from typing import Any

import pytest
from place_takers import come_and_go, hold
from waiting import wait_until

from stepwire.server.places import Places, Table
from stepwire.server.workers import Seats

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers share places on Linux")

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["place_takers"])


def _sessions(table: Table, row: int) -> int:
    with table.locked():
        return table.sessions(row, 0) if table.counts(row) else 0


def test_sessions_count_as_long_as_their_worker_lives() -> None:
    table = Table(3)
    ours, theirs = _PROCESSES.Pipe()
    worker: Any = _PROCESSES.Process(target=hold, args=(table, 1, theirs))
    worker.start()
    theirs.close()
    assert ours.recv() == "entered"
    assert [_sessions(table, row) for row in range(3)] == [0, 3, 0]
    with table.locked():
        assert table.accepts(1)
        assert table.load(1) == 4
        table.expect(1, 1)
        assert table.load(1) == 5
        assert not table.turns(1)

        def turns() -> bool:
            table.turn(1)
            return table.turns(1)

        wait_until(turns)  # a busy machine may lose the second for which a turn counts
    worker.kill()
    worker.join()
    assert _sessions(table, 1) == 0
    with table.locked():
        assert not table.accepts(1)
        assert table.load(1) == 0


class _Process:
    exitcode: int | None = None


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_seat_of_a_worker_that_has_ended_is_given_again() -> None:
    seats = Seats(2)
    processes = [_Process(), _Process()]
    assert [seats.next(process).row for process in processes] == [0, 1]
    processes[1].exitcode = -9
    assert seats.next(_Process()).row == 1
    while seats.can_grow:
        seats.next(_Process())
    seats.next(_Process())  # while workers are replaced, one by one
    del seats
    gc.collect()


def test_a_session_counts_from_the_choice_of_its_worker() -> None:
    table = Table(2)
    with table.locked():
        assert table.expect(0, 1) == 1
        assert table.expect(0, 1) == 2
        assert table.load(0) == 2
        table.count(0, 0, 1)
        assert table.load(0) == 2  # one is open, one is still to be opened
        table.count(0, 0, 0)
        assert table.load(0) == 1
        assert table.expect(0, -5) == table.load(0) == 0


def test_a_single_process_has_all_places() -> None:
    places = Places()
    with places.locked() as elsewhere:
        assert elsewhere == 0
    assert (places.elsewhere, places.others_accept) == (0, False)
    assert (places.least_loaded(), places.holder("0" * 36)) == (None, None)


@pytest.mark.slow
def test_workers_that_are_killed_at_any_moment_leave_exact_numbers() -> None:
    table = Table(4)
    chance = random.Random(0)

    def start(row: int) -> tuple[Any, Any]:
        ours, theirs = _PROCESSES.Pipe()
        worker = _PROCESSES.Process(target=come_and_go, args=(table, row, theirs), daemon=True)
        worker.start()
        theirs.close()
        assert ours.recv() == "entered"
        return worker, ours

    def kill(row: int) -> None:
        worker, answers = workers[row]
        worker.kill()
        worker.join()
        with pytest.raises(EOFError):  # nothing else: the capacity was never exceeded
            answers.recv()
        assert _sessions(table, row) == 0

    workers = [start(row) for row in range(3)]
    for _ in range(20):
        time.sleep(chance.random() / 20)
        row = chance.randrange(3)
        kill(row)
        workers[row] = start(row)
    for row in range(3):
        kill(row)

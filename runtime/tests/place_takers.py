# SPDX-License-Identifier: BSD-3-Clause
"""What processes do with a table of places, in tests that start and kill such processes."""

import random
from multiprocessing.connection import Connection

from stepwire.server.places import Table

CAPACITY = 5


def hold(table: Table, row: int, answers: Connection) -> None:
    """Have three sessions of one application, and one of another, until the process is killed."""
    table.enter(row)
    with table.locked():
        table.accept(row, True)
        table.count(row, 0, 2)
        table.count(row, 0, 3)
        table.count(row, 1, 1)
    answers.send("entered")
    answers.recv()


def come_and_go(table: Table, row: int, answers: Connection) -> None:
    """Open sessions while there are places, and end them, until the process is killed."""
    table.enter(row)
    answers.send("entered")
    chance = random.Random(row)
    own = 0
    while True:
        with table.locked():
            others = [other for other in range(table.rows) if other != row and table.counts(other)]
            active = own + sum(table.sessions(other, 0) for other in others)
            if active > CAPACITY:
                answers.send(f"{active} sessions are open")
            if active < CAPACITY:
                own += 1
                table.count(row, 0, own)
        if own and chance.random() < 0.5:
            own -= 1
            table.count(row, 0, own)

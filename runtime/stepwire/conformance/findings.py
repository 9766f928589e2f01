# SPDX-License-Identifier: BSD-3-Clause
"""Outcomes of a check: a broken rule, no verdict, or a rule that does not apply."""


class CheckFailed(AssertionError):
    """The server does not do what the contract says.

    `cause_known` is False when the check has not established the cause that it names.
    """

    def __init__(self, message: str, *, cause_known: bool = True) -> None:
        super().__init__(message)
        self.cause_known = cause_known


class NotChecked(Exception):
    """The check has no verdict, because one of its preparations failed."""


class NotApplicable(Exception):
    """The rule is known not to apply to this server's environment."""


class ServerUnreachable(Exception):
    """No server answers at the address, so nothing was checked."""

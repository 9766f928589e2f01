# SPDX-License-Identifier: BSD-3-Clause
"""What a check can find: a broken rule, no verdict, or a rule that cannot apply."""


class CheckFailed(AssertionError):
    """The server does not do what the contract says.

    `cause_known` is False when the check has not established the cause that it names.
    """

    def __init__(self, message: str, *, cause_known: bool = True) -> None:
        super().__init__(message)
        self.cause_known = cause_known


class NotChecked(Exception):
    """The check came to no verdict, because something that it needs first did not work."""


class NotApplicable(Exception):
    """The rule cannot apply to this server's environment, and that is established."""


class ServerUnreachable(Exception):
    """No server answers at the address, so nothing was checked."""

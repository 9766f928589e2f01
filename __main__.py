# SPDX-License-Identifier: BSD-3-Clause
"""`python -m echo_env` says what can be run."""

print(
    "python -m echo_env.server.app   serve the echo environment (--help lists the options)\n"
    "python -m echo_env.demo         an episode over every surface, on a server of its own"
)

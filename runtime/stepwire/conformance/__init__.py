# SPDX-License-Identifier: BSD-3-Clause
"""The OpenEnv wire contract, checks of any running server against it, and exact frames.

python -m stepwire.conformance http://localhost:8000     a table of checks
pytest --openenv-url http://localhost:8000               the same checks as tests

`CONTRACT.md` has the contract. `stepwire.testing` is for the tests of one environment.
"""

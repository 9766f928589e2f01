# SPDX-License-Identifier: BSD-3-Clause
"""Does a server speak OpenEnv? The contract, checks of any server, and exact frames of it.

python -m echo_env.conformance http://localhost:8000
"""

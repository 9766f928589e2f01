# SPDX-License-Identifier: BSD-3-Clause
"""How a client reaches its session: one connection, from threads and from event loops alike."""

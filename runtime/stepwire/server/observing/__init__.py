# SPDX-License-Identifier: BSD-3-Clause
"""What is seen of the server from outside: metrics and traces."""

# SPDX-License-Identifier: BSD-3-Clause
"""Clients for other libraries; each module needs the library that it is named after."""

# SPDX-License-Identifier: BSD-3-Clause
"""Configurations of the programs that stand in front of several servers."""

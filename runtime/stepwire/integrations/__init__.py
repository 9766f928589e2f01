# SPDX-License-Identifier: BSD-3-Clause
"""The client as other libraries want it; each module needs the library it is named after."""

# SPDX-License-Identifier: BSD-3-Clause
from chromium import *  # noqa: F403 - fixtures

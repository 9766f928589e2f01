"""Guess the number: an environment for OpenEnv."""

import stepwire  # noqa: F401 - first: it makes the import of the framework fast

# isort: split
from guess_number.client import GuessNumber
from guess_number.models import Guess, GuessState, Hint

__all__ = ["Guess", "GuessNumber", "GuessState", "Hint"]

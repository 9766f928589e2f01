"""Guess the number: an environment for OpenEnv."""

from guess_number.client import GuessNumber
from guess_number.models import Guess, GuessState, Hint

__all__ = ["Guess", "GuessNumber", "GuessState", "Hint"]

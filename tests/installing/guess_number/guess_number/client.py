"""The client of the guessing game."""

from guess_number.models import Guess, GuessState, Hint
from stepwire.client import SessionClient


class GuessNumber(SessionClient[Guess, Hint, GuessState]):
    """One game: `with GuessNumber.from_local() as env: env.step(Guess(number=50))`."""

    server_module = "guess_number.server.app"

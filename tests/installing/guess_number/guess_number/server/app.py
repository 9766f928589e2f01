"""The guessing game as an application, and the command that serves it."""

from guess_number.models import Guess, Hint
from guess_number.server.environment import GuessNumberEnvironment
from stepwire.server import create_app, serve

app = create_app(GuessNumberEnvironment, Guess, Hint, env_name="guess_number")


def main() -> None:
    serve("guess_number.server.app:app")


if __name__ == "__main__":
    main()

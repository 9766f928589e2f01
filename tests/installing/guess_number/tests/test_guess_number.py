"""The environment keeps the rules, and an episode over a server ends with the reward."""

from guess_number import Guess, GuessNumber
from guess_number.server.environment import GuessNumberEnvironment

from stepwire.testing import EnvironmentConformance


class TestGuessNumber(EnvironmentConformance):
    def make_environment(self) -> GuessNumberEnvironment:
        return GuessNumberEnvironment()


def test_halving_finds_the_number() -> None:
    low, high = 1, 100
    with GuessNumber.from_local() as env:
        result = env.reset(seed=3)
        while not result.done:
            guess = (low + high) // 2
            result = env.step(Guess(number=guess))
            low = guess + 1 if result.observation.answer == "higher" else low
            high = guess - 1 if result.observation.answer == "lower" else high
        assert (result.reward, result.observation.answer) == (1.0, "correct")
        assert env.state().guesses[-1] == guess

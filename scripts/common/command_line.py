"""What the programs' command lines share. Imports nothing that takes time."""

import argparse
from collections.abc import Callable


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> None:
        """Leave with exit code 2; the line begins with the program's name, as its other messages do."""
        name = self.prog.removeprefix("python -m scripts.")
        self.exit(2, f"{name}: {message}; see --help\n")


def number_between(kind: type, least: float, most: float) -> Callable[[str], float]:
    """A type of options: numbers of a `kind` (int or float) from `least` to `most`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number

"""Shared code of the command lines. Imports nothing slow."""

import argparse
from collections.abc import Callable


class OneLineParser(argparse.ArgumentParser):
    """Prints errors in one line, without the usage."""

    def error(self, message: str) -> None:
        """Exit with code 2; the line begins with the program's name, like its other messages."""
        name = self.prog.removeprefix("python -m scripts.")
        self.exit(2, f"{name}: {message}; see --help\n")


def number_between(kind: type, least: float, most: float) -> Callable[[str], float]:
    """An argument type: numbers of a `kind` (int or float) from `least` to `most`."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return number

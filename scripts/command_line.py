"""What the programs' command lines share. Imports nothing that takes time."""

import argparse


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> None:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")

"""Measure this project: python -m scripts.benchmark NAME

parity   how far the model is from the figures of the published implementation, group by group
"""

import argparse
import sys
import time

HELP = """\
parity runs the modules on stored inputs (tests/reference/), in float32 on the CPU, and prints for each group
of arrays the largest absolute deviation, the tolerance that goes with it, and the array where the two are
closest. The last column is their ratio: below 1 is within tolerance. Exit code 1 where one is not.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.benchmark",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=("parity",), help="what to measure")
    parser.parse_args(argv)
    return parity()


def parity() -> int:
    """Print the worst deviation of every group; 1 where one is beyond its tolerance."""
    from tests.reference.groups import GROUPS

    print(f"{'group':32}{'arrays':>7}{'worst':>10}{'allowed':>10}{'ratio':>8}  {'array':34}{'seconds':>8}")
    beyond = 0
    for group, figures_of in GROUPS.items():
        begin = time.perf_counter()
        figures = list(figures_of())
        worst = max(figures, key=lambda figure: figure.deviation / figure.tolerance)
        ratio, seconds = worst.deviation / worst.tolerance, time.perf_counter() - begin
        beyond += not all(figure.within for figure in figures)
        print(
            f"{group:32}{len(figures):7}{worst.deviation:10.1e}{worst.tolerance:10.1e}{ratio:8.3f}  "
            f"{worst.name:34}{seconds:8.1f}"
        )
    print(f"{len(GROUPS) - beyond} of {len(GROUPS)} groups within tolerance")
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())

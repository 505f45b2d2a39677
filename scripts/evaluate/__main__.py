"""Evaluate a model on held-out objects: python -m scripts.evaluate --checkpoint runs/NAME --protocol NAME"""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from scripts.common.results import write_json
from scripts.evaluate.arguments import evaluate_request, make_parser
from scripts.evaluate.protocols import QUICK
from scripts.evaluate.quick import evaluate, evaluate_quickly, geometry_figures, mean_image, table

__all__ = ["evaluate", "geometry_figures", "main", "mean_image", "table", "write_json"]


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, evaluate, print a table; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    written: list[Path] = []
    try:
        request = evaluate_request(arguments)
        if request.protocol == QUICK:
            text = table(evaluate_quickly(request))
        else:
            from scripts.evaluate.run import evaluate_by_protocol

            text, written = evaluate_by_protocol(request, **_place_among_processes())
    except (ValueError, OSError) as error:
        return _fail(2, str(error))
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        reason = out_of_memory(error)
        if reason is None:
            raise
        return _fail(2, f"{reason}; lower --batch")
    except KeyboardInterrupt:
        return _fail(130, "interrupted; run the same command to resume")
    print(text, *written, sep="\n")
    return 0


def _place_among_processes() -> dict[str, int]:
    """Rank and world size as set by torchrun. Raises ValueError if the environment is inconsistent."""
    from models.training.rank_environment import read_ranks

    return asdict(read_ranks(os.environ))


def _fail(code: int, message: str) -> int:
    print(f"evaluate: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Draw novel views of an object with a trained model: python sample_views.py --transfer RUN_OR_CHECKPOINT"""

import sys
from typing import TYPE_CHECKING

from scripts.sampling.arguments import make_parser
from scripts.sampling.draw import sample_views

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    import torch

    from data.photos.framing import FramedPhoto


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and sample; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        written = sample_views(arguments)
    except (ValueError, OSError) as error:
        return fail(2, str(error))
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        if not out_of_memory(error):
            raise
        return fail(
            2, f"{(str(error) or 'out of memory').splitlines()[0]}; lower --batch, --samples or --look-at"
        )
    except KeyboardInterrupt:
        return fail(130, "interrupted; the pictures written so far are complete")
    print(*written, sep="\n")
    return 0


def fail(code: int, message: str) -> int:
    """Say why the program leaves with an exit code."""
    print(f"sample_views.py: {message}", file=sys.stderr)
    return code


def shown(photo: "FramedPhoto") -> "torch.Tensor":
    """A photo after framing; on its left the photo before, if something was cut out of that."""
    from data.photos.cut_out import beside

    return photo.picture if photo.original is None else beside(photo)


if __name__ == "__main__":
    sys.exit(main())

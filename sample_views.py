"""Sample novel views of an object from a trained model: python sample_views.py --transfer RUN_OR_FILE"""

import sys

from scripts.sampling.arguments import make_parser, sample_request


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and sample; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        request = sample_request(arguments)
        if request.drive is None:
            from scripts.sampling.draw import sample_views as draw
        else:
            from scripts.sampling.transfer import transfer_views as draw

        written = draw(request)
    except (ValueError, OSError) as error:
        return fail(2, str(error))
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        reason = out_of_memory(error)
        if reason is None:
            raise
        return fail(2, f"{reason}; lower --batch, --samples or --context-views")
    except KeyboardInterrupt:
        return fail(130, "interrupted; the images written so far are complete")
    print(*written, sep="\n")
    return 0


def fail(code: int, message: str) -> int:
    """Print an error and return the exit code."""
    print(f"sample_views.py: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Export the geometry of an object's volume: python -m scripts.export_geometry RUN"""

import sys

from scripts.export_geometry.arguments import export_request, make_parser


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        request = export_request(arguments)
        from scripts.export_geometry.export import export_geometry

        failed = export_geometry(request)
    except (ValueError, OSError) as error:
        print(f"export_geometry: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        if not out_of_memory(error):
            raise
        print("export_geometry: out of memory; lower --resolution or give fewer views", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("export_geometry: interrupted; existing files are complete", file=sys.stderr)
        return 130
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m pvops.sample OUT``: writes an image, whole or not at all."""

from __future__ import annotations

import argparse

import pvops._core as _core
from pvops.errors import Error
from pvops.sample import ERAS, build


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m pvops.sample", description="Writes a small kernel image.")
    parser.add_argument("out", metavar="OUT", help="the file to write")
    parser.add_argument("--era", choices=ERAS, default="6.1", help="whose shape it has (default 6.1)")
    parser.add_argument("--bits", type=int, choices=(32, 64), default=64, help="pointer size (default 64)")
    parser.add_argument(
        "--tables", action="store_true", help="with sites of the passes that have nothing to do with ops"
    )
    args = parser.parse_args(argv)
    try:
        _core.write_file(args.out, build(args.era, args.bits, tables=args.tables).elf)
    except Error as error:
        parser.exit(2, f"pvops.sample: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

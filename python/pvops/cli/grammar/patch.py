"""The grammar of `pvops patch`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, machine, slide


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "patch",
        "Writes the image as it is after boot: every pass that rewrites kernel text, in the order of its era. What "
        "cannot be derived from the image and the machine is a first guess, and is counted.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write, or - for standard output"
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="native, kvm, xen, xen-hvm, vmware, hyperv (default: what --machine says, else native)",
    )
    parser.add_argument(
        "--format",
        dest="image_format",
        choices=("elf", "text", "kcore"),
        default="elf",
        help="the whole ELF image, the raw bytes of .text, or a core file as /proc/kcore is one, for perf",
    )
    machine(parser)
    slide(parser)
    formats(parser, rows=False)

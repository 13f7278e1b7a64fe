"""The grammar of `pvops verify`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, html, jobs

#: Whose text may be allowed; named here, so that no help text loads the verifier.
OWNERS = ("ftrace", "livepatch", "kprobes", "bpf", "modules")


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "verify",
        "Explains every byte of a kernel's text in memory by the kernel's own tables. What decides it and is not in "
        "the image is inferred from all sites together, and printed; the few that disagree are unexplained. Exit "
        "status 0 where all is explained, 1 where not, or where not all could be read.",
    )
    parser.add_argument("kernel", metavar="KERNEL", nargs="?", help=f"{KERNEL}; with --live, the running one's image")
    parser.add_argument(
        "memory",
        metavar="MEMORY",
        nargs="*",
        help="a dump: an ELF core, a kdump of makedumpfile's or QEMU's, LiME, AVML, xl dump-core, .vmem, physical "
        "memory from 0 on, a file of exactly .text's size; - is standard input; several, or a directory of them, are "
        "judged in as many processes as there are CPUs",
    )
    parser.add_argument("--live", action="store_true", help="the kernel this runs on (root only)")
    parser.add_argument("--machine", metavar="FACTS", help="the machine, where it is known: it is not inferred then")
    parser.add_argument("--save-machine", metavar="FILE", help="write what was inferred, for `pvops patch --machine`")
    parser.add_argument(
        "--allow",
        metavar="WHO",
        action="append",
        choices=OWNERS,
        default=[],
        help=f"who else may have written text: {', '.join(OWNERS)}; may be repeated",
    )
    parser.add_argument(
        "--module",
        metavar="FILE.ko",
        action="append",
        default=[],
        help="judge this module too, which has to be loaded; may be repeated, and wants those it depends on; "
        "modules without a file are listed, and do not change the verdict",
    )
    html(parser, "the report, with a picture of the whole text,")
    jobs(parser, "threads, or processes for several dumps,")
    formats(parser, rows=False)

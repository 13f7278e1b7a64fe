"""The grammar of `pvops volatility3`."""

from __future__ import annotations

from pvops.cli.grammar.common import Commands, command


def add(commands: Commands) -> None:
    command(
        commands,
        "volatility3",
        "Prints the folder of pvops' plugins for Volatility 3, linux.pvops.Verify and linux.pvops.Inferred: "
        "vol -p $(pvops volatility3) -f DUMP linux.pvops.Verify --kernel KERNEL. Both have to be installed for "
        "the same Python.",
    )

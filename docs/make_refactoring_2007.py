"""Write the tables of refactoring-2007.md from the eras: ``python docs/make_refactoring_2007.py``.

A test checks that the page is what this would write.
"""

from __future__ import annotations

from pathlib import Path

from marks import filled

from pvops.eras import era, v2_6_23

PAGE = Path(__file__).with_name("refactoring-2007.md")


def ops_table() -> list[str]:
    """Every op of 2.6.23 with all three places it had, for a kernel with local APIC, PAE and HIGHPTE."""
    seed = era("seed")
    config = seed.default_config(32, X86_PAE=True, HIGHPTE=True)
    flat, grouped, template = v2_6_23.released(config), era("2.6.23").template(config), seed.template(config)
    place = {op.field: op for op in template}
    out = [
        "| 2.6.23 as released | type | `paravirt_ops+` | grouped: `paravirt_ops+` | the seed | offset in it | type |",
        "|---|---|---|---|---|---|---|",
    ]
    for old in flat:
        new = place[old.field]
        inside = new.offset - template.struct_offsets[new.struct]
        out.append(
            f"| `{old.field}` | {old.type} | {old.offset} | {grouped.op(new.name).offset} "
            f"| `{new.name}` | {inside} | {new.type} |"
        )
    return out


def aliases_table() -> list[str]:
    """Where each small structure begins, and who may see it in the seed."""
    seed = era("seed")
    config = seed.default_config(32, X86_PAE=True, HIGHPTE=True)
    out = ["| structure | alias | ops | modules may see it |", "|---|---|---|---|"]
    for struct, offset in v2_6_23.aliases(config).items():
        ops = sum(op.struct == struct for op in seed.template(config))
        export = f"`{seed.exports[struct]}`" if struct in seed.exports else "no"
        out.append(f"| `{struct}` | `paravirt_ops+{offset}` | {ops} | {export} |")
    out.append(f"| `pv_info` | (data, no ops) | 0 | `{seed.exports['pv_info']}`, new |")
    return out


def asm_offsets_table() -> list[str]:
    """The assembler's constants in the three trees."""
    config = era("seed").default_config(32)
    columns = (
        v2_6_23.released_asm_offsets(config),
        era("2.6.23").asm_offsets(config),
        era("seed").asm_offsets(config),
    )
    out = ["| constant | 2.6.23 as released | grouped | the seed |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for column in columns for name in column):
        out.append(f"| `{name}` | " + " | ".join(str(column.get(name, "")) for column in columns) + " |")
    return out


TABLES = {"ops": ops_table, "aliases": aliases_table, "asm-offsets": asm_offsets_table}


def current(page: str) -> str:
    """The page with its tables as they should be."""
    return filled(page, {name: table() for name, table in TABLES.items()})


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))

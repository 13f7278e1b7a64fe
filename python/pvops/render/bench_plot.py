"""What call sites cost, as a picture."""

from __future__ import annotations

import os

import pvops._core as _core
from pvops.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.bench import Measurement

_FORMATS = (".svg", ".png")

#: The ways shown, and how.
_SHOWN = (
    ("warm", "in a loop, predicted", "#9db7c9"),
    ("distinct", "among 4,096 sites, as in a kernel", "#1f6f8b"),
    ("cold_branches", "once, the predictor cold", "#c8553d"),
)


def check(path: str) -> None:
    """Says now what would be wrong with drawing into this file.

    Raises:
        InputError: no such format, or matplotlib is missing.
    """
    if os.path.splitext(path)[1].lower() not in _FORMATS:
        raise InputError(f"{path}: a picture is {' or '.join(_FORMATS)}", file=path)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        why = "pictures need matplotlib: the extra `plot`"
        raise InputError(f"{path}: {why}", reason=why, file=path) from None


def draw(found: Measurement, path: str) -> str:
    """Draws a bar for each way of each form; the file, which appears whole or not at all, is named.

    Raises:
        InputError: no such format, or matplotlib is missing.
    """
    check(path)
    import io

    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, and the same figures give the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "pvops", "font.size": 9})
    from matplotlib.figure import Figure

    forms = [form for form in found if form.form != "empty"]
    figure = Figure(figsize=(8.5, 0.42 * len(forms) + 1.6), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(_SHOWN)
    for index, (way, label, color) in enumerate(_SHOWN):
        places = [row + (index - 1) * height for row in range(len(forms))]
        ranges = [form.ways[way] for form in forms]
        values = [max(r.median, 0.0) for r in ranges]
        errors = [
            [max(v - max(r.low, 0.0), 0.0) for v, r in zip(values, ranges, strict=True)],
            [max(r.high - v, 0.0) for v, r in zip(values, ranges, strict=True)],
        ]
        axes.barh(places, values, height, label=label, color=color)
        axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=0)
        for place, value, range_ in zip(places, values, ranges, strict=True):
            axes.annotate(
                f"{range_.median:.1f}".replace("-0.0", "0.0"),
                (max(value, range_.high), place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color="#444444",
            )
    axes.set_yticks(range(len(forms)), [form.form + ("*" if form.stand_in else "") for form in forms])
    axes.invert_yaxis()
    axes.set_xlabel("core cycles for one site, less an empty slot (* a stand-in of equal length ran)")
    axes.set_title(f"What a call site costs: {found.cpu_model}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    axes.legend(loc="upper right", frameon=False)
    out = io.BytesIO()
    kind = os.path.splitext(path)[1].lower()[1:]
    figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    _core.write_file(path, out.getvalue())
    return path

"""Text, pages and pictures: one file a document. `show` finds the file that shows an object."""

from __future__ import annotations

#: Class → way → the file here and its function.
_FUNCTIONS = {
    "pvops.bench.measurement.Measurement": {
        "fragment": ("bench", "fragment"),
        "plot": ("bench_plot", "draw"),
    },
    "pvops.bench.kernel.KernelEstimate": {"fragment": ("bench", "kernel_fragment")},
    "pvops.kernel.Kernel": {"fragment": ("notebook", "kernel")},
    "pvops.image.sites.Sites": {"fragment": ("notebook", "sites")},
    "pvops.plan.explain.Explanation": {"text": ("explain_text", "text"), "fragment": ("notebook", "explanation")},
    "pvops.plan.plan.Plan": {
        "text": ("explain_text", "of_plan"),
        "fragment": ("notebook", "plan"),
        "places": ("notebook", "places"),
    },
    "pvops.plan.diff.Comparison": {"text": ("diff", "of_comparison"), "fragment": ("notebook", "comparison")},
    "pvops.plan.listing.Listing": {"text": ("disasm", "of_listing"), "fragment": ("notebook", "listing")},
    "pvops.verify.report.Report": {"fragment": ("notebook", "report")},
    "pvops.lock.simulate.Result": {"fragment": ("notebook", "simulated")},
}


def show(shown: object, way: str, /, **options: object) -> str:
    """Shows an object: the renderer that `pvops.display` is given.

    Raises:
        LookupError: nothing here shows such an object in this way.
    """
    from importlib import import_module

    for cls in type(shown).__mro__:
        found = _FUNCTIONS.get(f"{cls.__module__}.{cls.__qualname__}", {}).get(way)
        if found is not None:
            file, name = found
            text: str = getattr(import_module(f"pvops.render.{file}"), name)(shown, **options)
            return text
    raise LookupError(f"nothing shows a {type(shown).__name__} as {way}")

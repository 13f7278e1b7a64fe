"""What `Plan.explain` says: text, which a notebook shows as tables."""

from __future__ import annotations

from pvops import display
from pvops.image.places import as_text


class Explained(str):
    """The explanation of a place, as text to print.

    >>> text = pvops.open("vmlinux-sample").plan().explain("sample_lock+3")
    >>> text
    <Explained sample_lock+3, 7 lines: print() shows them>
    >>> text.splitlines()[1]
    '  built         ff 15 9f fe 9f 00  call *pv_ops+0x278(%rip)'

    Attributes:
        plan: the `pvops.Plan` whose writes are explained.
        place: what was asked.
    """

    plan: object
    place: str

    @classmethod
    def of(cls, plan: object, place: int | str) -> Explained:
        """Explains a place; raises as `Plan.explain` does."""
        asked = as_text(place)
        made = cls(display.show(plan, "text", address=asked))
        made.plan = plan
        made.place = asked
        return made

    def __repr__(self) -> str:
        return f"<Explained {self.place}, {len(self.splitlines())} lines: print() shows them>"

    def _repr_html_(self) -> str:
        return display.show(self.plan, "places", address=self.place)

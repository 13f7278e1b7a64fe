"""What `Plan.explain` says: text, which a notebook shows as tables."""

from __future__ import annotations

from pvops import display


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
        made = cls(display.show(plan, "text", address=place))
        made.plan = plan
        made.place = place if isinstance(place, str) else f"{place:#x}"
        return made

    def __repr__(self) -> str:
        return f"<Explained {self.place}, {len(self.splitlines())} lines: print() shows them>"

    def _repr_html_(self) -> str:
        return display.show(self.plan, "places", address=self.place)

// What scrolls sideways is reached by the keyboard, and what the theme leaves without a name gets one.
document$.subscribe(() => {
  const scrolling = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const one of document.querySelectorAll(".md-content pre > code, .md-typeset__scrollwrap")) scrolling.observe(one);
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  // Headings of one name (`check` and `Check`, which are heard alike) have lists of one name: the second says so.
  const seen = new Map();
  document.querySelectorAll("nav.md-nav[aria-label]").forEach((nav) => {
    const name = nav.getAttribute("aria-label");
    const times = (seen.get(name.toLowerCase()) ?? 0) + 1;
    seen.set(name.toLowerCase(), times);
    if (times > 1) nav.setAttribute("aria-label", `${name} (${times})`);
  });
  document.querySelectorAll(".md-code__nav").forEach((one, at) => one.setAttribute("aria-label", `Listing ${at + 1}`));
});

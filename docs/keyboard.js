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
  document.querySelectorAll(".md-code__nav").forEach((one, at) => one.setAttribute("aria-label", `Listing ${at + 1}`));
});

"use strict";
(() => {
  const field = document.getElementById("filter");
  const count = document.getElementById("count");
  const quiet = document.querySelector("details.quiet");
  // Of a grid, what is searched is an overlay on a release with all that is said of it; else, each name.
  const cells = [...document.querySelectorAll(".cell")];
  const found = cells.length ? cells : [...document.querySelectorAll(".item")];
  const rows = [...document.querySelectorAll(".row")];
  const words = (each) =>
    (cells.length ? each : each.querySelector(".words")).textContent.toLowerCase();
  const texts = new Map(found.map((each) => [each, words(each)]));
  const show = () => {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const each of found) {
      const fits = wanted.every((word) => texts.get(each).includes(word));
      each.toggleAttribute("data-away", !fits);
      shown += fits;
    }
    for (const row of rows) {
      const links = [...row.querySelectorAll("a")];
      for (const link of links) {
        const cell = document.getElementById(link.hash.slice(1)).closest(".cell");
        link.toggleAttribute("data-away", cell.hasAttribute("data-away"));
      }
      row.toggleAttribute("data-away", links.every((link) => link.hasAttribute("data-away")));
    }
    if (quiet && wanted.length) quiet.open = true;
    count.textContent = wanted.length ? `${shown} of ${found.length}` : "";
  };
  field.addEventListener("input", show);
  const form = document.getElementById("search");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  if (field.value) show();
})();

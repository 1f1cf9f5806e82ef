"use strict";
/* What happens when: the start, keys, a change of the window, of light and dark, printing. */

const keys = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  PageDown: () => move(10),
  PageUp: () => move(-10),
  Home: () => move(-found.length),
  End: () => move(found.length),
  "/": () => search.query.focus(),
  ...hooks.keys,
};

function press(event) {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape" && event.target === search.query) {
      event.preventDefault();
      list.box.focus();
    }
    return;
  }
  const scrolls = event.key.length > 1 && event.target !== list.box;
  if (!(event.key in keys) || scrolls) return;
  event.preventDefault();
  keys[event.key](event);
}

async function start() {
  requestAnimationFrame(() => requestAnimationFrame(draw));
  for (const block of [...document.querySelectorAll('script[type="application/x-rows"]')]) await unpack(block);
  samples.sort(order);
  await hooks.load();
  choices();
  filter();
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

/** Charts know nothing of paper: they are drawn for it before, and for the screen again after. */
function paper(on) {
  document.documentElement.toggleAttribute("data-print", on);
  resize();
  draw();
}

list.box.addEventListener("scroll", rows);
document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("search").addEventListener("input", filter);
document.getElementById("search").addEventListener("reset", () => setTimeout(filter));
document.addEventListener("keydown", press);
addEventListener("resize", () => {
  resize();
  rows();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));
start();

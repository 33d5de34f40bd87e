// ---------------------------------------------------------------- frame

const MAKE = { overview, learning, breakdown, tables, ablations, sweeps, figures, runs, posts };
// sections that this page has something for; the others tell at their address why they are empty
const HELD = { overview: facts.tables.length || facts.overview.length || facts.problems.length, tables: facts.tables.length, ablations: facts.ablations.length,
  sweeps: facts.tables.some(isSweep), figures: facts.figures.length || facts.tables.some((table) => table.figures.length),
  breakdown: facts.runs.some((run) => run.groups),
  learning: facts.overview.some((group) => group.rows.some((row) => row.learning.some((points) => points.length))), runs: facts.runs.length, posts: facts.sets };

function draw(focus) {
  document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).filter(([name]) => HELD[name] || name === view).map(([name, text]) =>
    el("li", {}, el("a", { href: "#" + name, "aria-current": name === view ? "page" : null }, text))));
  main.replaceChildren(...MAKE[view]().flat(Infinity).filter((each) => each instanceof Node));
  document.querySelector("nav a[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
  document.title = VIEWS[view] + " – " + facts.title;
  if (focus) { main.querySelector("h2").focus({ preventScroll: true }); window.scrollTo(0, 0); }
}
function go(name, changes) {
  const box = document.activeElement, places = [...main.querySelectorAll("select, input, button")].indexOf(box);
  const next = address(name, changes);
  try { history.pushState(null, "", next); } catch (problem) { location.hash = next; return; }
  readAddress();
  draw(false);
  const again = main.querySelectorAll("select, input, button")[places];
  if (again) again.focus();
}

const THEMES = { "": "system", light: "light", dark: "dark" };
function theme(name) {
  if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
  document.getElementById("theme").textContent = "Theme: " + THEMES[name];
}
function keptTheme() {
  try { const kept = localStorage.getItem("mnerkit-theme"); return kept && Object.hasOwn(THEMES, kept) ? kept : ""; } catch (problem) { return ""; }
}
document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), next = names[(names.indexOf(document.documentElement.dataset.theme || "") + 1) % names.length];
  theme(next);
  try { localStorage.setItem("mnerkit-theme", next); } catch (problem) { /* it is forgotten with the page */ }
});
theme(keptTheme());
document.getElementById("made").textContent = "Written by mnerkit " + facts.mnerkit + ".";
window.addEventListener("hashchange", () => { if (readAddress()) draw(true); });
window.addEventListener("popstate", () => { if (readAddress()) draw(false); });
readAddress();
draw(false);

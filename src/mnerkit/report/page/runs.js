// All runs, a row each.

const score = (split) => (run) => (run.scores[split] || {}).f1;
const shortTime = (seconds) => (seconds < 100 ? Math.round(seconds) + " s" : seconds < 6000 ? Math.round(seconds / 60) + " min" : (seconds / 3600).toFixed(1) + " h");
const shortCount = (count) => (count >= 1e9 ? (count / 1e9).toFixed(1) + " G" : count >= 1e6 ? (count / 1e6).toFixed(1) + " M" : Math.round(count / 1e3) + " k");
// head, value to sort by, how it is shown, class: `meta` columns stand below the name where there is little room
const RUN_COLUMNS = [
  ["run", (run) => run.plugin + (run.ablation ? " " + run.ablation : "") + (run.origin === "trained" ? "" : " (" + run.origin + ")"), (name) => name, ""],
  ["test F1", score("test"), two, "number"],
  ["95 %", (run) => (run.interval ? run.interval[0] : undefined), (low, run) => two(low) + "–" + two(run.interval[1]), "number meta"],
  ["dev F1", score("dev"), two, "number"],
  ["seed", (run) => run.seed, String, "number meta"],
  ["corpus", (run) => run.corpus, (name) => name, "meta"],
  ["protocol", (run) => run.protocol, (name) => name, "meta"],
  ["time", (run) => (run.seconds === null ? undefined : run.seconds), shortTime, "number meta"],
  ["parameters", (run) => (run.parameters === null ? undefined : run.parameters), shortCount, "number meta"],
  ["date", (run) => run.date, (date) => date, "number meta"],
];

function runs() {
  const box = el("div", {});
  const show = () => {
    const sort = at("sort", RUN_COLUMNS.length, 1), down = state.get("up") !== "1", asked = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const value = RUN_COLUMNS[sort][1];
    const found = facts.runs.map((run, place) => [run, place]).filter(([run]) => asked.every((word) => (run.label + " " + run.path + " " + run.configuration).toLowerCase().includes(word)));
    found.sort(([a], [b]) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    });
    const head = RUN_COLUMNS.map(([name, , , kind], place) => {
      const button = el("button", { type: "button" }, name, place === sort ? (down ? " ↓" : " ↑") : "");
      button.addEventListener("click", () => { note({ sort: place, up: place === sort && down }); show(); box.querySelectorAll("thead button")[place].focus(); });
      return el("th", { scope: "col", class: kind || null, "aria-sort": place === sort ? (down ? "descending" : "ascending") : "none" }, button);
    });
    const shown = (run, [, value, text]) => { const v = value(run); return v === undefined || v === "" ? "–" : text(v, run); };
    const row = ([run, place]) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: address("runs", { run: place }) }, shown(run, RUN_COLUMNS[0])),
      el("small", { class: "narrow" }, "seed " + run.seed + (run.interval ? " · " + two(run.interval[0]) + "–" + two(run.interval[1]) : "") + " · " + run.corpus + " · " + run.protocol + (run.seconds === null ? "" : " · " + shortTime(run.seconds)))),
    RUN_COLUMNS.slice(1).map((column) => el("td", { class: column[3] || null }, shown(run, column))));
    box.replaceChildren(el("p", { role: "status" }, plural(found.length, "run")), wide(el("table", { class: "runs" }, el("caption", {}, "Runs"),
      el("thead", {}, el("tr", {}, head)), el("tbody", {}, found.map(row))), "Runs"),
    el("p", { class: "ghost small" }, "95 %: interval of F1 over posts, or episodes. It knows nothing of other seeds; those are in the overview."));
  };
  show();
  const chosen = at("run", facts.runs.length, -1), run = facts.runs[chosen];
  const about = run ? el("section", {}, el("h3", {}, run.label),
    el("dl", {}, [...run.signature, ["folder", run.path], ["typed", run.command || "not kept"], ["repeat it", run.repeat]]
      .map(([name, value]) => [el("dt", {}, name), el("dd", {}, name === "typed" || name === "repeat it" ? el("code", {}, value) : value)])),
    run.groups ? el("p", {}, el("a", { href: "#breakdown?run=" + chosen }, "Its breakdown by type, length and frequency")) : "") : "";
  return [...heading("Runs"), about, el("fieldset", {}, el("legend", {}, "Filter"), search("Words in name or folder", state.get("q") || "", (value) => { note({ q: value }); show(); })), box];
}


// Where a run errs.

function confusion() {
  const known = facts.runs.map((run, place) => [run, place]).filter(([run]) => run.confusion);
  if (!known.length) return heading("Confusion", el("p", {}, "None of the runs has predictions."));
  const chosen = at("run", facts.runs.length, known[0][1]);
  const run = facts.runs[chosen].confusion ? facts.runs[chosen] : known[0][0];
  const [split, types, matrix] = run.confusion;
  const names = [...types, "nothing"];
  return [...heading("Confusion"), el("fieldset", {}, el("legend", {}, "Which"),
    select("Run", known.map(([each, place]) => [place, each.label]), facts.runs.indexOf(run), (value) => go("confusion", { run: value }))),
  el("p", {}, "Gold types in rows, predicted types in columns, counted over entities whose bounds agree. The last column counts gold entities that nothing was found for, the last row predicted ones where there is none."),
  wide(el("table", {}, el("caption", {}, "Confusion of types, " + split + ", " + shortName(run)),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "gold \\ predicted"), names.map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, matrix.map((row, r) => el("tr", {}, el("th", { scope: "row" }, names[r]), row.map((value, c) => {
      const total = row.reduce((sum, each) => sum + each, 0);
      const cell = el("td", { class: "number" }, r === types.length && c === types.length ? "" : value.toLocaleString("en"));
      if (total && value) cell.style.backgroundColor = "rgba(var(--shade), " + (0.3 * value / total).toFixed(3) + ")";
      return cell;
    }))))), "Confusion of types"),
  el("h3", {}, "F1 by type"),
  bars(Object.entries(run.scores[split]).filter(([key]) => key.startsWith("type/"))
    .map(([key, value]) => ({ name: key.split("/")[1], mean: value, said: two(value) })), "F1 by type")];
}


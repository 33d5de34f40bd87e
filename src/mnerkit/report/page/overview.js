// What is best, by how much, is it sure, does it look at the picture.

const MOST_SHOWN = 10; // configurations of a protocol

const smoke = (profile) => el("p", { class: "notice" }, el("b", {}, "Profile " + profile + " is a smoke test. "),
  "Its runs only prove that every experiment runs; their figures say nothing of the methods, so they are neither ranked nor tested.");

function configurationDots(rows, first) {
  return dots(rows.map((row, place) => {
    const [low, high] = row.seeds || row.posts || [null, null];
    const images = row.images ? " · " + signed(row.images.other - row.images.right) + " with other pictures" : "";
    return { name: row.name, mean: row.mean, low, high, single: !row.seeds, best: first && !place, href: "#runs?run=" + row.runs[0],
      said: [el("b", {}, two(row.mean)), row.seeds ? " ± " + two((high - low) / 2) : "", el("small", {}, plural(row.n, "seed") + images)] };
  }), "F1 of each configuration");
}

function protocolCard(group) {
  return el("section", { class: "card" }, el("h3", {}, group.corpus + ", " + group.split + " · " + group.protocol),
    el("dl", { class: "answers" }, group.answers.map(([question, answer, basis]) => el("div", {}, el("dt", {}, question), el("dd", {}, el("b", {}, answer), basis)))),
    group.rows.length < 2 ? "" : [configurationDots(group.rows.slice(0, MOST_SHOWN), true), group.rows.length > MOST_SHOWN ?
      el("details", {}, el("summary", {}, "The other " + plural(group.rows.length - MOST_SHOWN, "configuration")), configurationDots(group.rows.slice(MOST_SHOWN))) : ""]);
}

function stateOfTables() {
  const count = (table, name) => table.cells.filter((cell) => cell.state === name).length || "";
  const listed = facts.tables.map((table, place) => [table, place]).filter(([table]) => !table.about.length);
  if (!listed.length) return "";
  const head = ["profile", "filled", "missing", "failed", "printed only", "comparable"];
  return wide(el("table", {}, el("caption", {}, "Tables and figures of papers, by the state of their cells"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "table"), head.map((name, place) => el("th", { scope: "col", class: place ? "number" : null }, name)))),
    el("tbody", {}, listed.map(([table, place]) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: "#tables?t=" + place }, table.title)), el("td", {}, table.profile),
      [...["done", "missing", "failed", "printed_only"].map((name) => count(table, name)),
        table.smoke ? "" : table.cells.filter((cell) => cell.difference !== null && cell.verdict !== "not comparable").length || ""].map((value) => el("td", { class: "number" }, value)))))), "Tables and figures");
}

function overview() {
  const profiles = new Set(facts.tables.filter((table) => table.smoke).map((table) => table.profile));
  const [several, alone] = [facts.overview.filter((group) => group.rows.length > 1), facts.overview.filter((group) => group.rows.length < 2)];
  const methods = new Set(facts.runs.map((run) => run.plugin)).size, corpora = new Set(facts.runs.map((run) => run.corpus)).size;
  return [
    ...heading("Overview"),
    el("p", { class: "ghost" }, plural(facts.runs.length, "run") + " of " + plural(methods, "method") + " on " + plural(corpora, "corpus", "corpora")
      + (facts.problems.length ? "; " + plural(facts.problems.length, "problem") + ", see below" : "")),
    [...profiles].map(smoke),
    several.map(protocolCard), alone.map(protocolCard),
    several.length ? el("p", { class: "ghost small" }, "Dots are means over seeds. A thick line is the 95 % interval over seeds; a thin one, where there is one seed, over posts or episodes, which knows nothing of other seeds.") : "",
    stateOfTables(),
    facts.problems.length ? [el("h3", {}, "Left out"), el("ul", { class: "notes" }, facts.problems.map((each) => el("li", {}, each)))] : "",
    el("details", {}, el("summary", {}, "How to read a figure"),
      el("p", {}, "Figures are percentages; R and AUC lie between 0 and 1. Ours is the mean over seeds with half of its 95 % t-interval; the paper's stands below, with ours minus the paper's. "
        + "Letters lead to the notes: where ours can't be compared with the printed figure, they say why. Bold is the highest of ours in a column that are of the same data and protocol; "
        + "† and ‡ are significantly above and below the row they are tested against (a paired test on the predictions, p < 0.05 after Holm's correction over the table).")),
  ];
}

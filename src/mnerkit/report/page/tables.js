// Tables, ablations, and sweeps.

const MARKS = { better: "†", worse: "‡" };
const MEANING = { better: "significantly above", worse: "significantly below" };

function ours(cell) {
  const mark = cell.test && cell.test[4];
  return [
    el("span", { class: cell.best ? "best" : null }, two(cell.mean)),
    cell.half === null ? "" : " ± " + two(cell.half),
    mark ? el("span", { title: MEANING[mark] }, MARKS[mark]) : "",
    cell.notes.length ? el("sup", {}, " " + cell.notes.join(",")) : "",
  ];
}

function figureCell(cell) {
  if (!cell) return el("td", { class: "number" });
  const printed = cell.printed === null ? "" : "paper " + cell.printed;
  if (cell.mean === null) {
    return el("td", { class: "number ghost" }, printed || cell.state.replace("_", " "),
      cell.notes.length ? el("sup", {}, " " + cell.notes.join(",")) : "",
      printed ? el("small", {}, cell.state.replace("_", " ")) : "");
  }
  const difference = cell.difference === null ? "" : " (" + signed(cell.difference) + ")";
  return el("td", { class: "number" }, ours(cell), printed ? el("small", {}, printed + difference) : "");
}

function byPlace(table) {
  const found = new Map();
  for (const cell of table.cells) found.set(cell.r + " " + cell.c, cell);
  return (row, column) => found.get(row + " " + column);
}

function figureTable(table) {
  const cell = byPlace(table), text = (kind) => ([name]) => el("th", { scope: "col", class: kind }, name);
  return wide(el("table", { class: "figures" },
    el("caption", {}, table.title),
    el("thead", {}, el("tr", {}, el("td", {}), table.about.map(text(null)), table.columns.map((column) => el("th", { scope: "col", class: "number" }, column[0])), table.facts.map(text("number")))),
    el("tbody", {}, table.rows.map((row, r) => el("tr", {}, el("th", { scope: "row" }, row[0]),
      table.about.map(([, values]) => el("td", {}, values[r])), table.columns.map((column, c) => figureCell(cell(r, c))),
      table.facts.map(([, values]) => el("td", { class: "number" }, values[r])))))), table.title);
}

function notesOf(table) {
  return [
    el("ul", { class: "notes plain" }, table.legend.map((each) => el("li", {}, each))),
    table.notes.length ? el("ul", { class: "notes plain" }, table.notes.map(([letter, text]) => el("li", {}, el("sup", {}, letter), " ", text))) : "",
  ];
}

function told(cell) {
  if (cell.mean === null) return cell.printed === null ? cell.state.replace("_", " ") : "paper " + cell.printed;
  return two(cell.mean) + (cell.half === null ? "" : " ± " + two(cell.half))
    + (cell.difference === null ? "" : " (" + signed(cell.difference) + (cell.verdict === "not comparable" ? ", not comparable" : "") + ")");
}

const ends = (cell) => ({ low: cell.half === null ? null : cell.mean - cell.half, high: cell.half === null ? null : cell.mean + cell.half });
const isShare = (metric) => ["mean_r", "auc"].includes(metric.split("/").pop());

function columnDots(table, column) {
  const cell = byPlace(table);
  const entries = table.rows.map((row, r) => [row, cell(r, column)]).filter(([, each]) => each)
    .map(([row, each]) => ({ name: row[0], mean: each.mean, ...ends(each), printed: each.reference, said: told(each), best: each.best }));
  return dots(entries, table.columns[column][0], isShare(table.columns[column][3]) ? 1 : 100);
}

function countsOf(table) {
  if (!table.counts || !table.counts.length) return "";
  const base = table.rows[table.baseline][0], name = "Gold entities corrected and spoiled, against " + base;
  return [el("h3", {}, "Corrected and spoiled"), el("p", {}, "Corrected: " + base + " misses a gold entity and the row finds it; spoiled: the other way round. A seed on average."),
    wide(el("table", {}, el("caption", {}, name),
      el("thead", {}, el("tr", {}, ["row", "column", "corrected", "spoiled", "gold"].map((each, place) => el("th", { scope: "col", class: place > 1 ? "number" : null }, each)))),
      el("tbody", {}, table.counts.map((each) => el("tr", {}, el("th", { scope: "row" }, table.rows[each.r][0]), el("td", {}, table.columns[each.c][0]),
        [each.corrected, each.spoiled, each.gold].map((value) => el("td", { class: "number" }, Number.isInteger(value) ? value : value.toFixed(1))))))), name)];
}

function signatures(table) {
  const used = table.cells.filter((cell) => cell.runs.length);
  if (!used.length) return "";
  const rows = used.map((cell) => {
    const runs = cell.runs.map((place) => facts.runs[place]);
    const values = new Map();
    for (const run of runs) for (const [name, value] of run.signature) {
      if (!values.has(name)) values.set(name, new Set());
      values.get(name).add(value);
    }
    return [cell, values, runs];
  });
  const names = facts.runs.length ? facts.runs[0].signature.map(([name]) => name) : [];
  const head = ["row", "column", ...names, "runs"];
  return el("details", {}, el("summary", {}, "What each figure was measured on, and with (" + plural(used.length, "figure") + ")"),
    wide(el("table", {}, el("caption", {}, "Signature of each figure"),
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map(([cell, values, runs]) => el("tr", {},
        el("th", { scope: "row" }, table.rows[cell.r][0]), el("td", {}, table.columns[cell.c][0]),
        names.map((name) => el("td", {}, [...(values.get(name) || [])].join(", "))),
        el("td", {}, runs.map((run) => el("div", {}, run.path)))))) ), "Signature of each figure"));
}

// ---------------------------------------------------------------- sections

const isSweep = (table) => table.series.length > 0;

function tables() {
  if (!facts.tables.length) return heading("Tables", el("p", {}, "There are no tables."));
  const chosen = at("t", facts.tables.length, 0), table = facts.tables[chosen];
  const column = at("c", table.columns.length, 0);
  const file = "tables/" + table.id;
  return [
    ...heading("Tables"),
    el("fieldset", {}, el("legend", {}, "Which"),
      select("Table or figure", facts.tables.map((each, place) => [place, each.title]), chosen, (value) => go("tables", { t: value, c: null }))),
    table.smoke ? smoke(table.profile) : "",
    el("p", {}, [table.paper, table.profile ? "profile " + table.profile : ""].filter(Boolean).join(", ")),
    el("p", {}, table.note),
    figureTable(table),
    notesOf(table),
    el("p", {}, "The same as ", el("a", { href: file + ".md" }, "Markdown"), ", ", el("a", { href: file + ".csv" }, "CSV"), ", ", el("a", { href: file + ".tex" }, "LaTeX"), "."),
    table.series.length ? [el("h3", {}, "Curves"), table.series.map((each) => [el("p", {}, each.name), curve(each)])] : "",
    countsOf(table),
    table.figures.length ? [el("h3", {}, "Figures"), table.figures.map((each) => drawing(each))] : "",
    el("h3", {}, "Side by side"),
    table.columns.length > 1 ? el("fieldset", {}, el("legend", {}, "One column"), select("Column", table.columns.map((each, place) => [place, each[0]]), column,
      (value) => go("tables", { c: value }))) : "",
    columnDots(table, column),
    el("p", { class: "ghost small" }, "A line through a dot is the 95 % interval over seeds; an upright line is the paper's figure."),
    el("h3", {}, "Signature"),
    signatures(table) || el("p", {}, "No figure of this table has runs yet."),
  ];
}

function ablations() {
  if (!facts.ablations.length) {
    return heading("Ablations", el("p", {}, "None of the runs is an ablation (mnerkit fit --ablation NAME) of a method that was also run in full on the same data."));
  }
  return [...heading("Ablations"), el("p", {}, "Each method in full, and with one thing left out; the difference is to the full method. † and ‡ mark what is significant after correction."),
    facts.ablations.map((table) => {
      const full = table.cells[0];
      const entries = table.cells.map((cell) => ({ name: table.rows[cell.r][0], mean: cell.mean, ...ends(cell), best: !cell.r,
        said: two(cell.mean) + (cell.half === null ? "" : " ± " + two(cell.half)) + (cell.r && full.mean !== null ? " (" + signed(cell.mean - full.mean) + (cell.test && cell.test[4] ? MARKS[cell.test[4]] : "") + ")" : "") }));
      const tests = table.cells.filter((cell) => cell.test);
      return el("section", {}, el("h3", {}, table.title), dots(entries.filter((each) => each.mean !== null), table.title),
        tests.length ? wide(el("table", {}, el("caption", {}, "Against the full method, on the same posts"),
          el("thead", {}, el("tr", {}, ["without", "difference", "p", "p, corrected", "verdict"].map((name, place) => el("th", { scope: "col", class: place && place < 4 ? "number" : null }, name)))),
          el("tbody", {}, tests.map((cell) => el("tr", {}, el("th", { scope: "row" }, table.rows[cell.r][0]),
            el("td", { class: "number" }, signed(cell.test[1])), el("td", { class: "number" }, p(cell.test[2])), el("td", { class: "number" }, p(cell.test[3])),
            el("td", {}, cell.test[4] ? MEANING[cell.test[4]] : "no significant difference"))))), table.title) : "",
        signatures(table));
    })];
}

function sweeps() {
  const drawn = facts.tables.filter(isSweep);
  if (!drawn.length) return heading("Sweeps", el("p", {}, "None of the tables is a sweep or a curve."));
  return [...heading("Sweeps"), drawn.map((table) => el("section", {}, el("h3", {}, table.title), el("p", {}, table.note),
    table.series.map((each) => [each.name === table.title ? "" : el("p", {}, each.name), curve(each)]), el("details", {}, el("summary", {}, "Figures"), figureTable(table), notesOf(table))))];
}


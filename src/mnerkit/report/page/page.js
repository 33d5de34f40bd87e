// Everything from data becomes a text node. Markup is made by `el` and `svg` alone, with the attributes of `ALLOWED`.
const ALLOWED = new Set(["class", "id", "href", "src", "alt", "type", "value", "for", "scope", "role", "lang", "dir", "tabindex",
  "title", "loading", "aria-label", "aria-live", "aria-sort", "aria-current", "aria-describedby", "aria-hidden", "viewBox", "width",
  "height", "transform", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "text-anchor", "autocomplete", "colspan"]);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (!ALLOWED.has(name)) throw new Error("attribute " + name);
    if (name === "src" && !String(value).startsWith("data:image/")) continue;
    if (name === "href" && !/^(#|tables\/[\w./-]+$)/.test(value)) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const once = (make) => { let made; return () => (made === undefined ? (made = make()) : made); };

const facts = read("facts");
const sets = once(() => read("sets"));
const pictures = once(() => read("pictures"));
const main = document.getElementById("main");

const two = (value) => value.toFixed(2).replace(/^-0\.00$/, "0.00");
const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const p = (value) => (value < 0.001 ? "< 0.001" : "= " + value.toFixed(3));
const plural = (count, one, many) => count.toLocaleString("en") + " " + (count === 1 ? one : many || one + "s");

// ---------------------------------------------------------------- where we are: the part of the address after #

let state = new URLSearchParams();
let view = "overview";
const VIEWS = { overview: "Overview", tables: "Tables", ablations: "Ablations", sweeps: "Sweeps", figures: "Figures", confusion: "Confusion",
  runs: "Runs", posts: "Posts" };

function readAddress() {
  const [name, rest] = location.hash.replace(/^#/, "").split("?");
  if (name === "main") return false;
  view = Object.hasOwn(VIEWS, name) ? name : facts.tables.length ? "overview" : "figures";
  state = new URLSearchParams(rest || "");
  return true;
}
function address(name, changes) {
  const next = new URLSearchParams(name === view ? state : "");
  for (const [key, value] of Object.entries(changes || {})) {
    if (value === "" || value === null || value === false) next.delete(key); else next.set(key, value === true ? "1" : value);
  }
  const rest = next.toString();
  return "#" + name + (rest ? "?" + rest : "");
}
function note(changes) {
  const next = address(view, changes);
  state = new URLSearchParams(next.split("?")[1] || "");
  try { history.replaceState(null, "", next); } catch (problem) { /* an address that can't be changed is no loss */ }
}
const at = (key, count, otherwise) => {
  const value = parseInt(state.get(key), 10);
  return value >= 0 && value < count ? value : otherwise;
};

// ---------------------------------------------------------------- parts

function heading(text, ...after) { return [el("h2", { tabindex: "-1" }, text), ...after]; }

function wide(table, name) { return el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": name }, table); }

function select(label, options, chosen, change) {
  const box = el("select", {}, options.map(([value, text]) => el("option", { value: value }, text)));
  box.value = String(chosen);
  box.addEventListener("change", () => change(box.value));
  return el("label", {}, label, box);
}

function check(label, chosen, change) {
  const box = el("input", { type: "checkbox" });
  box.checked = chosen;
  box.addEventListener("change", () => change(box.checked));
  return el("label", { class: "check" }, box, label);
}

function search(label, value, change) {
  const box = el("input", { type: "search", value: value, autocomplete: "off" });
  let wait;
  box.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(() => change(box.value), 150); });
  return el("label", {}, label, box);
}

function bars(entries, name) {
  // entries: {name, mean, half, printed, said}; lengths are shares of the largest end
  const ends = entries.map((each) => Math.max((each.mean || 0) + (each.half || 0), each.printed || 0));
  const top = Math.max(1, ...ends);
  const share = (value) => Math.max(0, Math.min(100, 100 * value / top)) + "%";
  return el("ul", { class: "bars", "aria-label": name }, entries.map((each) => {
    const track = el("span", { class: "track", "aria-hidden": "true" });
    if (each.mean !== null) {
      const bar = el("span", { class: "bar" });
      bar.style.width = share(each.mean);
      track.append(bar);
      if (each.half) {
        const whisker = el("span", { class: "whisker" });
        const low = Math.max(0, each.mean - each.half);
        whisker.style.left = share(low);
        whisker.style.width = share(each.mean + each.half - low);
        track.append(whisker);
      }
    }
    if (each.printed !== null && each.printed !== undefined) {
      const tick = el("span", { class: "printed" });
      tick.style.left = share(each.printed);
      track.append(tick);
    }
    return el("li", {}, el("span", {}, each.name), track, el("span", {}, each.said));
  }));
}

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
  const cell = byPlace(table);
  return wide(el("table", {},
    el("caption", {}, table.title),
    el("thead", {}, el("tr", {}, el("td", {}), table.columns.map((column) => el("th", { scope: "col", class: "number" }, column[0])))),
    el("tbody", {}, table.rows.map((row, r) => el("tr", {}, el("th", { scope: "row" }, row[0]),
      table.columns.map((column, c) => figureCell(cell(r, c))))))), table.title);
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

function columnBars(table, column) {
  const cell = byPlace(table);
  const entries = table.rows.map((row, r) => [row, cell(r, column)]).filter(([, each]) => each)
    .map(([row, each]) => ({ name: row[0], mean: each.mean, half: each.half, printed: each.reference, said: told(each) }));
  return bars(entries, table.columns[column][0]);
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

// ---------------------------------------------------------------- curves

function curve(found) {
  const width = Math.max(280, Math.min(760, main.clientWidth - 40 || 640)), height = 300;
  const left = 46, right = 14, top = 14, bottom = 46;
  const values = [];
  for (const line of found.lines) for (const [, mean, half, printed] of line.points) {
    if (mean !== null) values.push(mean - (half || 0), mean + (half || 0));
    if (printed !== null) values.push(printed);
  }
  if (!values.length) return el("p", {}, "Nothing to draw yet.");
  let low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(0.5, (high - low) * 0.08);
  low = Math.max(0, low - room); high += room;
  const numbers = found.x.every((each) => typeof each === "number");
  const first = numbers ? Math.min(...found.x) : 0, last = numbers ? Math.max(...found.x) : found.x.length - 1;
  const inner = width - left - right - 16;
  const x = (place) => left + 8 + (last === first ? inner / 2 : inner * ((numbers ? found.x[place] : place) - first) / (last - first));
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const parts = [];
  for (let step = 0; step <= 4; step += 1) {
    const value = low + (high - low) * step / 4;
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(1)));
  }
  let free = -Infinity;
  found.x.forEach((value, place) => {
    const label = String(value);
    if (x(place) - free < label.length * 4 + 8 && place) return;
    free = x(place) + label.length * 4;
    parts.push(svg("text", { x: x(place), y: height - bottom + 18, "text-anchor": "middle" }, label));
  });
  parts.push(svg("text", { x: left + inner / 2, y: height - 8, "text-anchor": "middle" }, found.option));
  const path = (points) => "M" + points.map(([place, value]) => x(place).toFixed(1) + " " + y(value).toFixed(1)).join("L");
  found.lines.forEach((line, number) => {
    const group = svg("g", { class: "l" + number % 6 });
    const mine = line.points.filter((each) => each[1] !== null), paper = line.points.filter((each) => each[3] !== null);
    if (paper.length > 1) group.append(svg("path", { class: "dashed", d: path(paper.map((each) => [each[0], each[3]])) }));
    if (mine.length > 1) group.append(svg("path", { class: "line", d: path(mine) }));
    for (const [place, , , printed] of paper) group.append(svg("circle", { class: "paper", cx: x(place), cy: y(printed), r: 3.5 }));
    for (const [place, mean, half] of mine) {
      if (half) group.append(svg("line", { class: "band", x1: x(place), x2: x(place), y1: y(Math.max(low, mean - half)), y2: y(Math.min(high, mean + half)) }));
      group.append(svg("circle", { class: "point", cx: x(place), cy: y(mean), r: 4.5 }));
    }
    parts.push(group);
  });
  const chart = svg("svg", { viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img", "aria-label": found.name + ": curves" }, parts);
  const legend = el("ul", { class: "notes plain" }, found.lines.map((line, number) => el("li", {},
    svg("svg", { viewBox: "0 0 14 14", width: 14, height: 14, class: "key", "aria-hidden": "true" },
      svg("g", { class: "l" + number % 6 }, svg("circle", { class: "point", cx: 7, cy: 7, r: 6 }))), line.name)),
    el("li", {}, "Filled points and lines are ours, with 95 % intervals over seeds"
      + (found.lines.some((line) => line.points.some((each) => each[3] !== null)) ? "; open points and dashed lines are the paper's." : ".")));
  return el("div", {}, chart, legend);
}

// ---------------------------------------------------------------- sections

const isSweep = (table) => table.series.length > 0;

function overview() {
  const cells = facts.tables.flatMap((table) => table.cells);
  const count = (name) => cells.filter((cell) => cell.state === name).length;
  const marked = cells.filter((cell) => cell.test && cell.test[4]).length;
  const rows = facts.tables.map((table, place) => {
    const of = (name) => table.cells.filter((cell) => cell.state === name).length;
    const comparable = table.cells.filter((cell) => cell.difference !== null && cell.verdict !== "not comparable").length;
    return el("tr", {}, el("th", { scope: "row" }, el("a", { href: "#tables?t=" + place }, table.title)), el("td", {}, table.profile),
      [of("done"), of("missing"), of("failed"), of("printed_only"), comparable].map((value) => el("td", { class: "number" }, value)));
  });
  const head = ["profile", "filled", "missing", "failed", "printed only", "comparable"];
  return [
    ...heading("Overview"),
    el("ul", { class: "facts" },
      [[facts.tables.length, "tables and figures"], [count("done"), "cells filled"], [count("missing") + count("failed"), "missing or failed"],
        [facts.runs.length, "runs"], [marked, "significant differences"]].map(([value, name]) => el("li", {}, el("b", {}, value.toLocaleString("en")), name))),
    wide(el("table", {}, el("caption", {}, "Tables and figures, by the state of their cells"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "table"), head.map((name, place) => el("th", { scope: "col", class: place ? "number" : null }, name)))),
      el("tbody", {}, rows)), "Tables and figures"),
    facts.problems.length ? [el("h3", {}, "Left out"), el("ul", { class: "notes" }, facts.problems.map((each) => el("li", {}, each)))] : "",
    el("h3", {}, "How to read a figure"),
    el("p", {}, "Figures are percentages; R and AUC lie between 0 and 1. Ours is the mean over seeds with half of its 95 % t-interval; the paper's stands below, with ours minus the paper's. "
      + "Letters lead to the notes: where ours can't be compared with the printed figure, they say why. Bold is the highest of ours in a column that are of the same data and protocol; "
      + "† and ‡ are significantly above and below the row they are tested against (paired approximate randomisation on the predictions, p < 0.05 after Holm's correction over the table)."),
  ];
}

function tables() {
  if (!facts.tables.length) return heading("Tables", el("p", {}, "There are no tables."));
  const chosen = at("t", facts.tables.length, 0), table = facts.tables[chosen];
  const column = at("c", table.columns.length, 0);
  const file = "tables/" + table.id;
  return [
    ...heading("Tables"),
    el("fieldset", {}, el("legend", {}, "Which"),
      select("Table or figure", facts.tables.map((each, place) => [place, each.title]), chosen, (value) => go("tables", { t: value, c: null }))),
    el("p", {}, [table.paper, table.profile ? "profile " + table.profile : ""].filter(Boolean).join(", ")),
    el("p", {}, table.note),
    figureTable(table),
    notesOf(table),
    el("p", {}, "The same as ", el("a", { href: file + ".md" }, "Markdown"), ", ", el("a", { href: file + ".csv" }, "CSV"), ", ", el("a", { href: file + ".tex" }, "LaTeX"), "."),
    table.series.length ? [el("h3", {}, "Curves"), table.series.map((each) => [el("p", {}, each.name), curve(each)])] : "",
    countsOf(table),
    table.figures.length ? [el("h3", {}, "Figures"), table.figures.map((each) => drawing(each))] : "",
    el("h3", {}, "Bars"),
    table.columns.length > 1 ? el("fieldset", {}, el("legend", {}, "Bars of"), select("Column", table.columns.map((each, place) => [place, each[0]]), column,
      (value) => go("tables", { c: value }))) : "",
    columnBars(table, column),
    el("p", { class: "ghost" }, "A thin line across a bar is the 95 % interval; the upright line is the paper's figure."),
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
      const entries = table.cells.map((cell) => ({ name: table.rows[cell.r][0], mean: cell.mean, half: cell.half, printed: null,
        said: two(cell.mean) + (cell.half === null ? "" : " ± " + two(cell.half)) + (cell.r && full.mean !== null ? " (" + signed(cell.mean - full.mean) + (cell.test && cell.test[4] ? MARKS[cell.test[4]] : "") + ")" : "") }));
      const tests = table.cells.filter((cell) => cell.test);
      return el("section", {}, el("h3", {}, table.title), bars(entries.filter((each) => each.mean !== null), table.title),
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
  wide(el("table", {}, el("caption", {}, "Confusion of types, " + split + ", " + run.label),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "gold \\ predicted"), names.map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, matrix.map((row, r) => el("tr", {}, el("th", { scope: "row" }, names[r]), row.map((value, c) => {
      const total = row.reduce((sum, each) => sum + each, 0);
      const cell = el("td", { class: "number" }, r === types.length && c === types.length ? "" : value.toLocaleString("en"));
      if (total && value) cell.style.backgroundColor = "rgba(var(--shade), " + (0.3 * value / total).toFixed(3) + ")";
      return cell;
    }))))), "Confusion of types"),
  el("h3", {}, "F1 by type"),
  bars(Object.entries(run.scores[split]).filter(([key]) => key.startsWith("type/"))
    .map(([key, value]) => ({ name: key.split("/")[1], mean: value, half: null, printed: null, said: two(value) })), "F1 by type")];
}

const RUN_COLUMNS = [["run", (run) => run.label], ["method", (run) => run.plugin], ["ablation", (run) => run.ablation], ["corpus", (run) => run.corpus],
  ["seed", (run) => run.seed], ["dev F1", (run) => (run.scores.dev || {}).f1], ["test F1", (run) => (run.scores.test || {}).f1], ["strict", (run) => (run.scores.test || {}).f1_strict]];

function runs() {
  const box = el("div", {});
  const show = () => {
    const sort = at("sort", RUN_COLUMNS.length, 6), down = state.get("up") !== "1", asked = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const value = RUN_COLUMNS[sort][1];
    const found = facts.runs.map((run, place) => [run, place]).filter(([run]) => asked.every((word) => (run.label + " " + run.path + " " + run.configuration).toLowerCase().includes(word)));
    found.sort(([a], [b]) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    });
    const head = RUN_COLUMNS.map(([name], place) => {
      const button = el("button", { type: "button" }, name, place === sort ? (down ? " ↓" : " ↑") : "");
      button.addEventListener("click", () => { note({ sort: place, up: place === sort && down }); show(); box.querySelectorAll("thead button")[place].focus(); });
      return el("th", { scope: "col", class: place > 3 ? "number" : null, "aria-sort": place === sort ? (down ? "descending" : "ascending") : "none" }, button);
    });
    box.replaceChildren(el("p", { role: "status" }, plural(found.length, "run")), wide(el("table", {}, el("caption", {}, "Runs"),
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, found.map(([run, place]) => el("tr", {}, el("th", { scope: "row" }, el("a", { href: address("runs", { run: place }) }, run.label)),
        RUN_COLUMNS.slice(1).map(([, each], c) => { const v = each(run); return el("td", { class: c > 2 ? "number" : null }, v === undefined ? "-" : c > 3 ? two(v) : v); }))))), "Runs"));
  };
  show();
  const chosen = at("run", facts.runs.length, -1), run = facts.runs[chosen];
  const about = run ? el("section", {}, el("h3", {}, run.label),
    el("dl", {}, [...run.signature, ["folder", run.path], ["typed", run.command || "not kept"], ["repeat it", run.repeat]]
      .map(([name, value]) => [el("dt", {}, name), el("dd", {}, name === "typed" || name === "repeat it" ? el("code", {}, value) : value)])),
    run.confusion ? el("p", {}, el("a", { href: "#confusion?run=" + chosen }, "Its confusion of types")) : "") : "";
  return [...heading("Runs"), about, el("fieldset", {}, el("legend", {}, "Filter"), search("Words in name or folder", state.get("q") || "", (value) => { note({ q: value }); show(); })), box];
}

// ---------------------------------------------------------------- posts

const SIZE = 25;
const SHOW = { all: "all posts", corrected: "corrected: A wrong, B right", spoiled: "spoiled: A right, B wrong", wrong: "both wrong", right: "both right", differ: "A and B differ" };
const key = (entities, place) => entities[place] + " " + entities[place + 1] + " " + entities[place + 2];

function spans(flat, type) {
  const found = [];
  for (let place = 0; place < flat.length; place += 3) if (type < 0 || flat[place + 2] === type) found.push(place);
  return found;
}
function same(a, b, type) {
  const [x, y] = [spans(a, type), spans(b, type)];
  return x.length === y.length && x.every((place, n) => key(a, place) === key(b, y[n]));
}
function says(set, run, place) {
  const said = set.said[run];
  return said ? set.answers[place][said[place]] : null;
}
function kindOf(set, place, a, b, type) {
  const gold = set.posts[place][2], one = says(set, a, place), other = b === null ? one : says(set, b, place);
  const right = same(one, gold, type), too = same(other, gold, type);
  return { corrected: !right && too, spoiled: right && !too, wrong: !right && !too, right: right && too, differ: !same(one, other, type), all: true };
}
function hasType(set, place, a, b, type) {
  return [set.posts[place][2], says(set, a, place), b === null ? [] : says(set, b, place)].some((each) => spans(each, type).length);
}

function entity(words, flat, place, types, kind) {
  const sign = { right: "✓ ", wrong: "✗ ", missed: "– " }[kind] || "";
  const name = { right: "right", wrong: "wrong", missed: "missed" }[kind];
  return el("mark", { class: kind, title: name || null }, sign, words.slice(flat[place], flat[place + 1]).join(" "), el("b", {}, types[flat[place + 2]]));
}

function sentence(words, gold, types) {
  const parts = [];
  let done = 0;
  for (const place of spans(gold, -1)) {
    if (gold[place] < done) continue;
    parts.push(words.slice(done, gold[place]).join(" ") + " ", entity(words, gold, place, types, "gold"), " ");
    done = gold[place + 1];
  }
  parts.push(words.slice(done).join(" "));
  return el("p", { class: "words", dir: "auto" }, parts);
}

function verdict(set, words, gold, said) {
  const mine = new Set(spans(said, -1).map((place) => key(said, place))), wanted = new Set(spans(gold, -1).map((place) => key(gold, place)));
  const marks = spans(said, -1).map((place) => entity(words, said, place, set.types, wanted.has(key(said, place)) ? "right" : "wrong"));
  const missed = spans(gold, -1).filter((place) => !mine.has(key(gold, place))).map((place) => entity(words, gold, place, set.types, "missed"));
  return marks.length + missed.length ? [marks, missed] : el("span", { class: "ghost" }, "none");
}

const ABSENT = { "-1": "missing", "-2": "damaged", "-3": "left out, since the page would grow too large", "-4": "not known here" };

function shot([name, number, caption]) {
  return el("figure", {}, number >= 0 ? el("img", { src: pictures()[number], alt: "picture " + name, loading: "lazy" }) : "",
    el("figcaption", {}, number >= 0 ? "" : "picture " + name + ": " + ABSENT[number], caption ? (number >= 0 ? "" : "; ") + "caption: " + caption : ""));
}

function postCard(set, place, a, b) {
  const [id, words, gold, flags, shots, episode, types] = set.posts[place];
  const about = [id, episode === null ? "" : "episode " + episode + (types.length ? ": " + types.join(", ") : ""), flags & 1 ? "ambiguous" : ""].filter(Boolean).join(" · ");
  const sides = [["A", a], ...(b === null ? [] : [["B", b]])];
  return el("li", {}, el("article", { class: shots.length ? null : "bare" },
    shots.length ? el("div", {}, shots.map(shot)) : "",
    el("div", {}, el("h3", {}, about), sentence(words, gold, set.types),
      el("div", { class: "pair" }, sides.map(([name, run]) => el("div", {}, el("h4", {}, name + ": " + facts.runs[run].label), verdict(set, words, gold, says(set, run, place))))))));
}

function setName(set) {
  const first = facts.runs[Object.keys(set.said)[0]];
  return first.corpus + " " + set.split + ", " + plural(set.total, "post") + ", " + plural(Object.keys(set.said).length, "run");
}

function posts() {
  if (!sets().length) return heading("Posts", el("p", {}, "None of the runs has predictions."));
  const place = at("set", sets().length, 0), set = sets()[place];
  const members = Object.keys(set.said).map(Number);
  const pick = (name, otherwise) => { const value = parseInt(state.get(name), 10); return members.includes(value) ? value : otherwise; };
  let a = pick("a", members[0]), b = state.get("b") === "none" ? null : pick("b", members.length > 1 ? members[1] : null);
  const list = el("ol", { class: "posts" }), status = el("p", { role: "status", tabindex: "-1" }), pager = el("div", { class: "pager" });
  const lower = once(() => set.posts.map(([id, words]) => (id + " " + words.join(" ")).toLowerCase()));
  const shows = el("select", {});
  const refresh = () => {
    const type = at("type", set.types.length, -1), asked = (state.get("q") || "").toLowerCase().trim();
    const wanted = Object.hasOwn(SHOW, state.get("show")) ? state.get("show") : "all";
    const counts = Object.fromEntries(Object.keys(SHOW).map((name) => [name, 0]));
    const found = [];
    for (let n = 0; n < set.posts.length; n += 1) {
      const flags = set.posts[n][3];
      if (state.get("ambiguous") && !(flags & 1)) continue;
      if (state.get("picture") && !(flags & 2)) continue;
      if (asked && !lower()[n].includes(asked)) continue;
      if (type >= 0 && !hasType(set, n, a, b, type)) continue;
      const kind = kindOf(set, n, a, b, type);
      for (const name of Object.keys(SHOW)) counts[name] += kind[name] ? 1 : 0;
      if (kind[wanted]) found.push(n);
    }
    shows.replaceChildren(...Object.entries(SHOW).map(([name, text]) => el("option", { value: name }, text + " (" + counts[name].toLocaleString("en") + ")")));
    shows.value = wanted;
    const pages = Math.max(1, Math.ceil(found.length / SIZE)), page = Math.min(pages - 1, Math.max(0, (parseInt(state.get("page"), 10) || 1) - 1));
    list.replaceChildren(...found.slice(page * SIZE, (page + 1) * SIZE).map((n) => postCard(set, n, a, b)));
    status.textContent = plural(found.length, "post") + (found.length ? ", page " + (page + 1) + " of " + pages : "")
      + (set.posts.length < set.total ? "; " + set.posts.length.toLocaleString("en") + " of the split's " + set.total.toLocaleString("en") + " posts are in this page, first those that runs differ on" : "");
    const turn = (text, to) => {
      const button = el("button", { type: "button" }, text);
      button.disabled = to < 0 || to >= pages;
      button.addEventListener("click", () => {
        note({ page: to + 1 });
        refresh();
        status.scrollIntoView();
        // the same button, which at the first and last page is disabled: then the other one
        const enabled = [...pager.querySelectorAll("button")].filter((each) => !each.disabled);
        (enabled.find((each) => each.textContent === text) || enabled[0] || status).focus();
      });
      return button;
    };
    pager.replaceChildren(turn("Previous page", page - 1), el("span", {}, (page + 1) + " / " + pages), turn("Next page", page + 1));
  };
  const change = (changes) => { note({ ...changes, page: null }); refresh(); };
  shows.addEventListener("change", () => change({ show: shows.value === "all" ? null : shows.value }));
  const names = members.map((run) => [run, facts.runs[run].label]);
  const form = el("fieldset", {}, el("legend", {}, "Which posts"),
    sets().length > 1 ? select("Data", sets().map((each, n) => [n, setName(each)]), place, (value) => go("posts", { set: value, a: null, b: null, type: null, page: null })) : "",
    select("Run A", names, a, (value) => { a = Number(value); change({ a: value }); }),
    select("Run B", [...names, ["none", "none"]], b === null ? "none" : b, (value) => { b = value === "none" ? null : Number(value); change({ b: value === "none" ? "none" : value }); }),
    el("label", {}, "Show", shows),
    select("Type", [["", "all types"], ...set.types.map((name, n) => [n, name])], state.get("type") || "", (value) => change({ type: value })),
    search("Words", state.get("q") || "", (value) => change({ q: value })),
    check(set.truth ? "ambiguous: only the picture tells a type" : "ambiguous: the same words have several types", Boolean(state.get("ambiguous")), (value) => change({ ambiguous: value })),
    check("with a picture", Boolean(state.get("picture")), (value) => change({ picture: value })));
  refresh();
  return [...heading("Posts"), el("p", {}, setName(set) + ". In the text the gold entities are marked. ✓ is right, ✗ is wrong, – is missed. A post counts as right where a run found just its gold entities", " (of the chosen type)."), form, status, list, pager];
}

// ---------------------------------------------------------------- frame

const MAKE = { overview, tables, ablations, sweeps, figures, confusion, runs, posts };
// sections that this page has something for; the others tell at their address why they are empty
const HELD = { overview: facts.tables.length || facts.problems.length, tables: facts.tables.length, ablations: facts.ablations.length,
  sweeps: facts.tables.some(isSweep), figures: facts.figures.length || facts.tables.some((table) => table.figures.length),
  confusion: facts.runs.some((run) => run.confusion), runs: facts.runs.length, posts: facts.sets };

function draw(focus) {
  document.getElementById("nav").replaceChildren(...Object.entries(VIEWS).filter(([name]) => HELD[name] || name === view).map(([name, text]) =>
    el("li", {}, el("a", { href: "#" + name, "aria-current": name === view ? "page" : null }, text))));
  main.replaceChildren(...MAKE[view]().flat(Infinity).filter((each) => each instanceof Node));
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

const THEMES = { "": "as the system", light: "light", dark: "dark" };
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

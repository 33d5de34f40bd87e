// Histograms, points in a plane, heat maps and pictures with boxes. All text goes through `el` and `svg` of parts.js.

const SHAPES = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "M-3.6-3.6h7.2v7.2h-7.2z", "M0-4.8L4.4 3.4H-4.4z", "M0-5L4.4 0L0 5L-4.4 0z",
  "M-1.4-4.6h2.8v3.2h3.2v2.8h-3.2v3.2h-2.8v-3.2h-3.2v-2.8h3.2z", "M0 4.8L4.4-3.4H-4.4z"];
const DRAW = { histogram, relevance, attention: maps, adjacency: maps, tsne, cases: casesOf, absent: () => [] };
const MOST_BOXES = 9, STRONGEST = 3; // outlines on a picture: all of few boxes, else the strongest
const AT_ONCE = 8; // posts with maps
const room = () => Math.max(280, Math.min(760, main.clientWidth - 40 || 640));

function drawing(found, level = "h4") {
  return el("section", { class: "drawing" }, el(level, {}, found.name), found.about ? el("p", {}, found.about) : "", DRAW[found.kind](found));
}

function typed(type, shape) {
  const group = svg("g", {}, shape);
  if (Object.hasOwn(facts.colours, type)) group.style.setProperty("--c", facts.colours[type][0]);
  return group;
}

function legendOf(entries) {
  // entries: name, number of the colour, shape, and the entity type whose colour it is, if it is one
  return el("ul", { class: "notes plain keys" }, entries.map(([name, number, shape, type]) => {
    const point = svg("path", { class: "point", d: shape });
    return el("li", {}, svg("svg", { viewBox: "-7 -7 14 14", width: 14, height: 14, class: "key", "aria-hidden": "true" },
      type === undefined ? svg("g", { class: "l" + number % 6 }, point) : typed(type, point)), name);
  }));
}

// ---------------------------------------------------------------- relevance of images

function histogram(found) {
  const width = room(), height = 260, left = 46, right = 14, top = 14, bottom = 46;
  const bins = found.series[0][1].length, most = Math.max(1, ...found.series.flatMap(([, counts]) => counts));
  const ten = 10 ** Math.floor(Math.log10(most / 2)), step = Math.max(1, [1, 2, 5, 10].map((each) => each * ten).find((each) => most / each <= 5)), high = step * Math.ceil(most / step);
  const x = (share) => left + (width - left - right) * share, y = (count) => top + (height - top - bottom) * (1 - count / high);
  const parts = [];
  for (let count = 0; count <= high; count += step) {
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(count), y2: y(count) }),
      svg("text", { x: left - 6, y: y(count) + 4, "text-anchor": "end" }, count.toLocaleString("en")));
  }
  for (let place = 0; place <= 5; place += 1) parts.push(svg("text", { x: x(place / 5), y: height - bottom + 18, "text-anchor": "middle" }, (place / 5).toFixed(1)));
  const broad = (x(1) - x(0)) / bins, each = (broad - 4) / found.series.length;
  found.series.forEach(([name, counts], number) => parts.push(svg("g", { class: "l" + number }, counts.map((count, bin) => count === 0 ? "" :
    svg("rect", { class: number ? "bin open" : "bin", x: x(bin / bins) + 2 + each * number, y: y(count), width: Math.max(1, each - 1), height: y(0) - y(count) },
      svg("title", {}, name + ", R " + (bin / bins).toFixed(1) + " to " + ((bin + 1) / bins).toFixed(1) + ": " + count))))));
  parts.push(svg("line", { class: "middle", x1: x(0.5), x2: x(0.5), y1: top, y2: y(0) }), svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "R"));
  return [svg("svg", { viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img", "aria-label": found.name + ": histogram of R" }, parts),
    legendOf(found.series.map(([name, counts], number) => [name + " (" + counts.reduce((sum, count) => sum + count, 0).toLocaleString("en") + ")", number, SHAPES[1]])),
    el("details", {}, el("summary", {}, "Counts"), countsByBin(found.series, bins))];
}

function countsByBin(series, bins) {
  return wide(el("table", {}, el("caption", {}, "Images by R"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "R"), series.map(([name]) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, [...Array(bins).keys()].map((bin) => el("tr", {}, el("th", { scope: "row" }, (bin / bins).toFixed(1) + " to " + ((bin + 1) / bins).toFixed(1)),
      series.map(([, counts]) => el("td", { class: "number" }, counts[bin].toLocaleString("en"))))))), "Images by R");
}

function relevance(found) {
  return el("ol", { class: "posts" }, found.posts.map((post) => el("li", {}, el("article", { class: "bare" },
    el("p", { class: "post" }, post.id), post.words.length ? sentence(post.words, post.gold, found.types) : "",
    el("div", { class: "shots" }, post.shots.map((each, place) => {
      const score = post.scores[place], known = post.truth && place < post.truth.length;
      const bar = el("span", { class: "bar" }), track = el("span", { class: "track share", "aria-hidden": "true" }, bar, el("span", { class: "half" }));
      bar.style.width = 100 * (score || 0) + "%";
      const said = score === null || score === undefined ? "not read" : "R = " + two(score);
      return el("div", {}, shot(each), score === null || score === undefined ? "" : track,
        el("p", {}, el("b", {}, said), known ? " · " + (post.truth[place] ? "relevant" : "irrelevant") : ""));
    }))))));
}

// ---------------------------------------------------------------- points in a plane

function tsne(found) {
  const width = room(), height = Math.round(width * 0.7), edge = 16, of = found.types.map(() => 0);
  const marks = found.points.map(([x, y, type, word, post]) => {
    of[type] += 1;
    return typed(found.types[type], svg("path", { class: "dot", d: SHAPES[type % SHAPES.length],
      transform: "translate(" + (edge + x * (width - 2 * edge)).toFixed(1) + " " + (edge + (1 - y) * (height - 2 * edge)).toFixed(1) + ")" },
      svg("title", {}, word + " (" + found.types[type] + "), post " + post)));
  });
  return [svg("svg", { viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img",
    "aria-label": found.name + ": words of gold entities, " + found.types.map((name, type) => name + " " + of[type]).join(", ") }, marks),
  legendOf(found.types.map((name, type) => [name + " (" + of[type].toLocaleString("en") + ")", type, SHAPES[type % SHAPES.length], name]))];
}

// ---------------------------------------------------------------- maps of posts

function maps(found) {
  const layers = found.posts.length ? found.posts[0].maps.map(([name]) => name) : [];
  const several = found.kind === "attention" && layers.length > 1;
  let layer = layers.length - 1, shown = AT_ONCE;
  const list = el("ol", { class: "posts" }), more = el("button", { type: "button" }, "Show more posts");
  const item = (post) => el("li", {}, mapPost(found, post, Math.min(layer, post.maps.length - 1)));
  const show = () => { list.replaceChildren(...found.posts.slice(0, shown).map(item)); more.hidden = shown >= found.posts.length; };
  more.addEventListener("click", () => { list.append(...found.posts.slice(shown, shown + AT_ONCE).map(item)); shown += AT_ONCE; more.hidden = shown >= found.posts.length; });
  show();
  const choice = several ? el("div", { class: "pager" }, select("Layer", layers.map((name, place) => [place, name]), layer, (value) => { layer = Number(value); show(); })) : "";
  return [choice, list, more];
}

const titleOf = (post) => post.id + (post.episode === null ? "" : " · episode " + post.episode);

function mapPost(found, post, layer) {
  const shown = found.kind === "attention" ? [post.maps[layer]] : post.maps, looks = post.maps[layer][1];
  const first = Math.max(0, post.rows.findIndex(([, type]) => type));
  const seen = el("div", { class: "shots" });
  const look = (row) => seen.replaceChildren(...post.shots.map((each, picture) => framed(each, picture, post.columns, looks[row])));
  look(first);
  const boxes = post.shots.length && post.columns.some(([, , box]) => box);
  const matrices = el("div", { class: "maps" }, shown.map(([name, weights]) => heat(post, name, weights)));
  const what = found.kind === "attention" ? "Attention of" : "Edges of";
  const names = post.rows.map(([name, type], row) => [row, name + (type ? " (" + type + ")" : "")]);
  return el("article", { class: "bare" }, el("p", { class: "post" }, titleOf(post)),
    sentence(post.words, post.gold, found.types), el("p", {}, "found: ", verdict(found, post.words, post.gold, post.said)),
    boxes && post.rows.length > 1 ? el("div", { class: "pager" }, select(what, names, first, (value) => look(Number(value)))) : "",
    seen, boxes && post.columns.length > MOST_BOXES ? el("details", {}, el("summary", {}, "All weights"), matrices) : matrices);
}

// ---- a layer of weights over a picture

const WARM = [[255, 214, 70], [232, 93, 20], [118, 8, 90]], COLD = [[170, 210, 240], [60, 140, 200], [8, 40, 110]];
const GRAIN = 56; // pixels of a layer's side, which the browser smooths

function shade(share) {
  // red, green, blue and opacity of a weight from -1 to 1; the stronger, the darker and the denser
  const ramp = share < 0 ? COLD : WARM, strength = Math.min(1, Math.abs(share)), place = strength * 2, step = Math.min(1, Math.floor(place));
  return [...ramp[step].map((value, n) => Math.round(value + (ramp[step + 1][n] - value) * (place - step))), 0.72 * strength ** 0.85];
}

function layerOf(own, most) {
  // each box is a hill of its weight; where hills meet they are averaged, so that the cells of a grid run into each other
  const layer = el("canvas", { class: "layer", width: GRAIN, height: GRAIN, "aria-hidden": "true" }), drawing = layer.getContext("2d");
  const hills = own.map(([, [x0, y0, x1, y1], weight]) => [(x0 + x1) / 2, (y0 + y1) / 2, 0.55 * (x1 - x0) + 0.01, 0.55 * (y1 - y0) + 0.01, weight]);
  const points = drawing.createImageData(GRAIN, GRAIN);
  for (let row = 0; row < GRAIN; row += 1) for (let column = 0; column < GRAIN; column += 1) {
    let sum = 0, whole = 0;
    for (const [x, y, wide, high, weight] of hills) {
      const [a, b] = [((column + 0.5) / GRAIN - x) / wide, ((row + 0.5) / GRAIN - y) / high], distance = a * a + b * b;
      if (distance > 12) continue;
      const hill = Math.exp(-distance / 2);
      sum += hill * weight;
      whole += hill;
    }
    const [red, green, blue, opacity] = shade(sum / Math.max(1, whole) / most);
    points.data.set([red, green, blue, Math.round(255 * opacity)], 4 * (row * GRAIN + column));
  }
  drawing.putImageData(points, 0, 0);
  return layer;
}

function layerScale(most, signs) {
  const low = signs ? -1 : 0, colours = [...Array(9).keys()].map((n) => shade(low + (1 - low) * n / 8));
  const band = el("span", { class: "band", "aria-hidden": "true" });
  band.style.background = "linear-gradient(to right, " + colours.map((each) => "rgba(" + each.join(",") + ")").join(", ") + ")";
  return el("p", { class: "layer-scale" }, signs ? (-most).toFixed(3) : "0", band, most.toFixed(3));
}

function framed([name, number, caption], picture_, columns, weights) {
  // the picture, with the weights of its boxes as a layer, and the outlines of the strongest boxes
  const own = columns.map(([label, of, box], place) => [label, box, weights[place], of]).filter(([, box, , of]) => of === picture_ && box);
  if (number < 0) return el("figure", {}, el("figcaption", {}, "picture " + name + ": " + ABSENT[number]));
  const most = Math.max(0.001, ...own.map(([, , weight]) => Math.abs(weight)));
  const frame = el("div", { class: "frame" }, picture(number, name), own.length ? layerOf(own, most) : "");
  const named = own.length <= MOST_BOXES ? own : [...own].sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, STRONGEST);
  for (const [label, [x0, y0, x1, y1], weight] of named) {
    const box = el("span", { class: x0 > 0.6 ? "box end" : "box", title: label + ": " + weight.toFixed(3) }, el("b", {}, label.replace(/^object /, "") + ": " + two(weight)));
    Object.assign(box.style, { left: 100 * x0 + "%", top: 100 * y0 + "%", width: 100 * (x1 - x0) + "%", height: 100 * (y1 - y0) + "%" });
    frame.append(box);
  }
  const few = named.length < own.length ? "The " + named.length + " strongest of " + own.length + " cells are outlined. " : "";
  return el("figure", {}, frame, own.length ? layerScale(most, own.some(([, , weight]) => weight < 0)) : "", el("figcaption", {}, few, caption));
}

const cut = (label, most) => (label.length > most ? label.slice(0, most - 1) + "…" : label);

function heat(post, name, weights) {
  const columns = post.columns.length, big = columns <= 12, w = big ? 48 : 15, h = big ? 28 : 15;
  const names = post.rows.map(([row]) => cut(row, 22)), heads = post.columns.map(([column]) => cut(column, 16));
  const left = 14 + 8 * Math.max(4, ...names.map((each) => each.length)), top = 16 + (big ? 5.4 : 7.2) * Math.max(4, ...heads.map((each) => each.length));
  const right = big ? 5.2 * Math.max(4, ...heads.map((each) => each.length)) : 8;
  const width = left + columns * w + right, height = top + names.length * h + 8;
  const most = Math.max(0.001, ...weights.flat().map(Math.abs));
  const parts = [svg("rect", { class: "ground", x: left, y: top, width: columns * w, height: names.length * h })];
  weights.forEach((row, r) => row.forEach((weight, c) => {
    if (Math.abs(weight) < 0.0005 && !big) return;
    const cell = svg("rect", { class: weight < 0 ? "cell below" : "cell", x: left + c * w, y: top + r * h, width: w, height: h },
      svg("title", {}, post.rows[r][0] + " → " + post.columns[c][0] + ": " + weight.toFixed(3)));
    cell.style.fillOpacity = ((big ? 0.45 : 1) * Math.abs(weight) / most).toFixed(3);
    parts.push(cell);
    if (big) parts.push(svg("text", { class: "value", x: left + (c + 0.5) * w, y: top + r * h + h / 2 + 4, "text-anchor": "middle" }, weight.toFixed(3)));
  }));
  const words = post.columns.findIndex(([, picture]) => picture !== null);
  if (words > 0 && names.length === columns) {
    parts.push(svg("line", { class: "divide", x1: left, x2: left + columns * w, y1: top + words * h, y2: top + words * h }),
      svg("line", { class: "divide", x1: left + words * w, x2: left + words * w, y1: top, y2: top + columns * h }));
  }
  names.forEach((label, r) => parts.push(svg("text", { class: post.rows[r][1] ? "entity" : null, x: left - 6, y: top + r * h + h / 2 + 4, "text-anchor": "end" }, label)));
  heads.forEach((label, c) => parts.push(svg("text", { class: names.length === columns && post.rows[c][1] ? "entity" : null,
    transform: "translate(" + (left + (c + 0.5) * w + (big ? -4 : 4)) + " " + (top - 6) + ") rotate(" + (big ? -35 : -90) + ")" }, label)));
  return el("div", {}, el("p", {}, el("b", {}, name), " · full colour is " + most.toFixed(3) + (weights.flat().some((weight) => weight < 0) ? "; the other colour is below 0" : "")),
    wide(svg("svg", { class: "map", viewBox: "0 0 " + Math.ceil(width) + " " + Math.ceil(height), width: Math.ceil(width), height: Math.ceil(height), role: "img",
      "aria-label": name + ": " + names.length + " rows, " + columns + " columns" }, parts), name + " of post " + titleOf(post)));
}

// ---------------------------------------------------------------- cases

function casesOf(found) {
  const labels = found.runs.map((run) => facts.runs[run].label);
  const place = sets().findIndex((set) => found.runs.every((run) => set.said[run]));
  if (place < 0) return el("p", {}, "Its runs were not asked about the same posts.");
  if (found.runs.length === 1) return el("p", {}, el("a", { href: "#posts?set=" + place + "&a=" + found.runs[0] + "&b=none" }, labels[0]));
  return el("ul", {}, found.runs.flatMap((a, n) => found.runs.slice(n + 1).map((b) => el("li", {}, "A: " + facts.runs[b].label + ", B: " + facts.runs[a].label + ": ",
    ["corrected", "spoiled", "wrong"].map((show) => [el("a", { href: "#posts?set=" + place + "&a=" + b + "&b=" + a + "&show=" + show }, show === "wrong" ? "both wrong" : show), " "])))));
}

// ---------------------------------------------------------------- the section

function figures() {
  const all = [...facts.tables.filter((table) => table.figures.length).map((table) => ({ title: table.title, note: table.note, drawn: table.figures })), ...facts.figures];
  if (!all.length) return heading("Figures", el("p", {}, "None of the tables asks for a figure, and none of the runs has one (mnerkit draw attention RUN)."));
  const chosen = at("f", all.length, 0), drawn = all[chosen].drawn, kind = at("k", drawn.length, 0);
  return [...heading("Figures"), el("fieldset", {}, el("legend", {}, "Which"),
    select("Run or table", all.map((each, place) => [place, each.title]), chosen, (value) => go("figures", { f: value, k: null })),
    drawn.length > 1 ? select("Figure", drawn.map((each, place) => [place, each.name]), kind, (value) => go("figures", { k: value })) : ""),
  el("p", { class: "ghost" }, all[chosen].note), drawn.slice(kind, kind + 1).map((each) => drawing(each, "h3"))];
}

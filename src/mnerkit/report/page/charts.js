// Charts: values on a labelled scale, bars from nothing, curves.

// ---------------------------------------------------------------- values and bars, a line each

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 25, 50];

function scaleOf(low, high, most) {
  // a scale with four to eight ticks around some values
  const step = STEPS.find((each) => (high - low) / each <= 5) || 50;
  const first = Math.max(0, step * Math.floor((low - step / 4) / step)), last = Math.min(Math.max(most, high), step * Math.ceil((high + step / 4) / step));
  const ticks = [];
  for (let tick = first; tick <= last + step / 1000; tick += step) ticks.push(Number(tick.toFixed(4)));
  return { first: ticks[0], last: ticks[ticks.length - 1], ticks };
}

function scaled(entries, name, scale, mark) {
  // lines of a name, what `mark` draws on the scale, and a text; the scale stands below
  const place = (value) => Math.max(0, Math.min(100, 100 * (value - scale.first) / (scale.last - scale.first || 1))) + "%";
  const put = (track, kind, from, to, colour) => {
    const part = el("span", { class: kind });
    if (colour) part.style.backgroundColor = colour;
    part.style.left = place(from);
    if (to !== undefined) part.style.width = "calc(" + place(to) + " - " + place(from) + ")";
    track.append(part);
  };
  const ground = () => {
    const track = el("span", { class: "track", "aria-hidden": "true" });
    for (const tick of scale.ticks) put(track, "tick", tick);
    return track;
  };
  const axis = el("span", { class: "track axis", "aria-hidden": "true" });
  for (const tick of scale.ticks) {
    const label = el("span", { class: "label" }, String(tick));
    label.style.left = place(tick);
    axis.append(label);
  }
  return el("ul", { class: "chart", "aria-label": name }, entries.map((entry) => {
    const track = ground();
    mark(entry, (kind, from, to, colour) => put(track, kind, from, to, colour));
    return el("li", { class: entry.best ? "first" : null }, el("span", { class: "name" }, entry.href ? el("a", { href: entry.href }, entry.name) : entry.name),
      track, el("span", { class: "said" }, entry.said));
  }), el("li", { class: "scale", "aria-hidden": "true" }, el("span", { class: "name" }, ""), axis, el("span", { class: "said" }, "")));
}

function dots(entries, name, most) {
  // entries: {name, mean, low, high, single, printed, said, best}; the scale begins near the lowest value, and says so
  const values = entries.flatMap((each) => [each.mean, each.low, each.high, each.printed]).filter((value) => value !== null && value !== undefined);
  if (!values.length) return el("p", {}, "Nothing to draw yet.");
  const scale = scaleOf(Math.min(...values), Math.max(...values), most || 100);
  return [scaled(entries, name, scale, (entry, put) => {
    if (entry.low !== null && entry.low !== undefined) put(entry.single ? "whisker single" : "whisker", entry.low, entry.high);
    if (entry.mean !== null) put("dot", entry.mean);
    if (entry.printed !== null && entry.printed !== undefined) put("printed", entry.printed);
  }), scale.first > 0 ? el("p", { class: "ghost small" }, "The scale goes from " + scale.first + " to " + scale.last + ", not from 0.") : ""];
}

function bars(entries, name, most) {
  // entries: {name, mean, said}; bars begin at 0, and the scale ends at what is the most
  const top = most || 100, ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => share * top);
  return scaled(entries, name, { first: 0, last: top, ticks }, (entry, put) => {
    if (entry.mean !== null && entry.mean !== undefined) put("bar", 0, entry.mean, entry.colour);
    if (entry.other !== null && entry.other !== undefined) put("bar other", 0, entry.other);
  });
}

// ---------------------------------------------------------------- curves

function curve(found) {
  const width = Math.max(280, Math.min(760, main.clientWidth - 40 || 640)), height = 300;
  const left = 46, right = 14, top = 14, bottom = 46;
  const values = [];
  for (const line of found.lines) for (const [, mean, half, printed] of line.points) {
    const room = found.tight ? 0 : half || 0; // a tight scale is that of the means, and cuts intervals of few seeds off
    if (mean !== null) values.push(mean - room, mean + room);
    if (printed !== null) values.push(printed);
  }
  if (!values.length) return el("p", {}, "Nothing to draw yet.");
  let low = Math.min(...values), high = Math.max(...values);
  const scale = scaleOf(low, high, Infinity);
  [low, high] = [scale.first, scale.last];
  const numbers = found.x.every((each) => typeof each === "number");
  const first = numbers ? Math.min(...found.x) : 0, last = numbers ? Math.max(...found.x) : found.x.length - 1;
  const inner = width - left - right - 16;
  const x = (place) => left + 8 + (last === first ? inner / 2 : inner * ((numbers ? found.x[place] : place) - first) / (last - first));
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const parts = [];
  for (const value of scale.ticks) {
    parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
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
      group.append(svg("path", { class: "point", d: SHAPES[number % SHAPES.length], transform: "translate(" + x(place).toFixed(1) + " " + y(mean).toFixed(1) + ")" }));
    }
    parts.push(group);
  });
  const chart = svg("svg", { viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img", "aria-label": found.name + ": curves" }, parts);
  const paper = found.lines.some((line) => line.points.some((each) => each[3] !== null)) ? "; open points and dashed lines are the paper's." : ".";
  const legend = [legendOf(found.lines.map((line, number) => [line.name, number, SHAPES[number % SHAPES.length]])),
    el("p", { class: "ghost small" }, "Filled points and lines are ours, with 95 % intervals over seeds" + (found.tight ? ", which the edges of the chart may cut off" : "") + paper)];
  return el("div", {}, chart, legend);
}


// Where a run errs: by type, length and frequency of its entities; which type it takes for which.

const f1Of3 = ([gold, predicted, correct]) => (gold + predicted ? 200 * correct / (gold + predicted) : null);

function confusionTable(run) {
  const [split, types, matrix] = run.confusion, names = [...types, "nothing"];
  return [el("h3", {}, "Confusion"),
    el("p", {}, "Gold types in rows, predicted types in columns, counted over entities whose bounds agree. The last column counts gold entities that nothing was found for, the last row predicted ones where there is none."),
    wide(el("table", { class: "figures" }, el("caption", {}, "Confusion of types, " + split + ", " + shortName(run)),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "gold \\ predicted"), names.map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, matrix.map((row, r) => el("tr", {}, el("th", { scope: "row" }, names[r]), row.map((value, c) => {
        const total = row.reduce((sum, each) => sum + each, 0);
        const cell = el("td", { class: "number" }, r === types.length && c === types.length ? "" : value.toLocaleString("en"));
        if (total && value) cell.style.backgroundColor = "rgba(var(--shade), " + (0.3 * value / total).toFixed(3) + ")";
        return cell;
      }))))), "Confusion of types")];
}

function groupBars(title, about, groups, others) {
  // groups: [name, [gold, predicted, correct]]; others: the same of another run, or nothing
  const entries = groups.flatMap(([name, counts], place) => {
    if (!counts[0] && !counts[1]) return [];
    const [mean, other] = [f1Of3(counts), others ? f1Of3(others[place][1]) : null];
    return { name, mean, other, said: [el("b", {}, mean === null ? "–" : two(mean)), other === null ? "" : " · " + two(other), el("small", {}, plural(counts[0], "gold entity", "gold entities"))] };
  });
  return [el("h3", {}, title), about ? el("p", { class: "ghost" }, about) : "", bars(entries, title)];
}

function reliabilityBars(run) {
  const found = run.reliability;
  if (!found) return "";
  const share = (value) => (100 * value).toFixed(1) + " %";
  const entries = found.bins.map(([low, score, right, count]) => ({
    name: low.toFixed(1) + " to " + (low + 0.1).toFixed(1), mean: 100 * right, other: 100 * score,
    said: [el("b", {}, share(right)), " · " + share(score), el("small", {}, plural(count, "entity", "entities"))],
  }));
  return [el("h3", {}, "Reliability of scores"),
    el("p", { class: "ghost" }, "Predicted entities by their score. The broad bar is the share that is right, the narrow one the mean score: of scores that can be taken at their word both are alike. On average they are "
      + (100 * found.error).toFixed(1) + " points apart (expected calibration error)." + (found.calibrated ? "" : " These scores come from distances and are no probabilities.")),
    bars(entries, "Reliability of scores")];
}

function breakdown() {
  const known = facts.runs.map((run, place) => [run, place]).filter(([run]) => run.groups);
  if (!known.length) return heading("Breakdown", el("p", {}, "None of the runs has predictions."));
  const pick = (key) => facts.runs[at(key, facts.runs.length, -1)];
  const run = pick("run") && pick("run").groups ? pick("run") : known[0][0];
  // another run of the same gold entities
  const alike = (each) => each !== run && each.corpus === run.corpus && each.protocol === run.protocol && each.groups.length.every(([, [gold]], n) => gold === run.groups.length[n][1][0]);
  const others = known.filter(([each]) => alike(each)), other = others.map(([each]) => each).find((each) => each === pick("b"));
  const type = run.scores[run.split] || {}, types = Object.keys(type).filter((key) => key.startsWith("type/"));
  const training = run.groups.training;
  return [...heading("Breakdown"), el("fieldset", {}, el("legend", {}, "Which"),
    select("Run", known.map(([each, place]) => [place, each.label]), facts.runs.indexOf(run), (value) => go("breakdown", { run: value })),
    others.length ? select("Beside it", [["none", "none"], ...others.map(([each, place]) => [place, each.label])], other ? facts.runs.indexOf(other) : "none", (value) => go("breakdown", { b: value === "none" ? null : value })) : ""),
  other ? el("p", {}, "The broad bar and the first figure are ", el("b", {}, shortName(run)), "; the narrow bar and the second figure are ", el("b", {}, shortName(other)), ".") : "",
  el("h3", {}, "F1 by type"), bars(types.map((key) => {
    const beside = other ? (other.scores[other.split] || {})[key] : undefined;
    const name = key.split("/")[1], colour = Object.hasOwn(facts.colours, name) ? facts.colours[name][0] : null;
    return { name, colour, mean: type[key], other: beside, said: [el("b", {}, two(type[key])), beside === undefined ? "" : " · " + two(beside)] };
  }), "F1 by type"),
  groupBars("F1 by length", "", run.groups.length, other && other.groups.length),
  training ? groupBars("F1 by frequency in training posts", "How often training posts of the corpus have an entity with the same words and type. A wrong prediction counts among those that its own words and type belong to.", training, other && other.groups.training) : "",
  reliabilityBars(run),
  run.confusion ? confusionTable(run) : ""];
}

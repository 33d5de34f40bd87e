// Dev F1 and training loss, epoch by epoch.

const MOST_LINES = 6; // of a chart

function learning() {
  const known = facts.overview.map((group, place) => [group, place]).filter(([group]) => group.rows.some((row) => row.learning.some((points) => points.length)));
  if (!known.length) return heading("Learning", el("p", {}, "None of the runs has a log of its epochs."));
  const chosen = at("g", facts.overview.length, known[0][1]), group = known.some(([, place]) => place === chosen) ? facts.overview[chosen] : known[0][0];
  const charts = ["F1 on dev", "Loss of training"].map((name, which) => {
    const rows = group.rows.filter((row) => row.learning[which].length), drawn = rows.slice(0, MOST_LINES);
    if (!drawn.length) return "";
    const last = Math.max(...drawn.flatMap((row) => row.learning[which].map(([epoch]) => epoch)));
    return [el("h3", {}, name), curve({ name, option: "epoch", tight: true, x: [...Array(last + 1).keys()], lines: drawn.map((row) => ({ name: row.name, points: row.learning[which] })) }),
      rows.length > drawn.length ? el("p", { class: "ghost small" }, "The best " + drawn.length + " of " + rows.length + " configurations are drawn.") : ""];
  });
  return [...heading("Learning"), known.length > 1 ? el("fieldset", {}, el("legend", {}, "Which"),
    select("Corpus and protocol", known.map(([each, place]) => [place, each.corpus + ", " + each.protocol]), facts.overview.indexOf(group), (value) => go("learning", { g: value }))) : "", charts];
}

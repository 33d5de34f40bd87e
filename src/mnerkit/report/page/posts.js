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
  const type = types[flat[place + 2]], badge = el("b", {}, type);
  const mark = el("mark", { class: kind, title: name || null }, sign, words.slice(flat[place], flat[place + 1]).join(" "), badge);
  if (Object.hasOwn(facts.colours, type)) {
    [badge.style.backgroundColor, badge.style.color] = facts.colours[type];
    mark.style.setProperty("--type", facts.colours[type][0]);
  }
  return mark;
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
  return el("figure", {}, number >= 0 ? picture(number, name) : "",
    el("figcaption", {}, number >= 0 ? "" : "picture " + name + ": " + ABSENT[number], caption ? (number >= 0 ? "" : "; ") + "caption: " + caption : ""));
}

const shortName = (run) => run.plugin + (run.ablation ? " " + run.ablation : "") + (run.origin === "trained" ? ", seed " + run.seed : " (" + run.origin + ")");

function f1Of(set, run, places, type) {
  // F1 of a run on some posts, of one type or all; nothing where no entity is gold or found
  let gold = 0, predicted = 0, correct = 0;
  for (const place of places) {
    const wanted = spans(set.posts[place][2], type), answer = says(set, run, place), mine = spans(answer, type);
    const keys = new Set(wanted.map((at) => key(set.posts[place][2], at)));
    gold += wanted.length;
    predicted += mine.length;
    correct += mine.filter((at) => keys.has(key(answer, at))).length;
  }
  return gold + predicted ? two(200 * correct / (gold + predicted)) : "–";
}

function postCard(set, place, a, b) {
  const [id, words, gold, flags, shots, episode, types] = set.posts[place];
  const about = [id, episode === null ? "" : "episode " + episode + (types.length ? ": " + types.join(", ") : ""), flags & 1 ? "ambiguous" : ""].filter(Boolean).join(" · ");
  const sides = [["A", a], ...(b === null ? [] : [["B", b]])];
  return el("li", {}, el("article", { class: shots.length ? null : "bare" },
    shots.length ? el("div", {}, shots.map(shot)) : "",
    el("div", {}, el("h3", {}, about), sentence(words, gold, set.types),
      el("div", { class: "pair" }, sides.map(([name, run]) => el("div", {}, el("h4", {}, name + ": " + shortName(facts.runs[run])), verdict(set, words, gold, says(set, run, place))))))));
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
  const list = el("ol", { class: "posts" }), status = el("p", { role: "status", tabindex: "-1" }), scores = el("div", { class: "scores" }), heads = el("div", { class: "heads" }, status, scores), pager = el("div", { class: "pager" });
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
    scores.replaceChildren(...[["A", a], ...(b === null ? [] : [["B", b]])].map(([name, run]) =>
      el("span", {}, name + ": " + shortName(facts.runs[run]) + ", F1 ", el("b", {}, f1Of(set, run, found, type)), " ")));
    const turn = (text, to) => {
      const button = el("button", { type: "button" }, text);
      button.disabled = to < 0 || to >= pages;
      button.addEventListener("click", () => {
        note({ page: to + 1 });
        refresh();
        form.scrollIntoView({ block: "end" });
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
  return [...heading("Posts"), el("p", {}, setName(set) + ". In the text the gold entities are marked. ✓ is right, ✗ is wrong, – is missed. A post counts as right where a run found just its gold entities", " (of the chosen type). The line that stays in sight has the F1 of each run on the posts that are listed."), form, heads, list, pager];
}


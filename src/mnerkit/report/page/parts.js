"use strict";
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

function picture(number, name) {
  const image = el("img", { src: pictures()[number], alt: "picture " + name, loading: "lazy" });
  // small generated pictures are shown as they are, pixel by pixel
  image.addEventListener("load", () => { if (image.naturalWidth <= 96) image.classList.add("pixels"); });
  return image;
}

// ---------------------------------------------------------------- where we are: the part of the address after #

let state = new URLSearchParams();
let view = "overview";
const VIEWS = { overview: "Overview", learning: "Learning", breakdown: "Breakdown", tables: "Tables", ablations: "Ablations", sweeps: "Sweeps", figures: "Figures",
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


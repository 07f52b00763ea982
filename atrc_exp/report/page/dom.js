"use strict";

// Elements and words. Text goes in as text, never as markup, whatever names and messages the runs hold.

function fillIn(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

function make(tag, attributes = {}, ...children) {
  return fillIn(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fillIn(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

const byId = (id) => document.getElementById(id);
const whole = (value) => value.toLocaleString("en-GB");
const probability = (perMille) => (perMille / 1000).toFixed(3);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const titleOf = (task) => DATA.tasks[task].title;
const looksOf = (type) => DATA.types[type];

// Where all scales follow one block, what is known of a scale, semseg@1, belongs to the block of its task.
const belongs = (row, target) => row === target || row.split("@")[0] === target;
const scaleOf = (row, target) => (row === target ? "" : `, scale ${row.split("@")[1]}`);

function spread([mean, std], scale, places) {
  const text = (scale * mean).toFixed(places);
  return std === null ? text : `${text} ± ${(scale * std).toFixed(places)}`;
}

// A type as a word on its colour, as in the matrix.
function chip(type) {
  const { title, fill, ink } = looksOf(type);
  return make("span", { class: "chip", style: `background:${fill};color:${ink}` }, title);
}

// A piece of a type's line, as in the chart.
function sample(type) {
  const line = makeSvg("line", { x1: 1, x2: 33, y1: 6, y2: 6, ...stroke(looksOf(type)) });
  return makeSvg("svg", { class: "sample", width: 34, height: 12, "aria-hidden": "true" }, line);
}

function stroke({ line, width, dashes }) {
  return { class: "curve", style: `--curve:${line}`, "stroke-width": 1.2 * width, "stroke-dasharray": dashes.join(" ") };
}

function table(label, heads, rows) {
  const head = heads.map((text) => make("th", { scope: "col" }, text));
  return make("div", { class: "table", role: "region", "aria-label": label, tabindex: 0 },
    make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
}

const row = (attributes, head, ...cells) =>
  make("tr", attributes, make("th", { scope: "row" }, head), cells.map((cell) => make("td", {}, cell)));

const gap = (text) => make("p", { class: "gap" }, text);

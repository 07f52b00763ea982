"use strict";

const DATA = JSON.parse(byId("data").textContent);
const state = { search: 0, seed: 0, step: Infinity, target: "", source: "" };

function view() {
  const search = DATA.searches[state.search];
  const seed = search.seeds[state.seed];
  return { search, seed, index: indexOf(seed.steps, state.step), target: state.target, source: state.source };
}

// The last recorded step that is not after the given one.
function indexOf(steps, step) {
  const after = steps.findIndex((one) => one > step);
  return after < 0 ? Math.max(steps.length - 1, 0) : Math.max(after - 1, 0);
}

function chooseSearch(number) {
  state.search = number;
  const { tasks, rows, seeds, notes } = DATA.searches[number];
  state.seed = Math.min(state.seed, seeds.length - 1);
  if (!rows.includes(state.target)) state.target = rows[0];
  if (!tasks.includes(state.source)) state.source = tasks[Math.min(1, tasks.length - 1)];
  byId("search").value = String(number);
  byId("seeds").replaceChildren(make("legend", {}, "Seed"), ...seeds.map(seedChoice));
  byId("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  byId("missing").hidden = !notes.length;
  buildMatrix();
  chooseSeed(state.seed);
}

function seedChoice({ seed, state: how }, number) {
  const input = make("input", { type: "radio", name: "seed", value: number });
  input.addEventListener("change", () => chooseSeed(number));
  const mark = how === "finished" ? null : make("small", {}, " unfinished");
  return make("label", { class: "choice", title: how }, input, make("span", {}, String(seed), mark));
}

function chooseSeed(number) {
  state.seed = number;
  document.querySelectorAll("input[name=seed]").forEach((input) => { input.checked = Number(input.value) === number; });
  const { steps } = view().seed;
  byId("step").max = String(Math.max(steps.length - 1, 0));
  byId("step").disabled = steps.length < 2;
  showBlock();
}

function chooseStep(step) {
  state.step = step;
  showStep();
}

function chooseBlock(target, source, focus) {
  Object.assign(state, { target, source });
  showBlock();
  if (focus) cellOf(target, source).focus();
}

const cellOf = (target, source) =>
  [...document.querySelectorAll("#matrix td")].find((cell) => cell.dataset.target === target && cell.dataset.source === source);

function buildMatrix() {
  const { tasks, rows } = DATA.searches[state.search];
  const head = make("tr", {}, make("th", { scope: "col" }, "target ← source"),
    tasks.map((task) => make("th", { scope: "col" }, titleOf(task))));
  const body = rows.map((target) => make("tr", {}, make("th", { scope: "row" }, titleOf(target)),
    tasks.map((source) => cell(target, source))));
  byId("matrix").replaceChildren(make("thead", {}, head), make("tbody", {}, body));
}

function cell(target, source) {
  const made = make("td", { role: "gridcell", "data-target": target, "data-source": source, tabindex: -1 });
  made.addEventListener("click", () => chooseBlock(target, source, true));
  return made;
}

// Arrows move by a block, Home and End to the ends of a row; the grid is one stop of the tab key.
function moveInMatrix(event) {
  const { tasks, rows } = DATA.searches[state.search];
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] };
  if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const [down, right] = moves[event.key];
  const moved = (names, name, by) => names[Math.min(Math.max(names.indexOf(name) + by, 0), names.length - 1)];
  chooseBlock(moved(rows, state.target, down), moved(tasks, state.source, right), true);
}

function showMatrix(now) {
  for (const one of document.querySelectorAll("#matrix td")) {
    const { target, source } = one.dataset;
    const selected = target === state.target && source === state.source;
    const found = leading(now, target, source);
    const look = found ? looksOf(found.type) : { fill: "transparent", ink: "inherit", title: "?" };
    one.setAttribute("style", `background:${look.fill};color:${look.ink}`);
    one.setAttribute("aria-selected", String(selected));
    one.setAttribute("aria-label", describe(now, target, source));
    one.tabIndex = selected ? 0 : -1;
    const open = found && found.value !== null && !found.frozen;
    const value = open ? probability(found.value).slice(0, 4) : found?.frozen ? "frozen" : "";
    one.replaceChildren(make("b", {}, look.title), make("span", {}, value), ...(open ? [strip(now, target, source)] : []));
  }
}

// All probabilities of a block side by side.
function strip({ seed, index }, target, source) {
  const parts = Object.entries(seed.blocks[target]?.[source]?.p ?? {});
  return make("i", { class: "strip", "aria-hidden": "true" },
    parts.map(([type, values]) => make("s", { style: `flex-grow:${values[index]};background:${looksOf(type).fill}` })));
}

// What depends on the step; the panels that do not are left alone while it moves.
function showStep() {
  const now = view();
  const { steps } = now.seed;
  const words = steps.length ? `${whole(steps[now.index])} of ${whole(steps[steps.length - 1])}` : "not recorded";
  byId("step").value = String(now.index);
  byId("step").setAttribute("aria-valuetext", `iteration ${words}`);
  byId("iteration").textContent = words;
  showMatrix(now);
  drawCurves(now);
  byId("candidates").replaceChildren(candidates(now));
  drawCourse(now);
  rememberSoon();
}

function showBlock() {
  const now = view();
  byId("block-title").replaceChildren(`${titleOf(now.target)} ← ${titleOf(now.source)}`, make("small", {}, ` seed ${now.seed.seed}`));
  const panels = { costs: costNote, "seed-table": seedsTable, vote: voteText, importance: importancePanel, attention: attentionPanel };
  for (const [id, panel] of Object.entries(panels)) byId(id).replaceChildren(...[panel(now)].flat());
  showStep();
}

// The address tells what is shown, so that it can be sent; browsers limit how often it may change.
let waiting = 0;
function rememberSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const { search, seed, index, target, source } = view();
    const words = { search: search.name, seed: seed.seed, block: `${target}.${source}` };
    if (seed.steps.length) words.step = seed.steps[index];
    history.replaceState(null, "", `#${new URLSearchParams(words)}`);
  }, 300);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const number = Math.max(0, DATA.searches.findIndex(({ name }) => name === words.get("search")));
  const [target, source] = (words.get("block") ?? "").split(".");
  const seed = DATA.searches[number].seeds.findIndex((one) => String(one.seed) === words.get("seed"));
  const step = Number(words.get("step") ?? NaN);
  Object.assign(state, { target, source, seed: Math.max(seed, 0), step: Number.isFinite(step) ? step : Infinity });
  chooseSearch(number);
}

function start() {
  byId("search").append(...DATA.searches.map(({ name }, number) => make("option", { value: number }, name)));
  byId("search").addEventListener("change", (event) => chooseSearch(Number(event.target.value)));
  byId("step").addEventListener("input", (event) => chooseStep(view().seed.steps[Number(event.target.value)]));
  byId("matrix").addEventListener("keydown", moveInMatrix);
  for (const id of ["curves", "entropy", "frozen"]) followPointer(byId(id), () => view().seed.steps, chooseStep);
  document.querySelectorAll("input[name=scheme]").forEach((input) =>
    input.addEventListener("change", () => { document.documentElement.style.colorScheme = input.value; }));
  addEventListener("hashchange", recall);
  addEventListener("beforeprint", showStep);
  recall();
  new ResizeObserver(showStep).observe(byId("curves").parentElement);
}

start();

"use strict";

// Line charts over the iterations, redrawn in whole; the container keeps the pointer's handlers.

const MARGIN = { left: 40, right: 12, top: 10, bottom: 26 };
const LEAST_DISTANCE = 72; // of two numbers below the axis, in pixels

function roundTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return ticks;
}

function scales(container, { steps, high, height }) {
  const width = Math.max(container.clientWidth, 120);
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const inner = width - MARGIN.left - MARGIN.right;
  const x = (step) => MARGIN.left + (last > first ? (inner * (step - first)) / (last - first) : inner / 2);
  const y = (value) => height - MARGIN.bottom - ((height - MARGIN.top - MARGIN.bottom) * value) / high;
  return { width, height, x, y, first, last };
}

function axes({ width, height, x, y, first, last }, { high, format }) {
  const isFree = (tick, number, all) => number === all.length - 1 || x(all[number + 1]) - x(tick) >= LEAST_DISTANCE;
  const ticks = roundTicks(first, last, Math.max(2, width / 110)).filter(Number.isInteger).filter(isFree);
  const levels = [0, high / 2, high].map((value) => [
    makeSvg("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
    makeSvg("text", { class: "tick", x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, format(value)),
  ]);
  const marks = ticks.map((tick) =>
    makeSvg("text", { class: "tick", x: x(tick), y: height - 6, "text-anchor": anchor(x(tick), width) }, whole(tick)));
  const word = width > 320 ? [makeSvg("text", { class: "tick", x: 0, y: height - 6 }, "iteration")] : [];
  return [...levels.flat(), ...marks.slice(word.length && x(ticks[0]) < 90 ? 1 : 0), ...word];
}

const anchor = (x, width) => (x > width - 30 ? "end" : x < MARGIN.left + 10 ? "start" : "middle");

// A gap in the values is a gap in the line; a single point is a dot.
function path(values, steps, { x, y }) {
  let pen = "M";
  let text = "";
  values.forEach((value, index) => {
    if (value !== null) text += `${pen}${x(steps[index]).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = value === null ? "M" : "L";
  });
  return text + (steps.length === 1 && text ? "h0" : "");
}

function shade({ x, y, last }, { high, steps, frozen }) {
  if (frozen === null) return [];
  const left = x(steps[frozen]);
  return [makeSvg("rect", { class: "frozen", x: left, y: y(high), width: Math.max(x(last) - left, 2), height: y(0) - y(high) })];
}

function marker({ x, y }, { high, steps, series, index }) {
  const at = x(steps[index]);
  const dots = series.filter(({ values }) => values[index] !== null).map(({ values, look }) =>
    makeSvg("circle", { class: "dot", style: `--curve:${look.line}`, cx: at, cy: y(values[index]), r: 4 }));
  return [makeSvg("line", { class: "now", x1: at, x2: at, y1: y(high), y2: y(0) }), ...dots];
}

// chart: { label, steps, series: [{ values, look }], high, index, frozen, height, format }
function drawChart(container, chart) {
  const place = scales(container, chart);
  const lines = chart.series.map(({ values, look }) => makeSvg("path", { ...stroke(look), d: path(values, chart.steps, place) }));
  container.replaceChildren(makeSvg("svg",
    { role: "img", "aria-label": chart.label, width: place.width, height: place.height,
      viewBox: `0 0 ${place.width} ${place.height}` },
    shade(place, chart), axes(place, chart), lines, marker(place, chart)));
}

// Calls back with the iteration under the pointer, while it is down.
function followPointer(container, stepsNow, callback) {
  const move = (event) => {
    const steps = stepsNow();
    if (!steps.length || !container.hasPointerCapture(event.pointerId)) return;
    const box = container.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    callback(steps[0] + Math.min(Math.max(share, 0), 1) * (steps[steps.length - 1] - steps[0]));
  };
  container.addEventListener("pointerdown", (event) => {
    container.setPointerCapture(event.pointerId);
    move(event);
  });
  container.addEventListener("pointermove", move);
}

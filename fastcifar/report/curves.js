"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = data.colours, DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const SVG = "http://www.w3.org/2000/svg";

// figures of a protocol

for (const radio of document.querySelectorAll("input[name=protocol]")) {
  radio.addEventListener("change", () => {
    for (const figure of document.querySelectorAll("figure[data-protocol]")) figure.hidden = figure.dataset.protocol !== radio.value;
  });
}

// curves

const boxes = [...document.querySelectorAll("#runs input[type=checkbox]")];
const metric = document.getElementById("metric"), chart = document.getElementById("chart");

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(+at.toPrecision(6));
  return found;
}

function plot() {
  const runs = boxes.filter((box) => box.checked).map((box) => box.value);
  document.getElementById("chosen").textContent = runs.length === 1 ? "1 run" : `${runs.length} runs`;
  chart.replaceChildren();
  const scale = metric.value === "a" ? 100 : 1;
  const lines = runs.map((run) => data.runs[run][metric.value].map((y, n) => [n + 1, y === null ? null : y * scale]));
  const points = lines.flat().filter(([, y]) => y !== null);
  if (!points.length) return;
  const width = Math.max(360, chart.clientWidth), height = 380, left = 56, right = 12, top = 12, bottom = 40;
  let low = Math.min(...points.map((p) => p[1])), high = Math.max(...points.map((p) => p[1]));
  if (high === low) { high += 1; low -= 1; }
  const last = Math.max(2, ...points.map((p) => p[0]));
  const x = (epoch) => left + ((epoch - 1) / (last - 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const legend = document.createElement("ul");
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${metric.selectedOptions[0].text} of ${runs.join(", ")}` });
  for (const at of ticks(low, high, 5)) {
    svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
      element("text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, at));
  }
  for (const at of ticks(1, last, 8).filter((n) => Number.isInteger(n))) {
    svg.append(element("text", { x: x(at), y: height - bottom + 18, "text-anchor": "middle" }, at));
  }
  svg.append(element("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"));
  lines.forEach((line, n) => {
    const style = { fill: "none", stroke: COLOURS[n % COLOURS.length], "stroke-width": 2,
      "stroke-dasharray": DASHES[Math.floor(n / COLOURS.length) % DASHES.length] };
    let path = "", pen = "M";
    for (const [epoch, value] of line) {
      if (value === null) { pen = "M"; continue; }
      path += `${pen}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    const drawn = element("path", { d: path, ...style, "data-run": runs[n] });
    drawn.append(element("title", {}, runs[n]));
    svg.append(drawn);
    for (const [epoch, value] of line.length === 1 ? line : []) {
      svg.append(element("circle", { cx: x(epoch), cy: y(value), r: 4, fill: style.stroke }));
    }
    const sign = element("svg", { viewBox: "0 0 40 10", "aria-hidden": "true" }), item = document.createElement("li");
    sign.append(element("line", { x1: 0, x2: 40, y1: 5, y2: 5, ...style, "stroke-width": 3 }));
    item.append(sign, runs[n]);
    legend.append(item);
  });
  chart.append(svg, legend);
}

addEventListener("resize", plot);
for (const box of boxes) box.addEventListener("change", plot);
metric.addEventListener("change", plot);
document.getElementById("clear").addEventListener("click", () => { for (const box of boxes) box.checked = false; plot(); });
boxes.slice(0, 3).forEach((box) => { box.checked = true; });
plot();

// confusion

const confused = document.getElementById("confused");
function matrix() {
  const { classes, confusion } = data.confusion[confused.value], table = document.createElement("table");
  const head = table.createTHead().insertRow();
  head.append(document.createElement("th"));
  for (const name of [...classes, "right, %"]) head.append(Object.assign(document.createElement("th"), { textContent: name, scope: "col" }));
  confusion.forEach((counts, n) => {
    const row = (table.tBodies[0] ?? table.createTBody()).insertRow(), total = counts.reduce((a, b) => a + b, 0);
    row.append(Object.assign(document.createElement("th"), { textContent: classes[n], scope: "row" }));
    counts.forEach((count, m) => {
      const cell = row.insertCell(), share = total ? count / total : 0;
      cell.textContent = count;
      cell.style.background = `color-mix(in srgb, ${n === m ? "#0072B2" : "#D55E00"} ${Math.round(Math.min(60, share * (n === m ? 60 : 250)))}%, var(--paper))`;
    });
    row.insertCell().textContent = total ? ((100 * counts[n]) / total).toFixed(1) : "none";
  });
  document.getElementById("matrix").replaceChildren(table);
}
if (confused) { confused.addEventListener("change", matrix); matrix(); }

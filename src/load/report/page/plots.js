// Plots as inline SVG, drawn for the width that there is.
const SVG = "http://www.w3.org/2000/svg";
/** Most points of a line over time; more slots are put together. */
const BINS_MAX = 300;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== "") made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Round values from zero to at least `max`, about `wanted` of them. */
function niceTicks(max, wanted, steps) {
  const least = max / wanted || 1;
  const size = 10 ** Math.floor(Math.log10(least));
  const step = (steps || []).find((one) => one >= least * 0.999) || [1, 2, 5, 10].map((one) => one * size).find((one) => one >= least * 0.999);
  const ticks = [];
  for (let i = 0; i === 0 || (i - 1) * step < max * 0.9999; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Slots put together into at most BINS_MAX bins; of latencies the worst slot counts. */
function binned(timeline) {
  const size = Math.ceil(timeline.slots.length / BINS_MAX) || 1;
  const bins = [];
  for (let from = 0; from < timeline.slots.length; from += size) {
    const slots = timeline.slots.slice(from, from + size);
    const sum = (value) => slots.reduce((all, slot) => all + value(slot), 0);
    const worst = (key) => slots.reduce((all, slot) => Math.max(all, slot[key]), 0);
    const seconds = slots.length * timeline.slot_s || 1;
    const bin = { from: from * timeline.slot_s, seconds, due: sum((slot) => slot.due) / seconds, ended: 0, size };
    for (const [key] of OUTCOMES) bin[key] = sum((slot) => slot.outcomes[key]) / seconds;
    for (const [key] of OUTCOMES) bin.ended += bin[key];
    for (const key of ["p50", "p90", "p99", "max"]) bin[key] = worst(key);
    bins.push(bin);
  }
  return bins;
}

/** A path through points; `null` interrupts it. A lone point is a dot. */
function through(points) {
  let path = "";
  points.forEach((point, i) => {
    if (!point) return;
    const begins = !points[i - 1];
    path += `${begins ? "M" : "L"}${point[0].toFixed(1)},${point[1].toFixed(1)}`;
    if (begins && !points[i + 1]) path += "h0.01";
  });
  return path;
}

/** An area of steps between two heights per bin. */
function steps(bins, x, low, high) {
  const there = [], back = [];
  bins.forEach((bin, i) => {
    const left = x(bin.from).toFixed(1), right = x(bin.from + bin.seconds).toFixed(1);
    there.push(`${left},${high(i).toFixed(1)}`, `${right},${high(i).toFixed(1)}`);
    back.unshift(`${right},${low(i).toFixed(1)}`, `${left},${low(i).toFixed(1)}`);
  });
  return there.length ? `M${there.join("L")}L${back.join("L")}Z` : "";
}

/** Heights on a linear axis from zero, or on a logarithmic one. */
function vertical(spec, top, bottom) {
  if (spec.isLog) {
    const values = spec.values.filter((value) => value > 0);
    const low = Math.floor(Math.log10(Math.min(...values, 1e9)) + 1e-9);
    const from = values.length ? low : -1;
    const to = values.length ? Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9)) : 1;
    const every = Math.ceil((to - from) / 8);
    const ticks = [];
    for (let power = from; power <= to; power += every) ticks.push(10 ** power);
    const y = (value) => bottom - ((Math.log10(value) - from) / (to - from)) * (bottom - top);
    return { ticks, y };
  }
  const ticks = niceTicks(Math.max(...spec.values, 0), 4);
  const max = ticks[ticks.length - 1] || 1;
  return { ticks, y: (value) => bottom - (value / max) * (bottom - top) };
}

/** Bands and lines where something was done, numbered as in the table of faults. */
function faultMarks(faults, x, plot) {
  const group = shape("g", { "data-faults": faults.length });
  const starts = faults.map((fault) => x(fault.at_s));
  faults.forEach((fault, i) => {
    const left = starts[i];
    const right = present(fault.until_s) ? Math.min(x(fault.until_s), plot.right) : left;
    group.append(shape("title", {}, fault.what));
    if (right > left) group.append(shape("rect", { class: "band", x: left, y: plot.top, width: right - left, height: plot.bottom - plot.top }));
    group.append(shape("line", { class: "mark", x1: left, x2: left, y1: plot.top - 6, y2: plot.bottom }));
    const later = starts.filter((start) => start > left + 1);
    const room = Math.floor((Math.min(plot.right, ...later) - left - 8) / 6.8);
    const text = `${i + 1} ${fault.what}`;
    const label = text.length <= room ? text : room > 12 ? text.slice(0, room - 1) + "…" : String(i + 1);
    if (room > 1 || left > plot.right - 24) group.append(shape("text", { class: "fault", x: left, y: plot.top - 9, "data-fault": i + 1 }, label));
  });
  return group;
}

/** Grid, ticks and what they say. */
function axes(spec, x, scale, plot) {
  const group = shape("g", { "aria-hidden": "true" });
  for (const tick of scale.ticks) {
    const y = scale.y(tick);
    group.append(shape("line", { class: "grid", x1: plot.left, x2: plot.right, y1: y, y2: y }));
    group.append(shape("text", { x: plot.left - 8, y: y + 4, "text-anchor": "end" }, spec.yText(tick)));
  }
  for (const [at, text] of spec.xTicks(Math.max(2, Math.floor((plot.right - plot.left) / 90)))) {
    group.append(shape("line", { class: "axis", x1: x(at), x2: x(at), y1: plot.bottom, y2: plot.bottom + 5 }));
    const anchor = x(at) > plot.right - 14 ? "end" : "middle";
    group.append(shape("text", { x: x(at), y: plot.bottom + 19, "text-anchor": anchor }, text));
  }
  group.append(shape("line", { class: "axis", x1: plot.left, x2: plot.right, y1: plot.bottom, y2: plot.bottom }));
  return group;
}

/** Draws a plot into its place, at the width of that. */
function draw(spec, place) {
  const width = Math.max(260, Math.round(place.clientWidth) || 800);
  const height = width < 500 ? 220 : 260;
  const longest = spec.isLog ? 7 : Math.max(...niceTicks(Math.max(...spec.values, 0), 4).map((tick) => spec.yText(tick).length));
  const plot = { left: 14 + 7 * longest, right: width - 6, top: spec.faults && spec.faults.length ? 26 : 10, bottom: height - 28 };
  const scale = vertical(spec, plot.top, plot.bottom);
  const x = (value) => plot.left + (value / (spec.xMax || 1)) * (plot.right - plot.left);
  const titles = [shape("title", { id: spec.id + "-t" }, spec.title), shape("desc", { id: spec.id + "-d" }, spec.summary)];
  const svg = shape("svg", {
    id: spec.id, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: spec.read ? 0 : null,
    "aria-labelledby": `${spec.id}-t ${spec.id}-d`,
  }, ...titles, axes(spec, x, scale, plot));
  spec.shapes(svg, x, scale.y);
  // On top: areas would hide them.
  if (spec.faults) svg.append(faultMarks(spec.faults, x, plot));
  place.replaceChildren(svg);
  if (spec.read) follow(svg, spec, x, plot, place.nextElementSibling);
}

/** Tells the figures under the pointer, or where the arrow keys went. */
function follow(svg, spec, x, plot, readout) {
  const cursor = shape("line", { class: "cursor", y1: plot.top, y2: plot.bottom, visibility: "hidden" });
  svg.append(cursor);
  let at = -1;
  const show = (i) => {
    at = Math.max(0, Math.min(spec.bins.length - 1, i));
    const bin = spec.bins[at];
    if (!bin) return;
    const middle = x(bin.from + bin.seconds / 2);
    for (const [key, value] of [["x1", middle], ["x2", middle], ["visibility", "visible"]]) cursor.setAttribute(key, value);
    readout.textContent = `${time(bin.from)}: ${spec.read(bin)}`;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const share = (across - plot.left) / (plot.right - plot.left);
    show(Math.floor((share * spec.xMax) / (spec.bins[0] ? spec.bins[0].seconds : 1)));
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(at + step);
  });
}

/** What the colours and dashes mean. */
function legend(entries) {
  const items = entries.map(({ label, colour, dash, isArea, isStrong }) => {
    const sample = isArea
      ? shape("rect", { x: 4, y: 0, width: 14, height: 12, rx: 2 })
      : shape("line", { x1: 1, x2: 21, y1: 6, y2: 6, "stroke-width": isStrong ? 3 : 2, "stroke-dasharray": dash });
    sample.style[isArea ? "fill" : "stroke"] = `var(${colour})`;
    return el("li", {}, shape("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, sample), label);
  });
  return el("ul", { class: "legend" }, ...items);
}

/** A line with its number of points, for those who count. */
function line(points, { label, colour, dash, isStrong }) {
  const path = shape("path", {
    class: isStrong ? "line strong" : "line", d: through(points), "stroke-dasharray": dash,
    "data-line": label, "data-points": points.filter(Boolean).length,
  });
  path.style.stroke = `var(${colour})`;
  return path;
}

/** The figure around a plot: caption, legend, plot, figures as a table. Redrawn when its width changes. */
function figure(spec) {
  const place = el("div");
  const numbers = el("details", {}, el("summary", {}, "The figures as a table"));
  const whole = el("figure", {},
    el("figcaption", {}, el("h3", {}, spec.title), el("p", {}, spec.summary), legend(spec.legend)),
    place, el("p", { class: "readout", "aria-live": "polite" }, "Point at the plot, or use the arrow keys there, for the figures of a moment."), numbers);
  if (!spec.read) place.nextElementSibling.remove();
  // Long tables are made only for those who look at them.
  numbers.addEventListener("toggle", () => {
    if (numbers.open && numbers.children.length === 1) numbers.append(spec.table());
  });
  whole.redraw = () => draw(spec, place);
  return whole;
}

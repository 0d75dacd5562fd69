// The page: what is shown of a report, from the question that matters most to the smallest figure.
const FIGURES = JSON.parse(byId("report").textContent);
const REPORT = FIGURES.report;
const TOTAL = REPORT.total;
const BINS = binned(REPORT.timeline);
const END_S = Math.max(REPORT.duration_s, BINS.length ? BINS[BINS.length - 1].from + BINS[BINS.length - 1].seconds : 0);
const CLASSES = Object.entries(REPORT.by_class);
const RESOLVERS = Object.entries(REPORT.by_resolver);

function verdict() {
  const failed = TOTAL.recovery.failed;
  const heading = byId("verdict");
  heading.replaceChildren();
  if (!TOTAL.lookups) heading.append("Nothing was looked up.");
  else if (!failed) heading.append("None of ", number("lookups", TOTAL.lookups, count(TOTAL.lookups)), " lookups failed.");
  else {
    const part = share(failed, TOTAL.lookups);
    heading.append(number("failed", failed, count(failed), "span", "bad"), ` of ${plural(TOTAL.lookups, "lookup")} failed (${part}).`);
  }
  document.title = `${REPORT.title || "load"}: ${heading.textContent}`;
  const last = TOTAL.recovery.last_failure_s;
  const story = [];
  if (present(last)) {
    const seen = fromFault(last, REPORT.faults);
    story.push(seen ? `The last failure was ${seen.text}, ${time(last)} into the run.` : `The last failure was ${time(last)} into the run.`);
  }
  const stuck = TOTAL.recovery.stuck_clients;
  if (stuck) story.push(`${plural(stuck, "client")} of ${count(TOTAL.recovery.clients)} had no success any more: the last two lookups or more failed.`);
  else if (failed) story.push("No client was stuck at the end.");
  const missed = REPORT.slo.filter((goal) => !goal.is_met).length;
  if (REPORT.slo.length) story.push(missed ? `${count(missed)} of ${plural(REPORT.slo.length, "goal")} missed.` : `${REPORT.slo.length === 1 ? "The goal was" : `All ${count(REPORT.slo.length)} goals were`} met.`);
  if (REPORT.ended && REPORT.ended !== "complete") story.push(`The run did not come to its end: ${REPORT.ended}.`);
  byId("story").textContent = story.join(" ");
  const begun = new Date(REPORT.started_unix_ms);
  const when = REPORT.started_unix_ms && !isNaN(begun) ? begun.toISOString().replace("T", " ").slice(0, 19) + " UTC" : "";
  byId("run").textContent = [REPORT.title, REPORT.plan.servers.join(", "), when, time(REPORT.duration_s)].filter(Boolean).join(" · ");
  byId("made").textContent = [REPORT.made_by, REPORT.schema].filter(Boolean).join(" · ");
  const saturated = byId("saturated");
  saturated.hidden = !REPORT.generator.saturated;
  saturated.textContent = REPORT.generator.saturated ? `Do not blame the server: ${REPORT.generator.saturated}` : "";
}

function tile(term, name, value, text, note, mood) {
  const shown = el("dd", { class: `figure ${mood || ""}`.trim() }, number(name, value, text));
  return el("div", {}, el("dt", {}, term), shown, el("dd", { class: "note" }, note));
}

function tiles() {
  const { recovery, outcomes, latency: spread } = TOTAL;
  const last = recovery.last_failure_s;
  const seen = present(last) ? fromFault(last, REPORT.faults) : null;
  const met = REPORT.slo.filter((goal) => goal.is_met).length;
  const mood = (value) => (value ? "bad" : TOTAL.lookups ? "good" : "");
  byId("tiles").append(
    tile("failed lookups", "tile.failed", recovery.failed, count(recovery.failed), `of ${count(TOTAL.lookups)}, ${share(recovery.failed, TOTAL.lookups)}`, mood(recovery.failed)),
    tile("unknown host", "tile.unknown_host", outcomes.unknown_host, count(outcomes.unknown_host), present(recovery.last_unknown_host_s) ? `the last at ${time(recovery.last_unknown_host_s)}` : "never told", mood(outcomes.unknown_host)),
    tile("last failure", "tile.last_failure", last, seen ? time(seen.since) : present(last) ? time(last) : "", seen ? seen.text.replace(time(seen.since), "").trim() : present(last) ? "into the run" : "there was none"),
    tile("stuck clients", "tile.stuck", recovery.stuck_clients, count(recovery.stuck_clients), `of ${count(recovery.clients)} at the end`, mood(recovery.stuck_clients)),
    tile("longest outage", "tile.longest_outage", recovery.longest_outage_s, time(recovery.longest_outage_s), present(recovery.first_failure_s) ? `the first failure at ${time(recovery.first_failure_s)}` : "no failure"),
    tile("p99 latency", "tile.p99", spread.p99, spread.count ? latency(spread.p99) : "–", spread.count ? `p50 ${latency(spread.p50)}, max ${latency(spread.max)}` : "nothing was measured"));
  if (REPORT.slo.length) byId("tiles").append(tile("goals met", "tile.goals", met, `${count(met)} of ${count(REPORT.slo.length)}`, met === REPORT.slo.length ? "all" : "see below", met === REPORT.slo.length ? "good" : "bad"));
}

function show(id, ...children) {
  const section = byId(id);
  section.hidden = false;
  section.append(...children);
}

function goals() {
  if (!REPORT.slo.length) return;
  show("goals", table("Goals", [
    ["goal", (goal) => el("th", { scope: "row" }, el("code", {}, goal.goal))],
    ["seen", (goal) => el("td", { class: "text" }, goal.seen)],
    ["", (goal) => el("td", { class: goal.is_met ? "good" : "bad", "data-goal": goal.is_met ? "met" : "missed" }, goal.is_met ? "✓ met" : "✗ missed")],
  ], REPORT.slo));
}

function faults() {
  if (!REPORT.faults.length) return;
  const when = (value) => el("td", {}, present(value) ? time(value) : "–");
  const rows = REPORT.faults.map((fault, i) => ({ ...fault, number: i + 1 }));
  show("faults", table("Faults", [
    ["fault", (fault) => el("th", { scope: "row" }, `${fault.number} `, el("code", {}, fault.what))],
    ["at", (fault) => when(fault.at_s)],
    ["until", (fault) => when(fault.until_s)],
    ["failed lookups", (fault) => number(`fault.${fault.number}.failed`, fault.failed, count(fault.failed), "td", fault.failed ? "bad" : "zero")],
    ["first failure after", (fault) => when(fault.first_failure_after_s)],
    ["last failure after", (fault) => number(`fault.${fault.number}.last_failure`, fault.last_failure_after_s, present(fault.last_failure_after_s) ? time(fault.last_failure_after_s) : "", "td")],
    ["last unknown host after", (fault) => when(fault.last_unknown_host_after_s)],
    ...(rows.some((fault) => fault.error) ? [["", (fault) => el("td", { class: "text bad" }, fault.error ? `not done: ${fault.error}` : "")]] : []),
  ], rows));
}

/** What all plots over time have in common. */
function overTime(spec) {
  const unit = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
  const xTicks = (wanted) => niceTicks(END_S, wanted, END_S > 4 ? unit : null).filter((tick) => tick <= END_S).map((tick) => [tick, tick ? time(tick) : "0"]);
  return figure({ xMax: END_S, xTicks, faults: REPORT.faults.filter((fault) => fault.at_s <= END_S), bins: BINS, ...spec });
}

const perSecond = (value) => (value >= 1e6 ? digits(value / 1e6) + " M" : digits(value));
const middle = (bin) => bin.from + bin.seconds / 2;
const binWords = BINS.length && BINS[0].size > 1 ? ` Each point is the worst of ${BINS[0].size} slots of ${time(REPORT.timeline.slot_s)}.` : "";
const timeColumn = ["from", (bin) => el("th", { scope: "row" }, time(bin.from))];
const binColumn = (key, text) => [key.replace("_", " "), (bin) => el("td", {}, text(bin[key]))];

function ratePlot() {
  const lines = [{ label: "due", key: "due", colour: "--l4", dash: "5 3" }, { label: "ended", key: "ended", colour: "--l0", isStrong: true }];
  const most = Math.max(0, ...BINS.map((bin) => bin.ended));
  return overTime({
    id: "rate", title: "Lookups per second", legend: lines, yText: perSecond,
    summary: `When they were due, and when they ended: at most ${perSecond(most)} per second ended.`,
    values: BINS.flatMap((bin) => [bin.due, bin.ended]),
    shapes: (svg, x, y) => svg.append(...lines.map((one) => line(BINS.map((bin) => [x(middle(bin)), y(bin[one.key])]), one))),
    read: (bin) => `${digits(bin.due)} due, ${digits(bin.ended)} ended per second`,
    table: () => table("Lookups per second", [timeColumn, binColumn("due", digits), binColumn("ended", digits)], BINS),
  });
}

function latencyPlot() {
  const keys = ["p50", "p90", "p99", "max"];
  const lines = keys.map((key, i) => ({ label: key, colour: `--${key}`, dash: ["", "7 3", "", "2 3"][i], isStrong: key === "p99" }));
  const values = BINS.flatMap((bin) => keys.map((key) => bin[key]));
  return overTime({
    id: "latency", title: "Latency over time", legend: lines, isLog: true, values, yText: latency,
    summary: `From when a lookup was due, of those that ended at that time; logarithmic. A gap: none ended.${binWords}`,
    shapes: (svg, x, y) => svg.append(...lines.map((one) => line(BINS.map((bin) => (bin[one.label] > 0 ? [x(middle(bin)), y(bin[one.label])] : null)), one))),
    read: (bin) => keys.map((key) => `${key} ${bin[key] > 0 ? latency(bin[key]) : "–"}`).join(", "),
    table: () => table("Latency over time, in milliseconds", [timeColumn, ...keys.map((key) => binColumn(key, digits))], BINS),
  });
}

/** Areas on top of each other, in the order of OUTCOMES. */
function stackPlot(id, title, summary, parts) {
  const height = (bin, upTo) => parts.slice(0, upTo).reduce((all, [key]) => all + bin[key], 0);
  return overTime({
    id, title, summary, yText: perSecond,
    legend: parts.map(([, label, colour]) => ({ label, colour, isArea: true })),
    values: BINS.map((bin) => height(bin, parts.length)),
    shapes: (svg, x, y) => parts.forEach(([key, , colour], i) => {
      const path = shape("path", { d: steps(BINS, x, (at) => y(height(BINS[at], i)), (at) => y(height(BINS[at], i + 1))), "data-area": key, "data-bars": BINS.filter((bin) => bin[key]).length });
      path.style.fill = `var(${colour})`;
      svg.append(path);
    }),
    read: (bin) => parts.map(([key, label]) => `${label} ${digits(bin[key])}`).join(", ") + " per second",
    table: () => table(title, [timeColumn, ...parts.map(([key]) => binColumn(key, digits))], BINS),
  });
}

function curvePlot(id, title, curves) {
  const xMax = Math.max(1, ...curves.map((curve) => curve.points[curve.points.length - 1][0]));
  const percent = (decades) => (decades ? `${decades === 1 ? "90" : "99" + (decades > 2 ? "." + "9".repeat(decades - 2) : "")} %` : "0 %");
  const at = (curve, decades) => {
    const point = curve.points.find((one) => one[0] >= decades - 1e-9);
    return point ? latency(point[1]) : "";
  };
  const lines = curves.map((curve, i) => ({ label: curve.name, colour: `--l${i % 7}`, dash: DASHES[Math.floor(i / 7) % 4], isStrong: curve.kind === "all", points: curve.points }));
  const decades = Array.from({ length: Math.floor(xMax) + 1 }, (_, i) => i);
  return figure({
    id, title, legend: lines, isLog: true, yText: latency, xMax,
    summary: "How long lookups took at most, by percentile. Each step to the right is ten times rarer.",
    values: curves.flatMap((curve) => curve.points.map((point) => point[1])),
    xTicks: (wanted) => decades.filter((one) => one % Math.ceil((xMax + 1) / (wanted + 1)) === 0).map((one) => [one, percent(one)]),
    shapes: (svg, x, y) => svg.append(...lines.toReversed().map((one) => line(one.points.map((point) => (point[1] > 0 ? [x(point[0]), y(point[1])] : null)), one))),
    table: () => table(title, [["", (curve) => el("th", { scope: "row" }, curve.name)], ...decades.map((one) => [percent(one), (curve) => el("td", {}, at(curve, one))]), ["max", (curve) => el("td", {}, latency(curve.points[curve.points.length - 1][1]))]], curves),
  });
}

function curvePlots() {
  const of = (...kinds) => FIGURES.curves.filter((curve) => kinds.includes(curve.kind));
  const plots = [];
  if (of("resolver").length > 1) plots.push(curvePlot("curve-resolver", "Latency by percentile and resolver", of("all", "resolver")));
  if (of("class").length > 1) plots.push(curvePlot("curve-class", "Latency by percentile and kind of name", of("all", "class")));
  if (!plots.length && of("all").length) plots.push(curvePlot("curve", "Latency by percentile", of("all")));
  return plots;
}

function plots() {
  if (!BINS.length) {
    byId("plots").append(el("p", { class: "quiet" }, "There is nothing to draw: no time went by."));
    return [];
  }
  const failing = OUTCOMES.filter(([key]) => key !== "ok");
  const isSmooth = !failing.some(([key]) => TOTAL.outcomes[key]);
  const all = [ratePlot(), latencyPlot(), stackPlot("outcomes", "Outcomes over time", "Lookups per second by how they ended.", OUTCOMES)];
  if (!isSmooth) all.push(stackPlot("failures", "Failures over time", "The same without those that were right and in time, on a scale of its own.", failing));
  all.push(...curvePlots());
  byId("plots").append(...all);
  return all;
}

/** What the colours of outcomes mean. */
function key() {
  return legend(OUTCOMES.map(([, label, colour]) => ({ label, colour, isArea: true })));
}

function groups() {
  const all = [["total", TOTAL]];
  if (RESOLVERS.length) show("resolvers", key(), outcomeBars(RESOLVERS), groupsTable("resolver", "By resolver", RESOLVERS.concat(all)));
  if (CLASSES.length) show("classes", key(), outcomeBars(CLASSES), groupsTable("class", "By kind of name", CLASSES.concat(all)));
  if (!RESOLVERS.length && !CLASSES.length) show("resolvers", groupsTable("resolver", "All lookups", all));
}

function truth() {
  const known = Object.values(TOTAL.truth).reduce((all, one) => all + one, 0);
  if (!known) return;
  const cell = (key, isBad) => [key.replace("_", " "), ([name, group]) => number(`truth.${name}.${key}`, group.truth[key], count(group.truth[key]), "td", !group.truth[key] ? "zero" : isBad ? "bad" : undefined)];
  show("truth", el("p", { class: "quiet" }, "Each answer held against what the objects of the cluster said at its time."),
    table("Truth of the answers", [["", ([name]) => el("th", { scope: "row" }, name)], cell("ok"), cell("stale", true), cell("wrong_negative", true), cell("wrong_positive", true), cell("lost", true),
      ["fresh after, at most", ([, group]) => el("td", {}, present(group.recovery.fresh_after_max_s) ? time(group.recovery.fresh_after_max_s) : "–")]], CLASSES.concat([["total", TOTAL]])));
}

function packets() {
  const labels = { mismatched: "other id or question", other_code: "other codes", tcp: "over TCP", tcp_failed: "connections failed", too_late: "replies too late", lost: "without a reply", answered: "with a reply", truncated: "truncated (TC)", garbage: "no DNS" };
  const codes = { noerror: 1, nxdomain: 1, servfail: 1, refused: 1 };
  show("packets", facts(Object.entries(REPORT.packets).map(([key, value]) => [labels[key] || (codes[key] ? key.toUpperCase() : key), number(`packets.${key}`, value, count(value))])));
}

function generator() {
  const own = REPORT.generator;
  const wanted = own.wanted_per_s ? ` (${share(own.begun_per_s, own.wanted_per_s)})` : "";
  show("generator", facts([
    ["wanted per second", number("generator.wanted", own.wanted_per_s, digits(own.wanted_per_s))],
    ["begun per second", el("span", {}, number("generator.begun", own.begun_per_s, digits(own.begun_per_s)), wanted)],
    ["begun more than 1 ms late", number("generator.late", own.late, count(own.late))],
    ["lateness p99, max", `${latency(own.lateness.p99)}, ${latency(own.lateness.max)}`],
    ["never begun", number("generator.not_begun", own.not_begun, count(own.not_begun))],
    ["CPU, in cores", number("generator.cores", own.cores, digits(own.cores))],
    ["verdict", el("span", { class: own.saturated ? "bad" : "good" }, own.saturated || "kept up")],
  ]));
}

function plan() {
  const own = REPORT.plan;
  const staleness = present(own.staleness_ms) ? ["an answer may be old by", latency(own.staleness_ms)] : null;
  show("plan", facts([
    ["servers", own.servers.join(", ") || "–"],
    ["arrivals", el("code", {}, own.arrivals || "–")],
    ["names", own.names ? `${count(own.name_count)} from ${own.names}` : count(own.name_count)],
    ["resolvers", own.resolvers.join(", ") || "–"],
    ["clients", count(own.clients)],
    own.transport ? ["transport", own.transport] : null,
    ["faults", REPORT.faults.length ? el("code", {}, REPORT.faults.map((fault) => fault.what).join("  ")) : "none"],
    ["slow from", latency(own.slow_ms)],
    staleness,
    ["seed", String(own.seed)],
    ["duration", time(REPORT.duration_s)],
    ["ended", REPORT.ended || "–"],
    REPORT.workers > 1 ? ["workers", count(REPORT.workers)] : null,
  ]));
}

/** Draws again when the width has changed, and tells tests how wide the page became. */
function redraw(all) {
  for (const one of all) one.redraw();
  document.documentElement.dataset.drawn = window.innerWidth;
}

verdict();
tiles();
goals();
faults();
const ALL = plots();
groups();
truth();
packets();
generator();
plan();
redraw(ALL);
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  redraw(ALL);
});

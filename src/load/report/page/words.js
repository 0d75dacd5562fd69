// Numbers as people read them, sentences and tables.
"use strict";

const OUTCOMES = [
  ["ok", "right and in time", "--ok"],
  ["slow", "right, but slow", "--slow"],
  ["try_again", "try again", "--try-again"],
  ["unknown_host", "unknown host", "--unknown-host"],
  ["wrong", "wrong", "--wrong"],
];

/** An element with attributes and children; texts stay texts. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

/** 12 345 678, with narrow spaces that do not break. */
function count(value) {
  if (!Number.isFinite(value)) return "–";
  if (Math.abs(value) >= 1e15) return value.toPrecision(4).replace("e+", " × 10^");
  const [whole, rest] = String(Math.round(value * 10) / 10).split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") + (rest ? "." + rest : "");
}

/** Three digits that mean something. */
function digits(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return count(Math.round(value));
  if (size < 0.0005) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

/** Milliseconds in the unit that suits them. */
function latency(ms) {
  if (ms >= 9999.5) return digits(ms / 1000) + " s";
  return ms > 0 && ms < 1 ? digits(ms * 1000) + " µs" : digits(ms) + " ms";
}

/** Seconds in the unit that suits them. */
function time(s) {
  if (!Number.isFinite(s)) return "–";
  if (Math.abs(s) < 1 && s !== 0) return digits(s * 1000) + " ms";
  if (Math.abs(s) < 120) return String(Number(s.toFixed(2))) + " s";
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  let left = Math.round(s);
  const told = parts.slice(first, first + 2).map(([size, unit]) => {
    const units = Math.floor(left / size);
    left -= units * size;
    return units ? `${count(units)} ${unit}` : "";
  });
  return told.filter(Boolean).join(" ");
}

/** A part of a whole; never 0 % or 100 % where that is not so. */
function share(part, whole) {
  if (!whole || !part) return "0 %";
  if (part === whole) return "100 %";
  const percent = (100 * part) / whole;
  if (percent > 99.9) return percent > 99.99 ? "> 99.99 %" : percent.toFixed(2) + " %";
  return (percent < 0.001 ? "< 0.001" : digits(percent)) + " %";
}

function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many || one + "s"}`;
}

function present(value) {
  return value !== null && value !== undefined;
}

/** A number that scripts find again: `data-n` names it, `data-value` is it. */
function number(name, value, text, tag, classes) {
  const is = present(value);
  return el(tag || "span", { "data-n": name, "data-value": is ? value : "", class: classes }, is ? text : "–");
}

/** When something happened, seen from the fault before it. */
function fromFault(at, faults) {
  const done = faults.filter((fault) => !fault.error && fault.at_s <= at);
  const fault = done.sort((a, b) => a.at_s - b.at_s).pop();
  if (!fault) return null;
  const isOver = present(fault.until_s) && fault.until_s <= at;
  const since = at - (isOver ? fault.until_s : fault.at_s);
  return { what: fault.what, since, text: `${time(since)} after ${fault.what} ${isOver ? "ended" : "began"}` };
}

/** A table in a frame that scrolls; `columns` are [heading, cell of a row]. */
function table(label, columns, rows) {
  const head = el("tr", {}, ...columns.map(([heading]) => el("th", { scope: "col" }, heading)));
  const body = rows.map((row) => el("tr", {}, ...columns.map(([, cell]) => cell(row))));
  const whole = el("table", { "aria-label": label }, el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, whole);
}

/** The table of groups of lookups. */
function groupsTable(kind, label, groups) {
  const cell = (field, value, text, mood) => ([name, group]) => {
    const raw = value(group);
    const classes = raw ? (mood ? "bad" : undefined) : "zero";
    return number(`${kind}.${name}.${field}`, raw, present(raw) ? text(raw, group) : "", "td", classes);
  };
  const whole = (field) => cell(field, (group) => group.latency[field], digits);
  const outcome = (field, mood) => cell(field, (group) => group.outcomes[field], count, mood);
  const packets = (group) => (group.lookups ? group.packets / group.lookups : null);
  return table(label, [
    [kind === "class" ? "name" : kind, ([name]) => el("th", { scope: "row" }, name)],
    ["lookups", cell("lookups", (group) => group.lookups, count)],
    ["failed", cell("failed", (group) => group.recovery.failed, count, true)],
    ["of all", ([, group]) => el("td", {}, share(group.recovery.failed, group.lookups))],
    ["unknown host", outcome("unknown_host", true)],
    ["try again", outcome("try_again", true)],
    ["wrong", outcome("wrong", true)],
    ["slow", outcome("slow")],
    ["last failure", cell("last_failure", (group) => group.recovery.last_failure_s, time)],
    ["longest outage", cell("longest_outage", (group) => group.recovery.longest_outage_s, time)],
    ["stuck", cell("stuck", (group) => group.recovery.stuck_clients, count, true)],
    ["p50 ms", whole("p50")],
    ["p99 ms", whole("p99")],
    ["p99.9 ms", whole("p999")],
    ["max ms", whole("max")],
    ["packets per lookup", cell("packets_per_lookup", packets, digits)],
  ], groups);
}

/** How the lookups of each group ended, as bars of equal length. What is there is never invisible. */
function outcomeBars(groups) {
  const bars = el("div", { class: "bars" });
  for (const [name, group] of groups) {
    const told = OUTCOMES.filter(([key]) => group.outcomes[key])
      .map(([key, label]) => `${label} ${share(group.outcomes[key], group.lookups)}`);
    const bar = el("div", { class: "bar", role: "img", "aria-label": `${name}: ${told.join(", ") || "nothing"}` });
    for (const [key, label, colour] of OUTCOMES) {
      const part = group.outcomes[key];
      if (!part) continue;
      const piece = el("i", { title: `${label}: ${count(part)}`, "data-bar": `${name}.${key}` });
      piece.style.background = `var(${colour})`;
      piece.style.flex = `${part / group.lookups} 1 0`;
      piece.style.minWidth = "3px";
      bar.append(piece);
    }
    bars.append(el("span", {}, name), bar);
  }
  return bars;
}

/** Terms and what they are. */
function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [term, value] of pairs.filter((pair) => pair)) list.append(el("dt", {}, term), el("dd", {}, value));
  return list;
}

// What several views are put together from: words with a shape and a colour, tables, facts, sections.

import { ApiError } from "./api.js";
import { clean, h } from "./dom.js";

// A level, a state or a status: its shape, and the tone that app.css colours. The word is always there too.
const TONES = {
  healthy: ["●", "good"],
  waiting: ["◌", "info"],
  warn: ["▲", "warn"],
  stale: ["◆", "alert"],
  dead: ["✖", "bad"],
  unreadable: ["?", "odd"],
  completed: ["✔", "good"],
  running: ["▶", "info"],
  starting: ["▷", "info"],
  ending: ["▷", "info"],
  queued: ["○", "calm"],
  planning: ["○", "calm"],
  retry_wait: ["↻", "warn"],
  blocked: ["■", "alert"],
  failed: ["✖", "bad"],
  dead_lettered: ["✖", "bad"],
  needs_attention: ["!", "bad"],
  cancelled: ["⊘", "calm"],
  skipped: ["⊘", "calm"],
  interrupted: ["~", "warn"],
  timed_out: ["✖", "bad"],
  unknown: ["?", "odd"],
  critical: ["✖", "bad"],
  warning: ["▲", "warn"],
  info: ["●", "info"],
  ready: ["●", "good"],
  "not ready": ["✖", "bad"],
  planned: ["?", "warn"],
  approved: ["▷", "info"],
  applied: ["▶", "info"],
  verified: ["✔", "good"],
  declined: ["⊘", "calm"],
  withdrawn: ["⊘", "calm"],
  open: ["!", "bad"],
  acknowledged: ["●", "info"],
  snoozed: ["◌", "calm"],
  resolved: ["✔", "good"],
  redriven: ["↻", "info"],
  discarded: ["⊘", "calm"],
};
export const LEVELS = ["dead", "stale", "unreadable", "warn", "waiting", "healthy"]; // the worst first

/** The name of a tone: good, info, calm, warn, alert, bad, odd. */
export function tone(word) {
  return (TONES[word] || ["", "calm"])[1];
}

/** The sign of a word, one character; "" where it has none. */
export function sign(word) {
  return (TONES[word] || [""])[0];
}

/** A word of state with its shape and colour: `badge("stale")`, `badge("stale", "2 stale")`. */
export function badge(word, text = plain(word)) {
  return h("span", { class: `badge tone-${tone(word)}` },
    h("span", { class: "sign", "aria-hidden": "true" }, sign(word)), h("span", {}, text));
}

/** "retry_wait" as "retry wait". */
export function plain(word) {
  return String(word ?? "").replaceAll("_", " ");
}

/** A section with its heading; `id` must be its own on the page. */
export function section(id, title, ...children) {
  return h("section", { "aria-labelledby": id, "data-key": id }, h("h2", { id }, title), ...children);
}

/**
 * A table. Columns: [{title, class, cell(row)}], the first one names the row. `caption` is read aloud and unseen.
 * `key(row)` tells rows apart.
 */
export function table(caption, columns, rows, key = null) {
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    // The roles are said because a narrow screen lays a table out as cards, and would not say them any more.
    h("table", { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((each) => h("th", { scope: "col", role: "columnheader", class: each.class }, each.title)))),
      h("tbody", { role: "rowgroup" },
        rows.map((row) =>
          h("tr", { role: "row", "data-key": key ? key(row) : null, class: row.class },
            columns.map((each, index) =>
              h(index ? "td" : "th", { scope: index ? null : "row", role: index ? "cell" : "rowheader", class: each.class, "data-title": each.title },
                each.cell(row))))))));
}

/** Facts in two columns: [[name, value], ...]; those without a value are left out. */
export function facts(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return known.length
    ? h("dl", { class: "facts" }, known.map(([name, value]) => h("div", { "data-key": name }, h("dt", {}, name), h("dd", {}, value))))
    : null;
}

/** A notice in a frame. Tones as in `badge`. */
export function notice(tone, title, ...children) {
  return h("div", { class: `notice tone-${tone}` }, title && h("strong", {}, title), " ", ...children);
}

/** What went wrong, with everything that is to be done about it. */
export function trouble(error) {
  const advice = error instanceof ApiError ? error.advice : [];
  return h("div", { class: "notice tone-bad", role: "alert" },
    h("strong", {}, clean(error.message || String(error))),
    advice.length ? h("ul", {}, advice.map((each) => h("li", {}, each))) : null);
}

/** A text in which what stands between backticks is typed as such: "`crewd explain` shows it". */
export function ticked(text) {
  return String(text).split(/`([^`]+)`/).map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** A link within the page. */
export function link(hash, ...children) {
  return h("a", { href: hash }, ...children);
}

/** The address of a run or a task in the page. */
export function runHash(run, task = null, query = null) {
  const words = query ? `?${new URLSearchParams(query)}` : "";
  return `#/run/${encodeURIComponent(run)}${task ? `/${encodeURIComponent(task)}` : ""}${words}`;
}

// How well it goes: outcomes with how sure they are, durations, use and cost, counters, and how right crewd itself is.

import { count, dollars, h, moment, now, replace, span, svg, thousands } from "./dom.js";
import { badge, facts, notice, plain, section, table, trouble } from "./parts.js";

const WINDOWS = [["1h", "the last hour"], ["24h", "the last day"], ["7d", "the last week"], ["30d", "the last 30 days"], ["90d", "the last 90 days"]];
const LEVELS = [["attempt", "attempts"], ["task", "tasks"]];
const GROUPS = ["task_type", "executor", "model", "crew", "runtime", "error_class", "variant"];
const HOUR = 3600;
const SLOT = 300; // seconds of one point of the trend
const ROWS_MAX = 2000; // attempts that the trend is drawn from
const EVERY_MS = 15_000;
const TOP = 12;
const FAMILIES = [
  "crew_task_errors", "crew_retries", "crew_dead_letters", "crew_dead_letter_redrives", "crew_recoveries", "crew_verdicts",
  "crew_heartbeats", "crew_worker_level_changes", "crew_tokens", "crew_agent_starts", "crewd_incidents", "crewd_notifications",
].map((name) => `${name}_total`);

// Counters are only ever seen at one moment. What they grew by is known from when this tab looked first, an hour back at most.
const samples = [];

export async function show(root, params, page) {
  const chosen = {
    window: known(WINDOWS.map(([each]) => each), params.query.get("window"), "1h"),
    level: known(LEVELS.map(([each]) => each), params.query.get("level"), "attempt"),
    group: known(["", ...GROUPS], params.query.get("group"), "task_type"),
  };
  const view = new Metrics(root, page, chosen);
  await view.load();
  const soon = page.seldom(() => view.load(), EVERY_MS);
  return {
    onRound: soon,
    stop: () => {
      soon.stop();
      view.stopped = true;
    },
  };
}

class Metrics {
  constructor(root, page, chosen) {
    Object.assign(this, { root, page, chosen, stopped: false });
  }

  async load() {
    const { window, level, group } = this.chosen;
    const asked = [
      this.page.get("metrics/summary", { window, level, group_by: group }),
      recent(this.page),
      counters(),
    ];
    const [summary, rows, found] = await Promise.allSettled(asked);
    if (found.status === "fulfilled") keep(found.value);
    if (!this.stopped) this.draw(summary, rows, found);
  }

  draw(summary, rows, found) {
    const whole = summary.value;
    replace(
      this.root,
      h("h1", {}, "Metrics"),
      this.choice(),
      summary.status === "rejected" ? trouble(summary.reason) : null,
      h("div", { class: "panes" },
        whole && pane("rate", "Success", successPane(whole)),
        whole && pane("use", "Tokens and cost", usePane(whole, this.chosen.level)),
        whole && pane("times", "How long", timesPane(whole)),
        pane("truth", "How right crewd is", found.value ? truthPane(found.value) : trouble(found.reason)),
        pane("p95", "p95, the last 60 minutes", rows.value ? p95Pane(rows.value) : trouble(rows.reason)),
        pane("top", "Counters", found.value ? topPane() : trouble(found.reason))),
      whole && this.chosen.group ? section("groups", `By ${plain(this.chosen.group)}`, groupTable(whole, this.chosen)) : null,
      whole && Object.keys(whole.error_classes).length ? section("errors", "What went wrong", errorTable(whole)) : null,
      h("p", { class: "faint block" }, "The same figures for programs: ", h("a", { href: "/metrics" }, "/metrics"), " for Prometheus, ",
        h("a", { href: `/api/v1/metrics/summary?window=${this.chosen.window}` }, "/api/v1/metrics/summary"), " as JSON."),
    );
  }

  choice() {
    const { window, level, group } = this.chosen;
    const select = (name, label, options, now) =>
      h("label", {}, label, h("select", { name }, options.map(([value, word]) => h("option", { value, selected: value === now }, word))));
    return h("form", {
      class: "filters", "aria-label": "Which figures", "data-key": `choice-${window}-${level}-${group}`,
      onsubmit: (event) => {
        event.preventDefault();
        this.page.go(`#/metrics?${new URLSearchParams([...new FormData(event.target)])}`);
      },
    },
      select("window", "Of", WINDOWS, window), select("level", "Counting", LEVELS, level),
      select("group", "By", [["", "nothing"], ...GROUPS.map((each) => [each, plain(each)])], group),
      h("button", { type: "submit", class: "primary" }, "Show"));
  }
}

function pane(id, title, ...children) {
  return h("section", { class: "card pane", "aria-labelledby": id, "data-key": id }, h("h2", { id }, title), ...children);
}

// -- panes ----------------------------------------------------------------------------------------------------------

function successPane(whole) {
  if (whole.success_rate === null) return h("p", { class: "faint" }, "Nothing finished in this time, and so there is no rate.");
  return [
    h("p", {}, h("span", { class: "big" }, percent(whole.success_rate)), " ", h("span", { class: "faint" }, `of ${count(whole.finished, "that finished", "that finished")}`)),
    interval(whole),
    h("p", { class: "faint" }, `With so many the true rate is most likely between ${percent(whole.ci95[0])} and ${percent(whole.ci95[1])}.`),
    trendOf(whole.trend),
    h("div", { class: "badges" }, Object.entries(whole.outcomes).filter(([, number]) => number).map(([outcome, number]) => badge(outcome, `${thousands(number)} ${plain(outcome)}`))),
  ];
}

/** Rate and 95 % interval on a line from 0 to 100 %. */
function interval(group) {
  const [low, high] = group.ci95;
  const at = (share) => (share * 200).toFixed(1);
  return svg("svg", { class: "interval", viewBox: "0 0 200 8", preserveAspectRatio: "none", role: "img",
    "aria-label": `${percent(group.success_rate)}, between ${percent(low)} and ${percent(high)}` },
    svg("rect", { class: "track", x: 0, y: 2, width: 200, height: 4 }),
    svg("rect", { class: "range", x: at(low), y: 1, width: Math.max(1, at(high) - at(low)), height: 6 }),
    svg("rect", { class: "at", x: Math.min(198.5, Math.max(0, at(group.success_rate) - 0.75)), y: 0, width: 1.5, height: 8 }));
}

/** Completed above, unsuccessful below a line, slot by slot. */
function trendOf(trend) {
  if (!trend?.completed?.length) return null;
  const most = Math.max(1, ...trend.completed, ...trend.unsuccessful);
  const wide = 240 / trend.completed.length;
  return svg("svg", { class: "chart", viewBox: "0 0 240 50", role: "img",
    "aria-label": `Over this time: ${trend.completed.join(", ")} completed; ${trend.unsuccessful.join(", ")} did not` },
    trend.completed.map((number, slot) => number ? svg("rect", { class: "ok", x: slot * wide + 0.5, y: 28 - (number / most) * 26, width: wide - 1, height: (number / most) * 26 }) : null),
    trend.unsuccessful.map((number, slot) => number ? svg("rect", { class: "not", x: slot * wide + 0.5, y: 29, width: wide - 1, height: Math.max(1.5, (number / most) * 20) }) : null),
    svg("line", { class: "axis", x1: 0, x2: 240, y1: 28.5, y2: 28.5 }));
}

function usePane(whole, level) {
  const usage = whole.usage;
  const told = whole[`${level}s_with_usage`];
  if (!told) return h("p", { class: "faint" }, "Nobody reported what they used.");
  const costs = whole[`${level}s_with_cost`];
  return [
    h("p", {}, h("span", { class: "big" }, thousands(usage.input + usage.output + (usage.cache_write || 0))), " ", h("span", { class: "faint" }, "tokens")),
    facts([
      ["In", thousands(usage.input)], ["Out", thousands(usage.output)],
      ["Cache", `${thousands(usage.cache_read)} read, ${thousands(usage.cache_write)} written`],
      ["Cost", usage.cost_usd === null ? "nobody told it" : `${dollars(usage.cost_usd)}, of ${count(costs, level)} that told it`],
      ["Told by", `${thousands(told)} of ${count(whole.total, level)}`],
    ]),
  ];
}

function timesPane(whole) {
  const line = (name, found) => [name, found.count ? `half within ${span(found.p50_seconds)}, 95 % within ${span(found.p95_seconds)}` : h("span", { class: "faint" }, "nothing measured")];
  return facts([line("Completed", whole.completed), line("All that ended", whole.ended), line("In the queue", whole.queue)]);
}

/** p95 of what completed, in slots of five minutes, drawn from the attempts themselves. */
function p95Pane({ rows, whole }) {
  const end = Math.ceil(now() / SLOT) * SLOT;
  const slots = Array.from({ length: HOUR / SLOT }, () => []);
  for (const row of rows) {
    const slot = Math.floor((moment(row.ended_at) - (end - HOUR)) / SLOT);
    if (slot >= 0 && slot < slots.length && row.duration_seconds !== null) slots[slot].push(row.duration_seconds);
  }
  const points = slots.map((each) => nearestRank(each, 95));
  const known = points.filter((each) => each !== null);
  if (!known.length) return h("p", { class: "faint" }, "Nothing completed in the last 60 minutes.");
  return [
    chart(points, Math.max(...known)),
    h("p", { class: "faint" }, `of ${count(rows.length, "attempt")} that completed, five minutes at a time${whole ? "" : `; only the newest ${ROWS_MAX} were looked at`}`),
  ];
}

function chart(points, most) {
  const [width, height, left, below] = [320, 120, 46, 16];
  const top = most || 1;
  const x = (slot) => left + ((width - left - 6) * (slot + 0.5)) / points.length;
  const y = (value) => 8 + (height - below - 8) * (1 - value / top);
  const runs = [];
  points.forEach((value, slot) => {
    if (value === null) return;
    if (slot && points[slot - 1] !== null) runs.at(-1).push([slot, value]);
    else runs.push([[slot, value]]);
  });
  const words = points.map((value, slot) => (value === null ? null : `${(points.length - slot) * 5} min ago ${span(value)}`)).filter(Boolean);
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `p95: ${words.join(", ")}` },
    svg("line", { class: "axis", x1: left, x2: width - 4, y1: y(0), y2: y(0) }),
    svg("line", { class: "axis", x1: left, x2: width - 4, y1: y(top), y2: y(top) }),
    svg("text", { x: left - 5, y: y(top) + 4, "text-anchor": "end" }, span(top)), svg("text", { x: left - 5, y: y(0) + 4, "text-anchor": "end" }, "0"),
    svg("text", { x: left, y: height - 3 }, "60 min ago"), svg("text", { x: width - 4, y: height - 3, "text-anchor": "end" }, "now"),
    runs.map((run) => svg("polyline", { class: "line", points: run.map(([slot, value]) => `${x(slot).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })),
    runs.flat().map(([slot, value]) => svg("circle", { class: "dot", cx: x(slot).toFixed(1), cy: y(value).toFixed(1), r: 2.6 }, svg("title", {}, span(value)))));
}

function topPane() {
  const [first, last] = [samples[0], samples.at(-1)];
  const seconds = last.at - first.at;
  const grown = [...last.values].map(([name, value]) => [name, value, value - (first.values.get(name) || 0)]);
  grown.sort((one, two) => two[2] - one[2] || two[1] - one[1]);
  const shown = grown.filter(([, value]) => value > 0).slice(0, TOP);
  if (!shown.length) return h("p", { class: "faint" }, "Nothing was counted yet.");
  return [
    table("Counters that grew most", [
      { title: "Counter", class: "wide", cell: ([name]) => labelled(name) },
      { title: seconds < 60 ? "Grew" : `In ${span(Math.min(HOUR, Math.floor(seconds / 60) * 60))}`, class: "number", cell: ([, , by]) => (by ? `+${thousands(Math.round(by))}` : "0") },
      { title: "All", class: "number", cell: ([, value]) => thousands(Math.round(value)) },
    ], shown, ([name]) => name),
    h("p", { class: "faint" }, seconds < 60 ? "Counted since crewd started. What they grow by shows while this page is open." : "What they grew by since this tab looked first, an hour at most."),
  ];
}

function labelled(name) {
  const [family, labels = ""] = name.split("{", 2);
  const values = [...labels.matchAll(/="((?:[^"\\]|\\.)*)"/g)].map(([, value]) => value);
  return [plain(family.replace(/^crewd?_/, "").replace(/_total$/, "")), " ", h("span", { class: "faint" }, values.join(", "))];
}

function truthPane(values) {
  const outcomes = { open: 0, true: 0, false: 0 };
  const reasons = new Map();
  for (const [name, value] of values) {
    if (!name.startsWith("crew_verdicts_total{")) continue;
    const [outcome, reason] = [label(name, "outcome"), label(name, "reason")];
    outcomes[outcome] = (outcomes[outcome] || 0) + value;
    if (outcome !== "open") reasons.set(reason, { ...reasons.get(reason), [outcome]: value + (reasons.get(reason)?.[outcome] || 0) });
  }
  const settled = outcomes.true + outcomes.false;
  if (!outcomes.open) return h("p", { class: "faint" }, "crewd has called nobody dead since it was first started.");
  return [
    settled
      ? h("p", {}, h("span", { class: "big" }, percent(outcomes.true / settled)), " ", h("span", { class: "faint" }, `of ${count(settled, "dead verdict")} proved true`))
      : h("p", { class: "faint" }, "The truth about none of them has arrived yet."),
    facts([
      ["Given", thousands(outcomes.open)], ["True", thousands(outcomes.true)],
      ["False", outcomes.false ? h("span", { class: "bad" }, thousands(outcomes.false)) : "0"],
      ["Not settled", thousands(Math.max(0, outcomes.open - settled))],
      ...[...reasons].filter(([, each]) => each.true || each.false).map(([reason, each]) => [`By ${plain(reason)}`, `${thousands(each.true || 0)} true, ${thousands(each.false || 0)} false`]),
    ]),
  ];
}

function groupTable(whole, chosen) {
  if (!whole.groups.length) return h("p", { class: "faint" }, "There is nothing to group.");
  return [
    table(`By ${plain(chosen.group)}`, [
      { title: plain(chosen.group), cell: (each) => each.key[chosen.group] || "unknown" },
      { title: "All", class: "number", cell: (each) => thousands(each.total) },
      { title: "Succeeded", class: "number", cell: (each) => (each.success_rate === null ? "-" : percent(each.success_rate)) },
      { title: "95 % sure", class: "wide", cell: (each) => (each.ci95 ? [interval(each), h("span", { class: "faint" }, `${percent(each.ci95[0])} to ${percent(each.ci95[1])}`)] : "-") },
      { title: "p50", class: "number", cell: (each) => (each.completed.count ? span(each.completed.p50_seconds) : "-") },
      { title: "p95", class: "number", cell: (each) => (each.completed.count ? span(each.completed.p95_seconds) : "-") },
      { title: "Tokens", class: "number", cell: (each) => (each.usage.input === null ? "-" : thousands(each.usage.input + each.usage.output)) },
      { title: "Cost", class: "number", cell: (each) => dollars(each.usage.cost_usd) || "-" },
    ], whole.groups, (each) => each.key[chosen.group] || ""),
    whole.groups_left_out ? notice("info", "", `${whole.groups_left_out} smaller ones are left out.`) : null,
  ];
}

function errorTable(whole) {
  const all = Object.values(whole.error_classes).reduce((sum, each) => sum + each, 0);
  return table("What went wrong", [
    { title: "Class", cell: ([name]) => h("a", { href: "#/history?level=attempts&state=failed" }, plain(name)) },
    { title: "How often", class: "number", cell: ([, number]) => thousands(number) },
    { title: "Share", class: "number", cell: ([, number]) => percent(number / all) },
  ], Object.entries(whole.error_classes), ([name]) => name);
}

// -- where the figures come from ------------------------------------------------------------------------------------

/** What completed within the last hour, page by page: {rows, whole}. */
async function recent(page) {
  const since = new Date((now() - HOUR) * 1000).toISOString();
  const rows = [];
  for (let cursor = ""; ; ) {
    const found = await page.get("history/attempts", { state: "completed", since, limit: 500, cursor });
    rows.push(...found.attempts);
    cursor = found.next_cursor;
    if (!cursor || rows.length >= ROWS_MAX) return { rows, whole: !cursor };
  }
}

/** Counters as they stand: sample -> value. */
async function counters() {
  const words = new URLSearchParams(FAMILIES.map((name) => ["name[]", name]));
  const answer = await fetch(`/metrics?${words}`, { cache: "no-store", credentials: "omit", headers: { accept: "text/plain" } });
  if (!answer.ok) throw new Error(`crewd answered ${answer.status} when it was asked for its metrics`);
  const found = new Map();
  for (const line of (await answer.text()).split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*_total(?:\{.*\})?) (\S+)$/.exec(line);
    if (match) found.set(match[1], Number(match[2]));
  }
  return found;
}

function keep(values) {
  const at = now();
  // A counter that is smaller than before: crewd was started anew, and what was seen earlier means nothing any more.
  const last = samples.at(-1);
  if (last && [...values].some(([name, value]) => value < (last.values.get(name) || 0))) samples.length = 0;
  samples.push({ at, values });
  while (samples.length > 2 && samples[1].at < at - HOUR) samples.shift();
}

function nearestRank(values, percentile) {
  const ordered = [...values].sort((one, two) => one - two);
  return ordered.length ? ordered[Math.max(1, Math.ceil((ordered.length * percentile) / 100)) - 1] : null;
}

function label(sample, name) {
  return new RegExp(`[{,]${name}="([^"]*)"`).exec(sample)?.[1] || "";
}

function percent(share) {
  const text = (share * 100).toFixed(share > 0.995 && share < 1 ? 2 : 1);
  return `${text.replace(/\.0+$/, "")} %`;
}

function known(all, value, otherwise) {
  return all.includes(value) ? value : otherwise;
}

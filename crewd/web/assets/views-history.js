// What ran: runs, tasks and attempts with filters that stand in the address; of one task its attempts, two compared.

import { address } from "./api.js";
import { clock, dollars, h, moment, path, replace, span, thousands } from "./dom.js";
import { badge, link, plain, runHash, section, table, trouble } from "./parts.js";

const PAGE = 50;
const LEVELS = { runs: "Runs", tasks: "Tasks", attempts: "Attempts" };
const OUTCOMES = ["at_work", "completed", "failed", "timed_out", "cancelled", "skipped", "interrupted"];
const STATUSES = ["at_work", "queued", "planning", "running", "blocked", "completed", "failed", "cancelled", "unknown"];
const WITHIN = [["", "any time"], ["3600", "the last hour"], ["86400", "the last day"], ["604800", "the last week"], ["2592000", "the last 30 days"]];
const TEXTS = [["crew", "Crew"], ["runtime", "Runtime"], ["executor", "Executor"], ["model", "Model"], ["task_type", "Task type"], ["run", "Run"], ["task", "Task"],
  ["variant", "Variant NAME=VALUE"], ["label", "Label NAME=VALUE"]];
const FORMATS = ["json", "jsonl", "csv", "md"];
const QUIET_MS = 2_000;

export async function show(root, params, page) {
  if (params.run && params.task) return compared(root, params, page);
  return listed(root, params, page);
}

// -- lists ----------------------------------------------------------------------------------------------------------

async function listed(root, params, page) {
  const level = params.query.get("level") in LEVELS ? params.query.get("level") : "runs";
  const asked = new URLSearchParams(params.query);
  if (params.run) asked.set("run", params.run);
  page.title(`History of ${level}`);
  let stopped = false;
  const draw = async () => {
    let found;
    try {
      found = await page.get(`history/${level}`, query(asked));
    } catch (error) {
      if (!stopped) replace(root, ...head(level, asked, page), trouble(error));
      return;
    }
    if (!stopped) replace(root, ...head(level, asked, page), ...rows(level, found, asked));
  };
  await draw();
  const soon = page.seldom(draw, QUIET_MS);
  // Only the first page moves: on another one what somebody reads would be pushed away under their eyes.
  const moves = !asked.get("cursor");
  return {
    onEvent: (record) => moves && /^(run|task)\./.test(record.type) && soon(),
    onMissed: soon,
    stop: () => {
      stopped = true;
      soon.stop();
    },
  };
}

function query(asked) {
  const found = { limit: PAGE };
  for (const name of [...TEXTS.map(([each]) => each), "cursor"]) if (asked.get(name)) found[name] = asked.get(name);
  if (asked.getAll("state").some(Boolean)) found.state = asked.getAll("state").filter(Boolean);
  const within = Number(asked.get("within"));
  if (within > 0) found.since = new Date(Date.now() - within * 1000).toISOString();
  return found;
}

function head(level, asked, page) {
  const others = new URLSearchParams(asked);
  for (const name of ["level", "cursor", "state"]) others.delete(name);
  return [
    h("h1", {}, "History"),
    h("nav", { class: "tabs", "aria-label": "History of" },
      Object.entries(LEVELS).map(([each, word]) =>
        h("a", { href: `#/history?${new URLSearchParams([["level", each], ...others])}`, "aria-current": each === level ? "page" : null }, word))),
    filters(level, asked, page),
  ];
}

function filters(level, asked, page) {
  const states = level === "runs" ? STATUSES : OUTCOMES;
  const chosen = asked.get("state") || "";
  const more = TEXTS.slice(4);
  const inputs = ([name, word]) =>
    h("label", {}, word, h("input", { name, type: name === "crew" ? "search" : "text", value: asked.get(name) || "", size: 14, maxlength: 256, autocomplete: "off", spellcheck: "false" }));
  return h("form", {
    class: "filters",
    "data-key": `filters-${level}-${asked}`, // another address: other values
    "aria-label": "Which of them",
    onsubmit: (event) => {
      event.preventDefault();
      const words = [...new FormData(event.target)].filter(([, value]) => value.trim()).map(([name, value]) => [name, value.trim()]);
      page.go(`#/history?${new URLSearchParams([["level", level], ...words])}`);
    },
  },
    h("label", {}, level === "runs" ? "Status" : "Outcome",
      h("select", { name: "state" }, h("option", { value: "" }, "any"),
        states.map((each) => h("option", { value: each, selected: each === chosen }, plain(each))))),
    h("label", {}, "Ended within",
      h("select", { name: "within" }, WITHIN.map(([value, word]) => h("option", { value, selected: value === (asked.get("within") || "") }, word)))),
    TEXTS.slice(0, 4).map(inputs),
    h("details", { class: "more", open: more.some(([name]) => asked.get(name)) }, h("summary", {}, "More filters"),
      h("div", { class: "filters" }, more.map(inputs))),
    h("button", { type: "submit", class: "primary" }, "Show"),
    [...asked.keys()].some((name) => name !== "level") ? h("a", { class: "button", href: `#/history?level=${level}` }, "Clear") : null);
}

function rows(level, found, asked) {
  const all = found[level];
  if (!all.length) return [h("p", { class: "card empty" }, "Nothing in the history is like that.")];
  const columns = { runs: RUNS, tasks: TASKS, attempts: ATTEMPTS }[level];
  const next = new URLSearchParams(asked);
  next.set("cursor", found.next_cursor || "");
  const first = new URLSearchParams(asked);
  first.delete("cursor");
  return [
    table(`History of ${level}, the newest first`, columns, all, (row) => [row.run_id, row.task_id, row.attempt].join("/")),
    h("nav", { class: "buttons", "aria-label": "Pages" },
      asked.get("cursor") ? h("a", { class: "button", href: `#/history?${first}` }, "Newest") : null,
      found.next_cursor ? h("a", { class: "button", href: `#/history?${next}` }, "Older") : h("span", { class: "faint" }, "That is all.")),
  ];
}

const RAN = { title: "Ran", class: "number", cell: (row) => (row.duration_seconds === null ? "-" : span(row.duration_seconds)) };
const USED = [
  { title: "Tokens", class: "number", cell: (row) => tokens(row.usage) },
  { title: "Cost", class: "number", cell: (row) => dollars(row.usage?.cost_usd) || "-" },
];
const WHO = { title: "By", cell: (row) => [row.executor, row.model].filter(Boolean).join(", ") || "-" };
const CREW = { title: "Crew", cell: (row) => row.crew || "-" };
const OUTCOME = { title: "Outcome", class: "tight", cell: outcome };
const ENDED = { title: "Ended", class: "nowrap", cell: (row) => clock(row.ended_at) };

const RUNS = [
  { title: "Run", cell: (row) => [link(runHash(row.run_id), row.goal || row.run_id), row.goal ? h("span", { class: "own-line faint mono" }, row.run_id) : ""] },
  { title: "Status", class: "tight", cell: (row) => [badge(row.status || "unknown"), row.vanished ? h("span", { class: "tag" }, "no longer on disk") : ""] },
  CREW,
  { title: "Runtime", cell: (row) => row.runtime || "-" },
  { title: "Tasks", cell: (row) => Object.entries(row.tasks || {}).map(([state, number]) => `${number} ${plain(state)}`).join(", ") || "-" },
  { title: "Attempts", class: "number", cell: (row) => thousands(row.attempts) },
  RAN, ...USED,
  { title: "Began", class: "nowrap", cell: (row) => clock(row.created_at) },
  ENDED,
  { title: "Export", class: "nowrap", cell: exportLinks },
];
const TASKS = [
  { title: "Task", cell: (row) => link(historyHash(row), `${row.run_id}/${row.task_id}`) },
  OUTCOME,
  CREW,
  { title: "Type", cell: (row) => row.task_type || "-" },
  WHO,
  { title: "Attempts", class: "number", cell: (row) => thousands(row.attempts) },
  { title: "Queued", class: "number", cell: (row) => (row.queue_seconds === null ? "-" : span(row.queue_seconds)) },
  RAN, ...USED, ENDED,
];
const ATTEMPTS = [
  { title: "Attempt", cell: (row) => link(historyHash(row), `${row.run_id}/${row.task_id} #${row.attempt}`) },
  OUTCOME,
  { title: "Error", class: "wide", cell: (row) => row.error || "-" },
  CREW, WHO,
  { title: "Queued", class: "number", cell: (row) => (row.queue_seconds === null ? "-" : span(row.queue_seconds)) },
  RAN, ...USED, ENDED,
];

function outcome(row) {
  return [badge(row.outcome || "running", row.outcome ? plain(row.outcome) : "at work"), row.error_class ? h("span", { class: "faint" }, ` ${plain(row.error_class)}`) : ""];
}

function tokens(usage) {
  return usage ? thousands((usage.input || 0) + (usage.output || 0) + (usage.cache_write || 0)) : "-";
}

function exportLinks(row) {
  return FORMATS.map((format, index) => [index ? " " : "",
    h("a", { href: address(path("runs", row.run_id, "export"), { format }), download: "", "aria-label": `Export ${row.run_id} as ${format}` }, format)]);
}

/** The address of one task's past in the page. */
export function historyHash(row) {
  return `#/history/${encodeURIComponent(row.run_id)}/${encodeURIComponent(row.task_id)}`;
}

// -- one task: its attempts, and two of them beside each other -------------------------------------------------------

async function compared(root, params, page) {
  const { run, task } = params;
  const which = { base: params.query.get("base"), other: params.query.get("other") };
  if (!params.within) page.title(`${task}: attempts`);
  const to = (chosen) => (params.within ? runHash(run, task, { view: "history", ...chosen }) : `${historyHash({ run_id: run, task_id: task })}?${new URLSearchParams(chosen)}`);
  const head = params.within ? [] : crumbs(run, task);
  let withWords = null; // what was told with the token
  let stopped = false;
  const draw = async () => {
    try {
      const found = withWords || (await page.get(`${path("runs", run, "tasks", task)}/attempts`, { ...which, limit: 50 }));
      if (!stopped) replace(root, ...head, ...oneTask(found, hear, (chosen) => page.go(to(chosen))));
    } catch (error) {
      if (stopped) return;
      replace(root, ...head, error.status === 404 ? h("p", { class: "card empty" }, "No attempt of it is recorded yet.") : trouble(error));
    }
  };
  const hear = async () => {
    try {
      const answer = await page.trusted(`${path("runs", run, "tasks", task)}/attempts`, { ...which, limit: 50 });
      if (answer === null) return;
      withWords = await answer.json();
      await draw();
    } catch (error) {
      await page.act(() => Promise.reject(error));
    }
  };
  await draw();
  const soon = page.seldom(() => {
    withWords = null;
    return draw();
  }, QUIET_MS);
  return {
    onEvent: (record) => record.run_id === run && record.task_id === task && soon(),
    onMissed: soon,
    stop: () => {
      stopped = true;
      soon.stop();
    },
  };
}

function crumbs(run, task) {
  return [
    h("nav", { "aria-label": "Where this is" },
      h("ol", { class: "crumbs" },
        h("li", {}, link("#/history?level=tasks", "History")), h("li", {}, link(runHash(run), run)), h("li", {}, link(runHash(run, task), task)))),
    h("h1", {}, `Attempts of ${task}`),
  ];
}

function oneTask(found, hear, go) {
  return [
    section("attempts", ["Recent attempts ", h("span", { class: "faint" }, "the newest first")],
      choose(found, go)),
    found.difference
      ? section("difference", `Attempt ${found.difference.base} and attempt ${found.difference.other}`, ...difference(found.difference, hear))
      : h("p", { class: "faint block" }, "There is only one: nothing to compare it with."),
  ];
}

function choose(found, go) {
  const { base, other } = found.difference || {};
  const choice = (name, row, chosen) =>
    h("input", { type: "radio", name, value: row.attempt, checked: row.attempt === chosen, "aria-label": name === "base" ? `Compare with attempt ${row.attempt}` : `Compare attempt ${row.attempt}` });
  return h("form", {
    "data-key": `choice-${base}-${other}-${found.attempts.length}`,
    onsubmit: (event) => {
      event.preventDefault();
      const chosen = new FormData(event.target);
      go({ base: chosen.get("base") || base, other: chosen.get("other") || other });
    },
  },
    table("Recent attempts", [
      { title: "Attempt", cell: (row) => `#${row.attempt}` },
      { title: "Outcome", class: "tight", cell: outcome },
      { title: "Error", class: "wide", cell: (row) => row.error || "-" },
      { title: "Exit", class: "number", cell: (row) => (row.signal ? `signal ${row.signal}` : row.exit_code ?? "-") },
      { title: "By", cell: (row) => [row.executor, row.model].filter(Boolean).join(", ") || "-" },
      { title: "Queued", class: "number", cell: (row) => (row.queue_seconds === null ? "-" : span(row.queue_seconds)) },
      { title: "Ran", class: "number", cell: (row) => (row.duration_seconds === null ? ranFor(row) : span(row.duration_seconds)) },
      ...USED,
      { title: "Began", class: "nowrap", cell: (row) => clock(row.started_at) },
      ...(found.difference ? [
        { title: "Base", class: "tight", cell: (row) => choice("base", row, base) },
        { title: "Other", class: "tight", cell: (row) => choice("other", row, other) },
      ] : []),
    ], found.attempts, (row) => String(row.attempt)),
    found.attempts.length > 2 ? h("div", { class: "buttons" }, h("button", { type: "submit" }, "Compare the two")) : null);
}

function ranFor(row) {
  const [from, to] = [moment(row.started_at), moment(row.ended_at)];
  return from !== null && to !== null ? span(Math.max(0, to - from)) : "-";
}

function difference(told, hear) {
  const rest = told.fields.filter((each) => !["started_at", "ended_at"].includes(each.field));
  return [
    rest.length
      ? table("Fields that differ", [
          { title: "Field", cell: (each) => plain(each.field) },
          { title: `Attempt ${told.base}`, class: "wide", cell: (each) => shown(each.base) },
          { title: `Attempt ${told.other}`, class: "wide", cell: (each) => shown(each.other) },
          { title: "Change", class: "number", cell: (each) => (each.change === null ? "" : `${each.change > 0 ? "+" : ""}${rounded(each.change)}`) },
        ], rest, (each) => each.field)
      : h("p", { class: "faint" }, "They differ in nothing that is recorded."),
    h("h3", { class: "after" }, "Last words, line by line"),
    words(told, hear),
  ];
}

function words(told, hear) {
  if (told.tail === null) {
    return h("p", {}, h("button", { type: "button", onclick: hear }, "Show what they wrote"),
      h("span", { class: "faint" }, " It may hold anything, and is told only with the token."));
  }
  if (!told.tail.length) return h("p", { class: "faint" }, "They ended with the same words.");
  return h("div", { class: "words difference", tabindex: "0", role: "region", "aria-label": "Last words compared" },
    told.tail.map((line) =>
      line.sign === "@"
        ? h("div", { class: "line-cut" }, h("span", {}, "…"), h("span", {}, "equal lines are left out"))
        : h("div", { class: { "-": "line-minus", "+": "line-plus" }[line.sign] || "" },
            h("span", {}, line.sign, line.sign === " " ? "" : h("span", { class: "unseen" }, line.sign === "-" ? ` only attempt ${told.base}: ` : ` only attempt ${told.other}: `)),
            h("span", {}, line.text || " "))));
}

function shown(value) {
  if (value === null || value === undefined) return h("span", { class: "faint" }, "not known");
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "number" ? rounded(value) : String(value);
}

function rounded(number) {
  return Number.isInteger(number) ? thousands(number) : Number(number.toFixed(3)).toLocaleString("en-US");
}

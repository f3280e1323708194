// Everything at a glance: how crewd is, the crews, what is in trouble and why, what waits for a person, what happened.

import { ago, count, h, moment, now, replace, span, wholeSpan } from "./dom.js";
import { LEVELS, badge, link, notice, plain, runHash, section, table, ticked } from "./parts.js";
import { sparkline } from "./sparkline.js";
import { eventLine } from "./events.js";

const RUNS_MAX = 1000;
const SHOWN_MAX = 60;
const WORKERS_MAX = 12; // of one run
const REASONS_MAX = 20; // runs that are asked why they do not go on
const ENDED_MAX = 15;
const EVENTS_MAX = 12;
const EVENTS_ASKED = 100; // so many, since iterations are left out: one busy worker would push out everything else
const ASK_MS = 1_500; // at most so often; longer where crewd takes long to answer
const RANK = { dead: 5, stale: 4, unreadable: 3, warn: 2, waiting: 1, healthy: 0 };
const OVER = ["completed", "failed", "cancelled"];
const WRONG = ["failed", "dead_lettered", "needs_attention", "blocked"]; // states of tasks

export async function show(root, _params, page) {
  let known = await ask(page);
  let events = known.events;
  draw();
  let took = 0;
  const soon = page.seldom(async () => {
    const began = performance.now();
    try {
      known = await ask(page);
      events = known.events;
      draw();
    } catch {
      return; // the banner says it
    }
    took = performance.now() - began;
  }, ASK_MS);
  let last = 0;

  function draw() {
    const before = root.dataset.troubled;
    const troubled = known.runs.filter(inTrouble);
    replace(root, ...drawn(known, events, troubled));
    root.dataset.troubled = troubled.length;
    if (before !== undefined && Number(before) !== troubled.length) {
      page.announce(troubled.length ? `${count(troubled.length, "run")} in trouble` : "no run is in trouble any more");
    }
  }

  const refresh = () => {
    // Where an answer takes long, crewd has much to tell: it is asked less often.
    if (Date.now() - last < took * 8) return;
    last = Date.now();
    soon();
  };
  return { onRound: refresh, onEvent: refresh, onMissed: refresh, stop: () => soon.stop() };
}

async function ask(page) {
  const [status, crews, runs, incidents, letters, plans, events, pauses, circuits] = await Promise.all([
    page.get("status"),
    or(page.get("crews"), { crews: [] }),
    page.get("runs", { workers: true, limit: RUNS_MAX }),
    page.get("incidents", { limit: 1000 }),
    or(page.get("deadletters", { limit: 1000 }), null),
    page.get("recoveries", { state: "planned", limit: 1000 }),
    page.get("events", { newest: true, limit: EVENTS_ASKED }),
    or(page.get("pauses"), { pauses: [] }),
    or(page.get("circuits"), { circuits: [] }),
  ]);
  const buried = new Set((letters?.deadletters || []).map((each) => each.run_id));
  for (const run of runs.runs) run.buried = buried.has(run.run_id);
  const reasons = runs.runs.filter((run) => inTrouble(run) && !run.unread && !(RANK[run.worst_level] >= 2)).slice(0, REASONS_MAX);
  const why = await Promise.all(reasons.map((run) => or(page.get(`runs/${encodeURIComponent(run.run_id)}/why`), null)));
  return {
    status,
    why: new Map(why.filter(Boolean).map((each) => [each.run_id, each])),
    crews: crews.crews,
    runs: runs.runs,
    more: runs.next !== null,
    incidents: incidents.incidents,
    letters: letters ? letters.deadletters.length : status.crews.reduce((sum, crew) => sum + crew.dead_letters, 0),
    plans: plans.recoveries,
    events: events.events.filter((each) => each.type !== "task.progressed").slice(-EVENTS_MAX),
    pauses: pauses.pauses,
    circuits: circuits.circuits.filter((each) => each.state !== "closed"),
  };
}

/** What a crew that only watches, or an older one, does not tell. */
async function or(asked, otherwise) {
  try {
    return await asked;
  } catch (error) {
    if (![404, 503].includes(error.status)) throw error;
    return otherwise;
  }
}

function drawn(known, events, troubled) {
  const rest = known.runs.filter((run) => !troubled.includes(run));
  const working = rest.filter((run) => !OVER.includes(run.status)).sort(newest);
  const ended = rest.filter((run) => OVER.includes(run.status)).sort(newest);
  return [
    h("h1", { class: "unseen" }, "Overview"),
    health(known),
    figures(known, troubled),
    section("trouble", ["In trouble ", h("span", { class: "faint" }, troubled.length ? String(troubled.length) : "")],
      troubled.length
        ? h("ul", { class: "rows" }, troubled.sort(worst).slice(0, SHOWN_MAX).map((run) => troubledRun(run, known.why.get(run.run_id), known.plans.some((each) => each.run_id === run.run_id))))
        : h("p", { class: "faint" }, known.runs.length ? "Nothing: everybody at work moves." : "No run has been seen."),
      troubled.length > SHOWN_MAX && h("p", { class: "faint" }, `${troubled.length - SHOWN_MAX} more are in less trouble.`)),
    known.status.crews.length > 0 && section("crews", "Crews", crews(known)),
    working.length > 0 && section("working", ["At work ", h("span", { class: "faint" }, String(working.length))], runTable("Runs at work", working.slice(0, SHOWN_MAX)),
      working.length > SHOWN_MAX && h("p", { class: "faint" }, `${working.length - SHOWN_MAX} more are not shown.`)),
    ended.length > 0 && section("ended", ["Ended ", h("span", { class: "faint" }, String(ended.length))], runTable("Runs that have ended", ended.slice(0, ENDED_MAX)),
      ended.length > ENDED_MAX && h("p", {}, link("#/history", "All of them: history"))),
    section("happened", "Latest", h("ul", { class: "events" }, [...events].reverse().map(eventLine))),
  ];
}

// -- how crewd is ---------------------------------------------------------------------------------------------------

function health({ status, pauses, circuits, more }) {
  const found = status.health;
  const bad = Object.entries(found.degraded);
  const workers = status.crews.reduce((sum, crew) => sum + Object.values(crew.workers).reduce((a, b) => a + b, 0), 0);
  const watches = `it watches ${count(status.runs, "run")} of ${count(status.crews.length, "crew")} with ${count(workers, "worker")} at work`;
  return h("div", { "data-key": "health" },
    h("p", { class: "health" }, badge(found.ready ? "ready" : "not ready"), " ",
      `crewd ${found.ready ? found.roots_stuck.length ? "does its work where disks answer" : "does its whole work" : "does not do its whole work"}; ${watches}.`, " ",
      h("span", { class: "faint" }, `Round ${found.rounds}, every ${span(found.round_interval)}, up for `,
        counts(found.started_at), ".")),
    bad.map(([part, why]) => notice("bad", `Degraded: ${plain(part)}.`, why)),
    found.brake && notice("bad", "Mass brake.", found.brake, " Nobody is ended and no dead letter is written while it holds."),
    found.hold && notice("warn", "Hold.", `For ${span(found.hold_seconds_left)} nobody may get worse: ${found.hold}`),
    found.roots_stuck.map((root) => notice("bad", `No answer: ${root}.`, "Its disk hangs. Nobody there is judged, and nobody is noticed.")),
    found.local_health > 1 && notice("warn", "Slow.", `crewd itself is: all thresholds × ${found.local_health.toFixed(1)}.`),
    pauses.map((each) => notice("warn", `Paused: ${each.scope}.`, [each.reason, each.by && `by ${each.by}`].filter(Boolean).join(" "))),
    circuits.map((each) => notice("warn", `Left alone: ${each.name}.`, each.state === "half_open" ? "One task tries whether it works again." : [
      `Nothing is started for it after ${plain(each.opened_for || "failures")}; `,
      each.probe_at ? ["tried again in ", h("span", { "data-until": String(each.probe_at) }, wholeSpan(Math.max(0, each.probe_at - now()))), "."] : "nobody knows until when."])),
    more && notice("calm", "Many runs.", `Only the first ${RUNS_MAX} are looked at here; the commands page through all of them.`));
}

function figures({ incidents, letters, plans }, troubled) {
  const open = incidents.filter((each) => each.state === "open").length;
  const figure = (number, words, hash, tone, more = "") =>
    h("a", { class: `figure ${number ? `some tone-${tone}` : ""}`, href: hash, "data-key": hash },
      h("b", {}, String(number)), h("span", {}, words, more && h("span", {}, ` ${more}`)));
  const seen = incidents.length - open;
  return h("div", { class: "figures", "data-key": "figures" },
    figure(troubled.length, troubled.length === 1 ? "run in trouble" : "runs in trouble", "#/", "alert"),
    figure(open, open === 1 ? "open incident" : "open incidents", "#/incidents", "bad", seen ? `+ ${seen} acknowledged` : ""),
    figure(letters, letters === 1 ? "dead letter" : "dead letters", "#/deadletters", "alert"),
    figure(plans.length, plans.length === 1 ? "plan waits for a person" : "plans wait for a person", "#/recoveries", "warn"));
}

// -- crews ----------------------------------------------------------------------------------------------------------

function crews(known) {
  const rings = new Map(known.crews.map((each) => [`${each.runtime}/${each.crew}`, each]));
  const rank = (crew) => Math.max(-1, ...Object.keys(crew.workers).map((level) => RANK[level] ?? 0));
  const sorted = [...known.status.crews].sort((a, b) => rank(b) - rank(a) || a.crew.localeCompare(b.crew));
  return h("div", { class: "crews" }, sorted.slice(0, SHOWN_MAX).map((crew) => {
    const levels = LEVELS.filter((level) => crew.workers[level]);
    const runs = Object.entries(crew.runs).map(([status, number]) => `${number} ${plain(status)}`).join(", ");
    const ring = rings.get(`${crew.runtime}/${crew.crew}`);
    return h("section", { class: "crew card", "data-key": `${crew.runtime}/${crew.crew}` },
      h("h3", {}, crew.crew || "(no name)", h("span", { class: "faint" }, plain(crew.runtime))),
      h("p", { class: "faint" }, `runs: ${runs || "none"}`),
      h("div", { class: "badges" },
        levels.map((level) => badge(level, `${crew.workers[level]} ${level}`)),
        !levels.length && h("span", { class: "faint" }, "nobody is at work"),
        crew.dead_letters > 0 && badge("dead_lettered", count(crew.dead_letters, "dead letter"))),
      ring && ring.points.length > 0 && sparkline(ring));
  }));
}

// -- runs -----------------------------------------------------------------------------------------------------------

function inTrouble(run) {
  const ended = OVER.includes(run.status);
  if (run.unread || RANK[run.worst_level] >= 2 || run.buried) return true;
  if (ended) return false;
  return run.status === "blocked" || WRONG.some((state) => run.task_counts[state]);
}

function worst(one, other) {
  const rank = (run) => Math.max(RANK[run.worst_level] ?? -1, run.unread ? 2.5 : -1);
  const silence = (run) => Math.max(0, ...(run.workers || []).map((task) => task.worker.silence_seconds || 0));
  return rank(other) - rank(one) || silence(other) - silence(one) || (one.run_id < other.run_id ? -1 : 1);
}

function newest(one, other) {
  return (moment(other.updated_at) || 0) - (moment(one.updated_at) || 0);
}

const LINE = { dead: "bad", stale: "alert", unreadable: "odd", warn: "warn" };

function troubledRun(run, why, planned) {
  const workers = [...(run.workers || [])].sort((a, b) =>
    (RANK[b.worker.level] ?? -1) - (RANK[a.worker.level] ?? -1) || (b.worker.silence_seconds || 0) - (a.worker.silence_seconds || 0));
  const bad = workers.filter((task) => RANK[task.worker.level] >= 2);
  const shown = bad.slice(0, WORKERS_MAX);
  const well = workers.length - bad.length;
  return h("li", { class: `run-row card tone-${RANK[run.worst_level] >= 2 ? LINE[run.worst_level] : "alert"}`, "data-key": run.run_id },
    h("h3", {}, link(runHash(run.run_id), run.goal || run.run_id), badge(run.status)),
    h("p", { class: "meta" }, h("span", { class: "mono" }, run.run_id), h("span", {}, run.crew),
      h("span", {}, tasksInWords(run)), h("span", {}, "began ", run.created_at ? counts(run.created_at) : "at an unknown time", run.created_at && " ago")),
    run.unread && h("p", {}, badge("unreadable"), ` its files cannot be read: ${plain(run.unread)}`),
    shown.map((task) => workerLine(run, task)),
    bad.length > shown.length && h("p", { class: "faint" }, link(runHash(run.run_id), `${bad.length - shown.length} more in trouble`)),
    !bad.length && !run.unread && reason(run, why),
    planned && h("p", { "data-key": "plan" }, badge("planned", "recovery plan"), " ", link(runHash(run.run_id), "It was interrupted, and a plan waits for a person: approve or decline it")),
    well > 0 && h("p", { class: "faint" }, `${count(well, shown.length ? "other worker" : "worker")} ${well === 1 ? "is" : "are"} well`));
}

function reason(run, why) {
  const cause = why?.cause;
  if (!cause) return h("p", {}, link(runHash(run.run_id), "Why it does not go on"));
  const others = why.other_causes.length ? `, and ${count(why.other_causes.length, "other cause")}` : "";
  const held = cause.dependents.length ? `; holds up ${count(cause.dependents.length, "task")}` : "";
  return h("div", { "data-key": "reason" },
    h("p", { class: "run-cause" }, badge(cause.state), link(runHash(run.run_id, cause.tasks[0]), cause.tasks.slice(0, 3).join(", ")),
      h("span", {}, cause.error_class ? `${plain(cause.error_class)}: ${cause.error}` : cause.why, h("span", { class: "faint" }, `${held}${others}`))),
    cause.guidance && h("span", { class: "remedy" }, ticked(cause.guidance)));
}

/** One worker in a line: level, task, silence, the sentence why, and what to do. */
export function workerLine(run, task) {
  const worker = task.worker;
  return h("div", { class: "worker", "data-key": task.task_id },
    h("span", {}, badge(worker.level)),
    link(runHash(run.run_id, task.task_id), task.task_id),
    h("span", { class: "silent" }, h("span", { class: "faint" }, "silent "), counting(worker.silence_seconds, worker.level)),
    h("span", {}, worker.because,
      worker.wedge && worker.wedge !== "unknown" && [" ", h("span", { class: "tag" }, plain(worker.wedge))],
      worker.tool && !worker.because.includes(worker.tool) && h("span", { class: "faint" }, ` in ${worker.tool}`),
      worker.held_by && h("span", { class: "faint" }, ` (held back: ${worker.held_by})`),
      worker.remedy && h("span", { class: "remedy" }, ticked(worker.remedy))));
}

function runTable(caption, runs) {
  return table(caption, [
    { title: "Run", cell: (run) => [link(runHash(run.run_id), run.goal || run.run_id), h("div", { class: "faint mono" }, run.goal ? run.run_id : "")] },
    { title: "Status", class: "tight", cell: (run) => badge(run.status) },
    { title: "Crew", cell: (run) => run.crew },
    { title: "Tasks", cell: (run) => tasksInWords(run) },
    { title: "Workers", cell: (run) => h("div", { class: "badges" },
      LEVELS.filter((level) => run.worker_counts[level]).map((level) => badge(level, `${run.worker_counts[level]} ${level}`))) },
    { title: "Changed", class: "number", cell: (run) => (run.updated_at ? [counts(run.updated_at), " ago"] : "-") },
  ], runs, (run) => run.run_id);
}

function tasksInWords(run) {
  const words = Object.entries(run.task_counts).map(([state, number]) => `${number} ${plain(state)}`);
  return words.length ? words.join(", ") : "no tasks";
}

/** A silence that goes on counting until the next picture. */
function counting(seconds, level) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (level === "healthy") return wholeSpan(seconds);
  return h("span", { "data-counts": String(now() - seconds) }, wholeSpan(seconds));
}

/** How long something has been so, counting. */
function counts(since) {
  const at = moment(since);
  return at === null ? "unknown" : h("span", { "data-counts": String(at) }, wholeSpan(now() - at));
}

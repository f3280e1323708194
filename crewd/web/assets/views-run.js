// One run: how it stands, the one cause of its trouble first, what depends on what, and when what was tried.

import { address } from "./api.js";
import { dag, TASKS_MAX } from "./dag.js";
import { clock, count, h, moment, now, replace, span, used, wholeSpan } from "./dom.js";
import { eventLine } from "./events.js";
import { badge, facts, link, notice, plain, runHash, section, table, ticked } from "./parts.js";
import { askRun, OVER } from "./run.js";
import { tabs, viewOf, within } from "./tabs.js";
import { timeline } from "./timeline.js";
import { commandOf } from "./views-recoveries.js";

const ASK_MS = 1_200;
const ROWS_MAX = 500;
const NAMES_MAX = 6;
const STOPPED = ["cancelled", "skipped"]; // somebody's wish: nothing that is stuck
const BY = "crewd.by"; // whose word an approval is, remembered while the tab is open

export async function show(root, params, page) {
  const { run } = params;
  const which = viewOf(params.query);
  let known = await askRun(run, page);
  const part = which === "live" ? null : h("div", { class: "within", "data-own": "", "data-key": "within" });
  const handle = part && (await within(part, which, params, page));
  let stopped = false;
  const soon = page.seldom(async () => {
    try {
      const found = await askRun(run, page);
      if (stopped) return;
      if (found.status !== known.status) page.announce(`${found.goal || run} is ${plain(found.status)} now`);
      known = found;
      draw();
    } catch {
      // The banner says that crewd is gone; what is shown stays.
    }
  }, ASK_MS);
  draw();

  function draw() {
    page.title(known.goal || run);
    replace(root, header(known, page, soon), tabs(params, which), ...(part ? [part] : drawn(known, page, soon)));
  }

  const still = () => known.past;
  return {
    onEvent: (record) => {
      if (record.run_id === run) soon();
      handle?.onEvent?.(record);
    },
    onRound: (round) => {
      if (!still()) soon();
      handle?.onRound?.(round);
    },
    onMissed: soon,
    stop: () => {
      stopped = true;
      soon.stop();
      handle?.stop?.();
    },
  };
}

function drawn(run, page, again) {
  const wide = Math.min(document.getElementById("content").clientWidth, 1344) - (innerWidth < 700 ? 32 : 52);
  const graph = dag(run.run_id, run.tasks, wide);
  const times = timeline(run.run_id, run.tasks, wide);
  const latest = run.events.filter((each) => each.type !== "task.progressed").reverse().slice(0, 15);
  return [
    run.past && notice("calm", "Over.", "This run is only in the ledger any more: it is told as it was recorded."),
    run.unread && notice("odd", "Unreadable.", `Its files cannot be read: ${plain(run.unread)}. What is shown is what was read last.`),
    run.waiting && notice("info", "The run waits.", `For ${run.waiting.reason} ${run.waiting.detail}`),
    cause(run, page, again),
    recovery(run, page, again),
    run.incidents.length > 0 && incidents(run),
    graph && section("graph", ["What depends on what ", h("span", { class: "faint" }, `${run.tasks.length} tasks`)], graph),
    !graph && run.tasks.length > TASKS_MAX && h("p", { class: "faint block" }, `${run.tasks.length} tasks are too many to draw; the table has them.`),
    times && section("timeline", "Timeline", times),
    section("tasks", ["Tasks ", h("span", { class: "faint" }, String(run.tasks.length))], taskTable(run)),
    latest.length > 0 && section("events", "Latest", h("ul", { class: "events" }, latest.map(eventLine))),
    exports(run),
  ];
}

// -- header ---------------------------------------------------------------------------------------------------------

function header(run, page, again) {
  const over = OVER.includes(run.status) || run.past;
  const began = moment(run.created_at);
  const age = began === null ? null : over && run.ended_at ? `took ${span(moment(run.ended_at) - began)}` : [counting(began), " ago"];
  return h("div", { "data-key": "header" },
    h("ol", { class: "crumbs", "aria-label": "Where this is" }, h("li", {}, link("#/", "Overview")), h("li", {}, run.crew || "no crew"), h("li", { class: "mono" }, run.run_id)),
    h("div", { class: "head" },
      h("h1", {}, run.goal || run.run_id), badge(run.status),
      h("div", { class: "buttons" },
        run.managed && !over && h("button", { type: "button", class: "danger", onclick: () => cancel(run, page, again) }, "Cancel the run…"))),
    facts([
      ["Began", run.created_at && [clock(run.created_at), " ", h("span", { class: "faint" }, age)]],
      ["Tasks", tally(run.tasks)],
      ["Used", used(run.usage)],
      ["Runtime", run.runtime && plain(run.runtime)],
      ["Submitted by", run.submitted_by],
      ["Labels", Object.keys(run.labels).length > 0 && h("span", { class: "badges" }, Object.entries(run.labels).map(([name, value]) => h("span", { class: "tag" }, `${name}=${value}`)))],
    ]));
}

function tally(tasks) {
  const states = new Map();
  for (const { state, mark } of tasks) states.set(state, [mark, (states.get(state)?.[1] || 0) + 1]);
  return h("span", { class: "badges" }, [...states].map(([state, [mark, number]]) => badge(mark, `${number} ${plain(state)}`)));
}

async function cancel(run, page, again) {
  const given = await page.ask({
    title: `Cancel ${run.goal || run.run_id}?`,
    text: "What runs of it is stopped, and what has not begun will not begin. A cancelled task stays cancelled.",
    fields: [{ name: "reason", label: "Reason, for the record" }],
    button: "Cancel the run",
    danger: true,
  });
  if (given && (await page.act(() => page.post(`runs/${encodeURIComponent(run.run_id)}/cancel`, given)))) again();
}

// -- the one cause --------------------------------------------------------------------------------------------------

function cause(run, page, again) {
  const why = run.why;
  if (!why) return null;
  const bad = why.workers.filter((each) => ["dead", "stale", "unreadable", "warn"].includes(each.level));
  // Who waits for others of the run is drawn below; here stands what holds the run as a whole.
  const ids = new Set(run.tasks.map((task) => task.task_id));
  const inside = (each) => /^(?:waits for|needs) /.test(each.why) && each.why.replace(/^(?:waits for|needs) /, "").split(", ").every((id) => ids.has(id));
  const waits = why.waits.filter((each) => each.why !== "its turn has not come" && !inside(each));
  // What somebody cancelled is not stuck: it is told, below whoever is.
  const stopped = Boolean(why.cause) && STOPPED.includes(why.cause.state);
  const card = why.cause && causeCard(run, why.cause, page, again);
  const whole = [
    !stopped && card,
    bad.length > 0 && workerCard(run, bad[0]),
    stopped && card,
    (!why.cause || stopped) && bad.length > 1 && others(run, bad.slice(1).map((each) => [[each.task], `${each.level}: ${each.because}`])),
    why.other_causes.length > 0 && others(run, why.other_causes.map((each) => [each.tasks, each.error || each.why])),
    waits.length > 0 && waiting(run, waits),
  ].filter(Boolean);
  if (!whole.length) {
    return section("why", "Why", h("p", {}, OVER.includes(run.status) ? "Nothing went wrong." : "Nothing stands in its way."));
  }
  const stuck = bad.length > 0 || (why.cause && !stopped);
  return section("why", stuck ? "What is stuck, and why" : stopped ? "What was cancelled, and why" : "Why it waits", ...whole);
}

function causeCard(run, cause, page, again) {
  const words = cause.error_class ? `${plain(cause.error_class)}: ${cause.error}` : cause.why;
  return h("div", { class: `card cause ${STOPPED.includes(cause.state) ? "tone-calm" : "tone-bad"}`, "data-key": `cause/${cause.tasks[0]}` },
    h("p", { class: "cause-line" }, names(run, cause.tasks), " ", badge(cause.state),
      cause.attempts > 0 && ` after ${count(cause.attempts, "attempt")}`),
    h("p", { class: "cause-words" }, words),
    facts([
      ["Why", cause.why && ![cause.error, words].includes(cause.why) && cause.why.replace(`: ${cause.error}`, "")],
      ["Means", cause.guidance],
      ["Holds up", cause.dependents.length > 0 && [`${count(cause.dependents.length, "task")}: `, names(run, cause.dependents)]],
      ["Next", commands(cause.next_action)],
    ]),
    h("div", { class: "buttons" },
      run.managed && link(runHash(run.run_id, cause.tasks[0], { view: "live", stream: "stderr" }), h("span", { class: "button" }, "See its output")),
      run.managed && cause.state === "dead_lettered" &&
        h("button", { type: "button", class: "primary", onclick: () => redrive(run, cause, page, again) }, cause.tasks.length > 1 ? `Redrive these ${cause.tasks.length} tasks…` : "Redrive it…"),
      !run.managed && link(runHash(run.run_id, cause.tasks[0]), h("span", { class: "button" }, "See the task"))));
}

async function redrive(run, cause, page, again) {
  const keys = run.tasks.filter((task) => cause.tasks.includes(task.task_id) && task.letter).map((task) => task.letter);
  const given = await page.ask({
    title: cause.tasks.length > 1 ? `Redrive ${cause.tasks.length} tasks?` : `Redrive ${cause.tasks[0]}?`,
    text: "It gets a new budget of attempts and starts as soon as it may. What was skipped because of it goes on after it. Mend the cause first.",
    button: "Redrive",
  });
  if (given && (await page.act(() => page.post("deadletters/redrive", { keys })))) again();
}

function workerCard(run, worker) {
  return h("div", { class: `card cause tone-${{ dead: "bad", stale: "alert", unreadable: "odd" }[worker.level] || "warn"}`, "data-key": `worker/${worker.task}` },
    h("p", { class: "cause-line" }, names(run, [worker.task]), " ", badge(worker.level), " silent for ", counting(now() - worker.silence_seconds)),
    h("p", { class: "cause-words" }, worker.because),
    facts([
      ["Diagnosis", worker.wedge && worker.wedge !== "unknown" && plain(worker.wedge)],
      ["In tool", worker.tool],
      ["Held back", worker.held_by],
      ["What to do", worker.remedy && ticked(worker.remedy)],
      ["Evidence", link(runHash(run.run_id, worker.task), "every signal, and the rule that fitted")],
    ]));
}

function others(run, found) {
  return h("details", { "data-key": "others", open: found.length <= 3 },
    h("summary", {}, `${count(found.length, "other cause")}`),
    h("ul", {}, found.slice(0, 30).map(([tasks, words]) => h("li", {}, names(run, tasks), ": ", words))));
}

function waiting(run, waits) {
  return h("ul", { class: "waits", "data-key": "waits" },
    waits.slice(0, 20).map((each) => {
      const due = run.tasks.filter((task) => each.tasks.includes(task.task_id) && task.due_at).map((task) => moment(task.due_at)).sort((a, b) => a - b)[0];
      return h("li", {}, names(run, each.tasks), each.tasks.length === 1 ? " waits: " : " wait: ", each.why,
        due && due > now() && [", tried again in ", h("span", { "data-until": String(due) }, wholeSpan(due - now()))]);
    }));
}

function names(run, tasks) {
  const shown = tasks.slice(0, NAMES_MAX).map((task, index) => [index ? ", " : "", link(runHash(run.run_id, task), task)]);
  return h("span", {}, shown, tasks.length > NAMES_MAX && ` and ${tasks.length - NAMES_MAX} more`);
}

/** "crewd logs R T; once it is mended: crewd deadletter redrive R/T" with what is typed set as such. */
function commands(text) {
  return text.split(/((?:^|(?<=: ))crewd [^;]+)/).filter(Boolean).map((part) => (part.startsWith("crewd ") ? h("code", {}, part) : part));
}

// -- what people decide -----------------------------------------------------------------------------------------------

function recovery(run, page, again) {
  const plan = run.plan;
  if (!plan || ["withdrawn", "verified"].includes(plan.state)) return null;
  const able = ableTo(plan);
  return section("recovery", ["Recovery ", badge(plan.state)],
    h("div", { class: "card" },
      h("p", {}, `The run was found interrupted: ${plan.because}.`),
      facts([
        ["Goes on", plan.resumable?.join(", ")],
        ["Stays done", plan.preserved?.join(", ")],
        ...(plan.offers || []).map((action) => [`To ${action}`, commandOf(plan, action)]),
        ["Decided", plan.decided_by && [plan.decided_by, ", ", clock(plan.decided_at), plan.action && `: ${plan.action}`]],
        ["Stands", plan.note],
        ["Went wrong", plan.error],
        ["Proposed", clock(plan.created_at)],
      ]),
      plan.state === "planned" && !able.length && notice("warn", "No command is configured.", "Set recovery.command, reload crewd, and approve it then."),
      h("div", { class: "buttons" },
        plan.state === "planned" && able.length > 0 && h("button", { type: "button", class: "primary", onclick: () => decide(plan, "approve", page, again) }, "Approve…"),
        plan.state === "planned" && h("button", { type: "button", onclick: () => decide(plan, "decline", page, again) }, "Decline…"),
        plan.state === "failed" && link("#/recoveries", h("span", { class: "button" }, "See what its command said, or approve again")))));
}

/** The actions of a plan for which there is a command. */
function ableTo(plan) {
  return (plan.offers || []).filter((action) => plan.commands?.[action]?.length);
}

async function decide(plan, what, page, again) {
  const approve = what === "approve";
  const able = ableTo(plan);
  const given = await page.ask({
    title: approve ? "Approve the recovery plan?" : "Decline the recovery plan?",
    text: approve
      ? [h("p", {}, "Once the run is found interrupted once more, crewd runs exactly this, once:"),
        facts(able.map((action) => [`To ${action}`, commandOf(plan, action)]))]
      : "Nothing is done for this interruption. If the run is interrupted anew, there will be another plan.",
    fields: [
      approve && able.length > 1 && { name: "action", label: "Action", options: able.map((each) => [each, plain(each)]), required: true },
      { name: "by", label: "Your name", required: true, max: 128, value: sessionStorage.getItem(BY) || "" },
      { name: "reason", label: "Reason" },
    ].filter(Boolean),
    button: approve ? "Approve" : "Decline",
  });
  if (!given) return;
  if (approve && able.length === 1) given.action = able[0];
  sessionStorage.setItem(BY, given.by);
  if (await page.act(() => page.post(`recoveries/${encodeURIComponent(plan.plan_id)}/${what}`, given))) again();
}

function incidents(run) {
  return section("incidents", ["Open incidents ", h("span", { class: "faint" }, String(run.incidents.length))],
    h("ul", { class: "rows" }, run.incidents.slice(0, 20).map((each) =>
      h("li", { class: "card", "data-key": `${each.subject} ${each.cause}` },
        badge(each.severity), " ", each.task_id && [link(runHash(run.run_id, each.task_id), each.task_id), " "],
        ticked(each.task_id && each.summary.startsWith(`${each.task_id} `) ? each.summary.slice(each.task_id.length + 1) : each.summary),
        h("span", { class: "faint" }, " since ", clock(each.opened_at), each.acknowledged_by && `, seen by ${each.acknowledged_by}`)))),
    h("p", {}, link("#/incidents", "Acknowledge or snooze them among the incidents")));
}

// -- tasks ----------------------------------------------------------------------------------------------------------

function taskTable(run) {
  const attempted = run.tasks.some((task) => task.attempts_max !== null);
  const usage = run.tasks.some((task) => used(task.usage));
  const columns = [
    { title: "Task", cell: (task) => [link(runHash(run.run_id, task.task_id), task.task_id), task.title && task.title !== task.task_id && h("div", { class: "faint" }, task.title)] },
    { title: "State", class: "tight", cell: (task) => badge(task.mark, plain(task.state)) },
    { title: "Worker", class: "tight", cell: (task) => (task.worker ? badge(task.worker.level) : h("span", { class: "faint" }, "-")) },
    attempted && { title: "Attempts", class: "number", cell: (task) => attemptsOf(task) || String(task.attempt || "-") },
    { title: "Took", class: "number", cell: (task) => took(task) },
    usage && { title: "Used", class: "number", cell: (task) => used(task.usage) || "-" },
    { title: "Why", cell: whyOf },
  ].filter(Boolean);
  const shown = run.tasks.slice(0, ROWS_MAX);
  return [
    table("Tasks of the run", columns, shown, (task) => task.task_id),
    run.tasks.length > shown.length && h("p", { class: "faint" }, `${run.tasks.length - shown.length} more: `, h("a", { href: address(`runs/${encodeURIComponent(run.run_id)}`) }, "all as JSON")),
  ];
}

/** "2 of 3"; of one that was redriven, and so has more than its first budget, the number alone. */
function attemptsOf(task) {
  const made = task.attempts.length;
  return task.attempts_max ? (made > task.attempts_max ? String(made) : `${made} of ${task.attempts_max}`) : "";
}

function whyOf(task) {
  if (task.worker && task.worker.level !== "healthy") return task.worker.because;
  if (["completed", "running"].includes(task.state)) return h("span", { class: "faint" }, task.why);
  return task.why || h("span", { class: "faint" }, task.depends_on.length && ["waiting", "queued"].includes(task.state) ? `needs ${task.depends_on.join(", ")}` : "");
}

function took(task) {
  const began = moment(task.started_at);
  if (began === null) return "-";
  const last = task.attempts.at(-1);
  if (last && !last.ended_at) return counting(moment(last.started_at));
  const worked = task.attempts.reduce((sum, each) => sum + ((moment(each.ended_at) ?? 0) - (moment(each.started_at) ?? 0)), 0);
  return span(worked);
}

function counting(since) {
  return h("span", { "data-counts": String(since), class: "number" }, wholeSpan(now() - since));
}

function exports(run) {
  const to = (path, query, word) => h("a", { href: address(`runs/${encodeURIComponent(run.run_id)}/${path}`, query), download: query.format ? "" : null }, word);
  return h("p", { class: "faint block", "data-key": "exports" }, "Export: ",
    ["json", "jsonl", "csv", "md"].map((format) => [to("export", { format }, format), " · "]), to("trace", {}, "trace"), " · ",
    link(`#/history?run=${encodeURIComponent(run.run_id)}`, "history of this run"),
    run.managed && [" · ", link(`#/preview/${encodeURIComponent(run.run_id)}`, "its plan: what will run")]);
}

// One task, live: the evidence behind its verdict, what its agent does, what it writes, and what may be done about it.

import { clock, count, h, moment, now, replace, span, thousands, used, wholeSpan } from "./dom.js";
import { eventLine, iteration } from "./events.js";
import { badge, facts, link, plain, runHash, section, table, ticked } from "./parts.js";
import { askTask } from "./run.js";
import { tabs, viewOf, within } from "./tabs.js";
import { Tail } from "./tail.js";

const ASK_MS = 1_000;
const OVER = ["completed", "dead_lettered", "cancelled", "skipped", "failed", "needs_attention"];
const AT_WORK = ["running", "starting", "ending"];
// Events that tell what a worker said by crewd-worker/1, and what it said that is no message.
const SAID = {
  "task.progressed": (data) => `iteration ${iteration(data)}`,
  "worker.protocol_error": (data) => `${count(data.count, "line")} that ${data.count === 1 ? "is no message" : "are no messages"}: ${Object.keys(data.kinds || {}).map(plain).join(", ")}`,
  "worker.exit_mismatch": (data) => `told a result, and ended with ${data.signal ? `signal ${data.signal}` : `exit ${data.exit_code}`}`,
};

export async function show(root, params, page) {
  const which = viewOf(params.query);
  let known = await askTask(params.run, params.task, page);
  const tail = which === "live" && known.managed ? new Tail(params.run, params.task, page, params.query.get("stream") === "stderr" ? "stderr" : "stdout") : null;
  const part = which === "live" ? null : h("div", { class: "within", "data-own": "", "data-key": "within" });
  const handle = part && (await within(part, which, params, page));
  let stopped = false;
  const soon = page.seldom(async () => {
    try {
      const found = await askTask(params.run, params.task, page);
      if (stopped) return;
      if (found.state !== known.state) page.announce(`${params.task} is ${plain(found.state)} now`);
      if (found.worker?.level !== known.worker?.level && found.worker) page.announce(`its level is ${found.worker.level} now`);
      known = found;
      draw();
    } catch {
      // The banner says that crewd is gone; what is shown stays.
    }
  }, ASK_MS);
  draw();

  function draw() {
    page.title(`${params.task}, ${known.goal || params.run}`);
    tail?.know(known.attempts);
    const shown = part ? [part] : live(known, tail);
    replace(root, header(known, page, soon), tabs(params, which), ...shown);
  }

  return {
    onEvent: (record) => {
      if (record.run_id === params.run && record.task_id === params.task) soon();
      handle?.onEvent?.(record);
    },
    onRound: (round) => {
      soon();
      handle?.onRound?.(round);
    },
    onMissed: soon,
    stop: () => {
      stopped = true;
      soon.stop();
      tail?.stop();
      handle?.stop?.();
    },
  };
}

// -- header ---------------------------------------------------------------------------------------------------------

function header(task, page, again) {
  const over = OVER.includes(task.state);
  const may = task.managed;
  return h("div", { "data-key": "header" },
    h("ol", { class: "crumbs", "aria-label": "Where this is" }, h("li", {}, link("#/", "Overview")), h("li", {}, link(runHash(task.run_id), task.goal || task.run_id)), h("li", { class: "mono" }, task.task_id)),
    h("div", { class: "head" },
      h("h1", {}, task.task_id), badge(task.mark, plain(task.state)), task.worker && badge(task.worker.level),
      h("div", { class: "buttons" },
        may && ["retry_wait", "dead_lettered"].includes(task.state) &&
          h("button", { type: "button", class: "primary", onclick: () => retry(task, page, again) }, task.state === "dead_lettered" ? "Redrive…" : "Try now"),
        may && !over && h("button", { type: "button", class: "danger", onclick: () => cancel(task, page, again) }, "Cancel…"))),
    task.title && task.title !== task.task_id && h("p", {}, task.title));
}

async function retry(task, page, again) {
  const dead = task.state === "dead_lettered";
  const given = dead
    ? await page.ask({ title: `Redrive ${task.task_id}?`, text: "It gets a new budget of attempts. What was skipped because of it goes on after it. Mend the cause first.", button: "Redrive" })
    : {};
  if (given && (await page.act(() => page.post(`${address(task)}/retry`, {})))) again();
}

async function cancel(task, page, again) {
  const given = await page.ask({
    title: `Cancel ${task.task_id}?`,
    text: "It is stopped if it runs, and stays cancelled. What depends on it does not begin.",
    fields: [{ name: "reason", label: "Reason, for the record" }],
    button: "Cancel the task",
    danger: true,
  });
  if (given && (await page.act(() => page.post(`${address(task)}/cancel`, given)))) again();
}

function address(task) {
  return `runs/${encodeURIComponent(task.run_id)}/tasks/${encodeURIComponent(task.task_id)}`;
}

// -- live -----------------------------------------------------------------------------------------------------------

function live(task, tail) {
  return [
    stands(task),
    h("div", { class: "columns block", "data-key": "columns" }, doing(task), attempts(task)),
    tail?.element,
    task.explain && evidence(task.explain, task.table),
    task.events.length > 0 && section("events", "Latest", h("ul", { class: "events" }, [...task.events].reverse().slice(0, 12).map(eventLine))),
  ];
}

/** Where it stands, in one card: the verdict and what to do; or how the last attempt went wrong, and what follows. */
function stands(task) {
  const found = task.explain;
  const cause = [task.why_run?.cause, ...(task.why_run?.other_causes || [])].find((each) => each?.tasks.includes(task.task_id));
  const cards = [];
  if (task.state === "ending" && task.why) cards.push(h("p", { "data-key": "ending" }, badge("ending"), ` It ${task.why}`));
  if (found && found.level !== "healthy") {
    cards.push(h("div", { class: `card cause tone-${{ dead: "bad", stale: "alert", unreadable: "odd", waiting: "info" }[found.level] || "warn"}`, "data-key": "verdict" },
      h("p", { class: "cause-line" }, badge(found.level), found.reason === "silent" ? " silent for " : ` ${plain(found.reason)}, silent for `, counting(now() - found.silence_seconds)),
      h("p", { class: "cause-words" }, found.because),
      facts([["Diagnosis", found.wedge && found.wedge !== "unknown" && plain(found.wedge)], ["Held back by", found.held_by], ["What to do", (task.worker?.remedy || found.remedy) && ticked(task.worker?.remedy || found.remedy)]])));
  }
  if (cause) {
    cards.push(h("div", { class: "card cause tone-bad", "data-key": "cause" },
      h("p", { class: "cause-line" }, badge(cause.state), cause.attempts > 0 && ` after ${count(cause.attempts, "attempt")}`),
      h("p", { class: "cause-words" }, cause.error_class ? `${plain(cause.error_class)}: ${cause.error}` : cause.why),
      facts([["Means", cause.guidance], ["Next", ticked(cause.next_action.replace(/(?:^|(?<=: ))crewd [^;]+/g, "`$&`"))],
        ["Holds up", cause.dependents.length > 0 && cause.dependents.slice(0, 8).map((each, index) => [index ? ", " : "", link(runHash(task.run_id, each), each)])]])));
  } else if (task.state === "retry_wait") {
    const last = task.attempts.at(-1);
    const due = moment(task.due_at);
    cards.push(h("div", { class: "card cause tone-warn", "data-key": "retry" },
      h("p", { class: "cause-line" }, badge("retry_wait"), due === null ? "" : [" tried again in ", h("span", { "data-until": String(due) }, wholeSpan(Math.max(0, due - now())))]),
      last?.error && h("p", { class: "cause-words" }, `${plain(last.error_class)}: ${last.error}`)));
  } else if (!found && !AT_WORK.includes(task.state)) {
    const waits = task.depends_on.length && ["waiting", "queued"].includes(task.state) ? `It needs ${task.depends_on.join(", ")}.` : "";
    cards.push(h("p", { "data-key": "idle" }, badge(task.mark, plain(task.state)), " ", task.why || waits || "Nobody works on it, so there is nothing to judge."));
  } else if (found?.level === "healthy") {
    cards.push(h("p", { "data-key": "well" }, badge("healthy"), ` ${found.because}; silent for `, wholeSpan(found.silence_seconds), "."));
  }
  return h("section", { "aria-labelledby": "stands", "data-key": "stands" }, h("h2", { id: "stands" }, "Where it stands"), cards);
}

function doing(task) {
  const agent = task.agent;
  const last = task.attempts.at(-1);
  const told = agent || last?.details || {};
  const tools = agent?.tools || [];
  const does = !agent
    ? ""
    : !agent.understood
      ? "prints what is not understood: judged as any command"
      : agent.throttled
        ? `throttled${agent.throttled_for_seconds === null ? "; nobody said for how long" : ` for ${span(agent.throttled_for_seconds)} more`}`
        : tools.length
          ? tools.slice(0, 4).map((tool, index) => [index ? ", " : "in ", h("b", {}, tool.name), " for ", counting(now() - tool.for_seconds)])
          : agent.session ? "waits for its model" : "has not said anything yet";
  const usage = task.usage;
  return section("doing", "What it does",
    h("div", { class: "card" }, facts([
      ["Agent", task.profile && [task.profile, told.version].filter(Boolean).join(" ")],
      ["Model", told.model || task.model],
      ["Does", does || task.worker?.tool && `in ${task.worker.tool}`],
      ["Provider says", agent?.refused],
      ["Tool calls", (agent?.tools_begun ?? told.tools) > 0 && thousands(agent?.tools_begun ?? told.tools)],
      ["Moves", agent?.moves !== undefined && thousands(agent.moves)],
      ["Denied", (told.denied || []).join(", ")],
      ["Session", told.session && h("code", {}, told.session)],
      ["Began", told.rung === "resume" ? `resumed its session${told.because ? `: ${told.because}` : ""}` : told.rung && `afresh${told.because ? `: ${told.because}` : ""}`],
      ["Used", used(usage)],
      ["Tokens", usage && `${thousands(usage.input)} in, ${thousands(usage.output)} out, ${thousands(usage.cache_read)} from the cache, ${thousands(usage.cache_write)} into it`],
      ["Process", task.worker?.process ? `${plain(task.worker.process.state)}: ${task.worker.process.why}` : task.pid && `pid ${task.pid}`],
      ["Last progress", task.worker?.progress_at && clock(task.worker.progress_at)],
      ["Executor", task.executor && [task.executor, task.mode && task.mode !== "command" ? `, ${plain(task.mode)}` : ""].join("")],
      ["Type", task.task_type],
      ["Messages", messages(task)],
      ["Needs", task.depends_on.length > 0 && task.depends_on.map((each, index) => [index ? ", " : "", link(runHash(task.run_id, each), each)])],
    ]) || h("p", { class: "faint" }, "Nothing is known of it yet.")));
}

/** What a worker that speaks the protocol has said of itself, its latest words. */
function messages(task) {
  const said = task.mode === "protocol" ? task.events.filter((each) => SAID[each.type]) : [];
  return said.length ? h("ul", { class: "plain" }, said.slice(-4).map((each) => h("li", { "data-key": String(each.seq) }, clock(each.ts), " ", SAID[each.type](each.data)))) : "";
}

function attempts(task) {
  const most = task.attempts_max >= task.attempts.length ? ` of ${task.attempts_max}` : ""; // more: it was redriven
  return section("attempts", ["Attempts ", h("span", { class: "faint" }, `${task.attempts.length}${most}`)],
    task.attempts.length
      ? table("Attempts", [
          { title: "No", class: "tight", cell: (each) => String(each.attempt) },
          { title: "Outcome", class: "tight", cell: (each) => badge(each.outcome) },
          { title: "Took", class: "number", cell: (each) => (each.ended_at ? span(moment(each.ended_at) - moment(each.started_at)) : counting(moment(each.started_at))) },
          { title: "Error", cell: (each) => (each.error_class ? `${plain(each.error_class)}: ${each.error}` : each.error || exitOf(each)) },
        ], [...task.attempts].reverse().slice(0, 20), (each) => String(each.attempt))
      : h("p", { class: "faint" }, "None has begun."));
}

function exitOf(attempt) {
  if (!attempt.exit) return "";
  return attempt.exit.signal ? `ended by signal ${attempt.exit.signal}` : `exit ${attempt.exit.code}`;
}

// -- evidence -------------------------------------------------------------------------------------------------------

function evidence(found, rules) {
  return section("evidence", "Evidence behind the verdict",
    facts([["This round says", found.verdict], ["Held back by", found.held_by], ["The rule that fitted", `row ${found.row}: ${found.rule}`], ["Level since", found.since && clock(found.since)]]),
    table("Signals", [
      { title: "Signal", class: "tight", cell: (each) => each.name },
      { title: "Value", cell: (each) => each.value },
      { title: "Seen", class: "number", cell: (each) => (moment(each.seen) === null ? h("span", { class: "faint" }, "this round") : [counting(moment(each.seen)), " ago"]) },
    ], found.signals, (each) => each.name),
    rules?.length > 0 && h("details", { "data-key": "rules" },
      h("summary", {}, `All rules: the first row that fits counts (row ${found.row} fitted)`),
      table("The rules", [
        { title: "Row", class: "tight", cell: (each) => String(each.row) },
        { title: "Process", cell: (each) => each.process },
        { title: "Silence", cell: (each) => each.silence },
        { title: "Verdict", cell: (each) => [each.verdict, each.row === found.row && h("b", {}, " ← fitted")] },
      ], rules.map((each) => ({ ...each, class: each.row === found.row ? "fitted" : null })), (each) => String(each.row))));
}

function counting(since) {
  return h("span", { "data-counts": String(since), class: "number" }, wholeSpan(now() - since));
}

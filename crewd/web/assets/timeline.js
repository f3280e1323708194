// When what was tried: a row for each task, a bar for each attempt, a dotted line while it waits for the next.

import { h, moment, now, span, svg } from "./dom.js";
import { plain, runHash, sign, tone } from "./parts.js";

const ROW = 24;
const BAR = 14;
const LABEL = 168;
const NAME_MAX = 24;
const TOP = 22;
const RIGHT = 14;
export const ROWS_MAX = 150;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 172800, 604800];

/** Draw attempts: tasks as [{task_id, state, attempts: [{attempt, started_at, ended_at, outcome}], due_at}]. */
export function timeline(run, tasks, wide) {
  const tried = tasks.filter((task) => task.attempts.some((each) => moment(each.started_at) !== null));
  if (!tried.length) return null;
  const at = now();
  const going = tried.some((task) => task.attempts.some((each) => !each.ended_at) || task.state === "retry_wait");
  const moments = tried.flatMap((task) => task.attempts.flatMap((each) => [moment(each.started_at), moment(each.ended_at)]));
  const past = [...moments, ...(going ? [at] : [])].filter((each) => each !== null);
  const from = Math.min(...past);
  const due = tried.map((task) => (task.state === "retry_wait" ? moment(task.due_at) : null)).filter((each) => each !== null);
  // What is to come takes a third of the width at most: a wait of hours would leave no room for what was.
  const to = Math.max(...past, from + 1, Math.min(Math.max(at, ...due), at + Math.max(0, at - from) / 2));
  const label = wide < 560 ? 108 : LABEL;
  const width = Math.max(wide, 420);
  const scale = (when) => label + ((when - from) / (to - from)) * (width - label - RIGHT);
  const shown = tried.sort((a, b) => moment(a.attempts[0].started_at) - moment(b.attempts[0].started_at)).slice(0, ROWS_MAX);
  const height = TOP + shown.length * ROW + 6;
  return h("div", {},
    h("div", { class: "drawing", tabindex: "0", role: "region", "aria-label": "Timeline of attempts" },
      svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "list", "aria-label": `Attempts of ${tried.length} tasks over ${span(to - from)}` },
        axis(from, to, scale, height, going ? scale(at) : scale(to)),
        shown.map((task, index) => row(run, task, TOP + index * ROW, scale, label, going ? at : to, to)),
        going && svg("line", { class: "now", x1: scale(at), x2: scale(at), y1: TOP - 6, y2: height }),
        going && svg("text", { class: "small", x: scale(at) - 4, y: TOP - 9, "text-anchor": "end" }, "now"))),
    h("p", { class: "legend" },
      h("span", {}, "A bar is an attempt, with its number and how it ended."), h("span", {}, "A dotted line is a wait for the next one."),
      tried.length > shown.length && h("span", {}, `${tried.length - shown.length} more tasks are not drawn; the table has them.`)));
}

function axis(from, to, scale, height, free) {
  const step = STEPS.find((each) => (to - from) / each <= 8) || STEPS.at(-1);
  const marks = [];
  for (let after = 0; after <= to - from; after += step) {
    const x = scale(from + after);
    marks.push(
      svg("line", { class: "grid", x1: x, x2: x, y1: TOP - 4, y2: height }),
      scale(to) - x > 50 && (x > free || free - x > 76) && svg("text", { class: "small", x: x + 3, y: TOP - 9 }, after ? `+${span(after)}` : clockOf(from)),
    );
  }
  return svg("g", { "aria-hidden": "true" }, marks);
}

function row(run, task, y, scale, label, at, to) {
  const middle = y + ROW / 2;
  const most = label < LABEL ? 15 : NAME_MAX;
  const name = task.task_id.length > most ? `${task.task_id.slice(0, most - 1)}…` : task.task_id;
  const attempts = task.attempts.filter((each) => moment(each.started_at) !== null);
  const waits = attempts.slice(0, -1).map((each, index) => [moment(each.ended_at), moment(attempts[index + 1].started_at)]);
  const last = attempts.at(-1);
  const due = task.state === "retry_wait" ? moment(task.due_at) : null;
  if (task.state === "retry_wait" && last.ended_at) waits.push([moment(last.ended_at), Math.min(due ?? at, to)]);
  const words = attempts.map((each) => `attempt ${each.attempt} ${told(each, at)}`).join("; ");
  return svg("a", { href: runHash(run, task.task_id), role: "listitem", "aria-label": `${task.task_id}: ${plain(task.state)}; ${words}`, "data-key": task.task_id },
    svg("text", { class: `sign tone-${tone(task.mark)}`, x: 8, y: middle + 4, "aria-hidden": "true" }, sign(task.mark)),
    svg("text", { x: 24, y: middle + 4 }, name),
    waits.filter(([a, b]) => a !== null && b !== null && b > a).map(([a, b]) =>
      svg("line", { class: "wait", x1: scale(a), x2: scale(b), y1: middle, y2: middle })),
    due > to && svg("text", { class: "small", x: scale(to), y: middle - 3, "text-anchor": "end" }, `again in ${span(Math.floor(due - at))} →`),
    attempts.map((each) => bar(each, how(task, each), middle, scale, at)));
}

/** How an attempt came out; of one at work whose worker is in trouble: the level that it stands at. */
function how(task, attempt) {
  const level = task.worker?.level;
  return !attempt.ended_at && ["dead", "stale", "unreadable", "warn"].includes(level) ? level : attempt.outcome;
}

function bar(attempt, word, middle, scale, at) {
  const from = scale(moment(attempt.started_at));
  const long = Math.max(3, scale(moment(attempt.ended_at) ?? at) - from);
  const label = `${sign(word)} ${attempt.attempt}`;
  return svg("g", { class: `tone-${tone(word)}` },
    svg("title", {}, `attempt ${attempt.attempt} ${told(attempt, at)}${attempt.error ? `\n${attempt.error}` : ""}`),
    svg("rect", { class: `bar${attempt.ended_at ? "" : " open"}`, x: from, y: middle - BAR / 2, width: long, height: BAR, rx: 3 }),
    long > 26 && svg("text", { class: "on-bar", x: from + 5, y: middle + 4 }, label));
}

function told(attempt, at) {
  const length = span((moment(attempt.ended_at) ?? at) - moment(attempt.started_at));
  return attempt.ended_at ? `${plain(attempt.outcome)} after ${length}${attempt.error_class ? ` (${plain(attempt.error_class)})` : ""}` : `at work for ${length}`;
}

function clockOf(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

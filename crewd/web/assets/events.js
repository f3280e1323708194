// Events in a line.

import { clock, h } from "./dom.js";
import { link, plain, runHash, ticked } from "./parts.js";

const WORDS_MAX = 180;

/** One event: when, what, of whom, and the words that it carries. */
export function eventLine(record) {
  const subject = record.run_id
    ? link(runHash(record.run_id, record.task_id), record.task_id || record.run_id, record.attempt > 1 ? ` (attempt ${record.attempt})` : "")
    : null;
  const said = words(record.data);
  return h("li", { "data-key": String(record.seq) }, clock(record.ts), h("span", { class: "event-type" }, plain(record.type)), h("span", {}, subject, subject && said ? ": " : "", ticked(said)));
}

function words(data = {}) {
  const level = data.from_level && data.to_level ? `${plain(data.from_level)} → ${plain(data.to_level)}` : "";
  const said = data.iteration ? iteration(data) : data.summary || data.because || data.words || data.error || data.reason || data.why || data.message || data.what || "";
  const all = [level, typeof said === "string" ? plainly(said) : ""].filter(Boolean).join(": ");
  return all.length > WORDS_MAX ? `${all.slice(0, WORDS_MAX - 1)}…` : all;
}

/** What a worker said that it is doing: "3: page 7 (7 of 20)". */
export function iteration({ iteration: number, step, progress }) {
  const told = step && progress && step !== progress ? `${step} (${progress})` : step || progress || "";
  return told ? `${number}: ${told}` : String(number);
}

function plainly(text) {
  return /^[a-z_-]+$/.test(text) ? plain(text) : text;
}

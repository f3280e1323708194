// What a person should know: open incidents, the gravest first, and what was said of them; below, those that ended.

import { ago, clock, h, moment, now, replace, span } from "./dom.js";
import { badge, facts, link, plain, runHash, section, table, trouble } from "./parts.js";

const SHOWN = 200;
const SNOOZES = [["900", "15 minutes"], ["3600", "1 hour"], ["14400", "4 hours"], ["86400", "1 day"], ["604800", "1 week"]];

export async function show(root, params, page) {
  const view = new Incidents(root, page);
  await view.load();
  const soon = page.seldom(() => view.load(), 1_000);
  return {
    onEvent: (record) => record.type.startsWith("incident.") && soon(),
    onRound: soon,
    stop: () => {
      soon.stop();
      view.stopped = true;
    },
  };
}

class Incidents {
  constructor(root, page) {
    Object.assign(this, { root, page, stopped: false });
  }

  async load() {
    try {
      const [open, past] = await Promise.all([
        this.page.get("incidents", { state: "open", limit: SHOWN }),
        this.page.get("incidents", { state: "resolved", limit: SHOWN }),
      ]);
      if (!this.stopped) this.draw(open.incidents, past.incidents);
    } catch (error) {
      if (!this.stopped && !this.root.firstChild) replace(this.root, trouble(error));
    }
  }

  draw(open, past) {
    const wake = open.filter((each) => each.state === "open").length;
    this.page.title(open.length ? `Incidents (${wake})` : "Incidents");
    replace(
      this.root,
      h("div", { class: "head" }, h("h1", {}, "Incidents"),
        h("span", { class: "faint" }, open.length ? `${open.length} open, ${wake} that nobody has taken on` : "none is open")),
      open.length
        ? section("open", "Open", h("ul", { class: "rows" }, open.map((each) => this.row(each))))
        : h("p", { class: "card empty" }, "Nothing needs a person just now. What needs one appears here by itself."),
      past.length ? section("past", ["Ended ", h("span", { class: "faint" }, "the newest first")], this.ended(past)) : null,
    );
  }

  row(each) {
    return h("li", { class: `card incident tone-${TONE[each.severity] || "calm"}`, "data-key": keyOf(each) },
      h("div", { class: "head" },
        badge(each.severity), each.state === "open" ? null : badge(each.state),
        h("h3", {}, subject(each)), h("span", { class: "tag" }, plain(each.kind || each.cause)),
        each.crew && h("span", { class: "faint" }, `crew ${each.crew}`),
        h("span", { class: "faint nowrap opened", title: each.opened_at }, `opened ${ago(each.opened_at)}`)),
      h("p", { class: "summary" }, each.summary),
      facts([
        ["Came back", each.openings > 1 && `opened ${each.openings} times${each.damped ? ", so often that nobody is woken" : ""}`],
        ["Taken on by", each.acknowledged_by && [each.acknowledged_by, ", ", ago(each.acknowledged_at)]],
        ["Quiet until", each.state === "snoozed" && [clock(each.snoozed_until, true), ` (${left(each.snoozed_until)} left), by ${each.snoozed_by}`]],
        ["Note", each.note],
      ]),
      h("div", { class: "buttons" },
        h("button", { type: "button", "aria-label": `Acknowledge ${each.subject} ${each.cause}`, onclick: () => this.acknowledge(each) },
          each.acknowledged_by ? "Note again…" : "Acknowledge…"),
        each.state === "snoozed"
          ? h("button", { type: "button", "aria-label": `Wake for ${each.subject} ${each.cause}`, onclick: () => this.wake(each) }, "Wake again")
          : h("button", { type: "button", "aria-label": `Snooze ${each.subject} ${each.cause}`, onclick: () => this.snooze(each) }, "Snooze…"),
        each.run_id && h("a", { class: "button", "aria-label": `See ${each.subject}`, href: runHash(each.run_id, each.task_id) }, each.task_id ? "See the task" : "See the run"),
        elsewhere(each)));
  }

  ended(past) {
    return table("Incidents that ended", [
      { title: "What", cell: subject },
      { title: "Severity", class: "tight", cell: (each) => badge(each.severity) },
      { title: "Cause", cell: (each) => plain(each.kind || each.cause) },
      { title: "Said", class: "wide", cell: (each) => [each.summary, each.note && h("span", { class: "remedy" }, each.note)] },
      { title: "Opened", class: "nowrap", cell: (each) => clock(each.opened_at) },
      { title: "Lasted", class: "number", cell: (each) => span(Math.max(0, moment(each.resolved_at) - moment(each.opened_at))) },
      { title: "By", cell: (each) => each.acknowledged_by || "-" },
    ], past, (each) => `${keyOf(each)} ${each.resolved_at}`);
  }

  async acknowledge(each) {
    const said = await this.page.ask({
      title: `Acknowledge ${each.subject}`,
      text: each.summary,
      fields: [NAME(), { name: "note", label: "Note", value: each.note || "", hint: "What you found, or are about to do." }],
      button: "Acknowledge",
    });
    await this.change("ack", each, said);
  }

  async snooze(each) {
    const said = await this.page.ask({
      title: `Snooze ${each.subject}`,
      text: "Nobody is woken by it for so long. It stays open, and is still shown here.",
      fields: [{ name: "for_seconds", label: "For", options: SNOOZES, required: true }, NAME(), { name: "note", label: "Note", value: each.note || "" }],
      button: "Snooze",
    });
    await this.change("snooze", each, said && { ...said, for_seconds: Number(said.for_seconds) });
  }

  wake(each) {
    return this.change("unsnooze", each, {});
  }

  async change(how, each, said) {
    if (said === null) return;
    remember(said.by);
    const words = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== ""));
    const done = await this.page.act(() => this.page.post(`incidents/${how}`, { subject: each.subject, cause: each.cause, ...words }));
    if (done) await this.load();
  }
}

const TONE = { critical: "bad", warning: "warn", info: "info" };

function subject(each) {
  return each.run_id ? link(runHash(each.run_id, each.task_id), each.subject) : h("span", {}, each.subject);
}

function keyOf(each) {
  return `${each.subject} ${each.cause}`;
}

/** Where something can be done about it. */
function elsewhere(each) {
  if (/^(interrupted|recovery)/.test(each.cause)) return h("a", { class: "button", href: "#/recoveries" }, "See its recovery plan");
  if (/^dead_letters?/.test(each.cause)) return h("a", { class: "button", href: "#/deadletters" }, "See the dead letters");
  return null;
}

function left(text) {
  return span(Math.max(0, Math.floor((moment(text) || 0) - now())));
}

// A person's name is asked for often, and rarely another one.
const BY = "crewd.by";

/** The field for a person's name, with the one given last in it. */
export function NAME(required = false) {
  return { name: "by", label: "Your name", required, max: 128, value: sessionStorage.getItem(BY) || "" };
}

/** Keep a name for the next question. */
export function remember(name) {
  if (name) sessionStorage.setItem(BY, name);
}

// What crewd proposes for interrupted runs of others: why, what stays, what goes on, the exact command; a person decides.

import { ago, clock, count, h, replace } from "./dom.js";
import { badge, facts, link, notice, plain, runHash, section, trouble } from "./parts.js";
import { NAME, remember } from "./views-incidents.js";

const SHOWN = 200;
const UNDECIDED = ["planned"];
const AT_WORK = ["approved", "applied"];
const OVER = ["declined", "verified", "withdrawn"];
const CAUSES = {
  runner_exited: "its runner is gone, and nobody was at work",
  all_exited: "its runner and every worker are gone",
  workers_silent: "its runner is gone, and its workers are silent",
};

export async function show(root, params, page) {
  const view = new Recoveries(root, page);
  await view.load();
  const soon = page.seldom(() => view.load(), 1_000);
  return {
    onEvent: (record) => record.type.startsWith("recovery.") && soon(),
    onRound: soon,
    stop: () => {
      soon.stop();
      view.stopped = true;
    },
  };
}

class Recoveries {
  constructor(root, page) {
    Object.assign(this, { root, page, stopped: false, said: new Map() });
  }

  async load() {
    try {
      const { recoveries } = await this.page.get("recoveries", { limit: SHOWN });
      this.plans = recoveries;
      if (!this.stopped) this.draw();
    } catch (error) {
      if (!this.stopped && !this.plans) replace(this.root, h("h1", {}, "Recoveries"), trouble(error));
    }
  }

  draw() {
    const waiting = this.plans.filter((each) => UNDECIDED.includes(each.state));
    const moving = this.plans.filter((each) => AT_WORK.includes(each.state));
    const over = this.plans.filter((each) => ![...UNDECIDED, ...AT_WORK].includes(each.state));
    this.page.title(waiting.length ? `Recoveries (${waiting.length})` : "Recoveries");
    replace(
      this.root,
      h("h1", {}, "Recoveries"),
      h("p", { class: "faint" }, "Runs of other programs that nobody works on any more. crewd proposes, and does nothing until somebody says so."),
      waiting.length
        ? section("waiting", "Waiting for a person", h("ul", { class: "rows" }, waiting.map((each) => this.plan(each))))
        : h("p", { class: "card empty" }, "No plan waits for a person."),
      moving.length ? section("moving", "Under way", h("ul", { class: "rows" }, moving.map((each) => this.plan(each)))) : null,
      over.length ? section("over", "Settled", h("ul", { class: "rows" }, over.map((each) => this.plan(each)))) : null,
    );
  }

  plan(each) {
    const able = each.offers.filter((action) => each.commands?.[action]?.length);
    return h("li", { class: "card recovery", "data-key": each.plan_id },
      h("div", { class: "head" },
        badge(each.state), h("h3", {}, link(runHash(each.run_id), each.run_id)),
        h("span", { class: "faint" }, `${each.runtime}, crew ${each.crew}, planned ${ago(each.created_at)}`)),
      h("p", { class: "summary" }, each.because),
      facts([
        ["Cause", CAUSES[each.cause] || plain(each.cause)],
        ["Goes on", named(each.resumable, "nothing: every task has ended")],
        ["Stays done", named(each.preserved, "nothing was done yet")],
        ["Last event", each.event_seq === null ? "its log could not be read" : `number ${each.event_seq} of its own log`],
        ["Folder", h("code", {}, each.folder)],
        ...(OVER.includes(each.state) ? [] : each.offers.map((action) => [`To ${action}`, commandOf(each, action)])),
        ["Decided", each.decided_by && [each.decided_by, ", ", clock(each.decided_at), each.action && `: ${each.action}`, each.reason && `, ${each.reason}`]],
        ["Applied", each.applied_at && [clock(each.applied_at), `, ${count(each.attempts, "time")}`]],
        ["Stands", each.note],
        ["Went wrong", each.error && h("span", { class: "bad" }, each.error)],
      ]),
      this.ways(each, able),
      each.attempts ? this.output(each) : null);
  }

  ways(each, able) {
    if (!UNDECIDED.includes(each.state) && each.state !== "failed") return null;
    if (!able.length && UNDECIDED.includes(each.state)) {
      return [
        notice("warn", "No command is configured.", "Set recovery.command, reload crewd, and approve it then."),
        h("div", { class: "buttons" }, this.declineButton(each)),
      ];
    }
    return h("div", { class: "buttons" },
      able.map((action, index) =>
        h("button", { type: "button", class: index ? null : "primary", "aria-label": `Approve to ${action} ${each.run_id}`,
          onclick: () => this.approve(each, action) }, `Approve: ${action}…`)),
      UNDECIDED.includes(each.state) ? this.declineButton(each) : null);
  }

  declineButton(each) {
    return h("button", { type: "button", "aria-label": `Decline the plan for ${each.run_id}`, onclick: () => this.decline(each) }, "Decline…");
  }

  output(each) {
    const said = this.said.get(each.plan_id);
    return h("details", {},
      h("summary", {}, "What its command said"),
      said === undefined
        ? h("button", { type: "button", "aria-label": `Show what the command of ${each.run_id} said`, onclick: () => this.hear(each) }, "Show it")
        : h("pre", { class: "words", tabindex: "0", role: "region", "aria-label": `Output of the command for ${each.run_id}` }, said || "nothing"));
  }

  async hear(each) {
    try {
      const answer = await this.page.trusted(`recoveries/${each.plan_id}`, { output: true });
      if (answer === null) return;
      this.said.set(each.plan_id, (await answer.json()).output || "");
      this.draw();
    } catch (error) {
      await this.page.act(() => Promise.reject(error));
    }
  }

  async approve(each, action) {
    const said = await this.page.ask({
      title: `Approve: ${action} ${each.run_id}`,
      text: [
        h("p", {}, "Once its run is found interrupted once more, crewd runs exactly this, once:"),
        commandOf(each, action),
        action === "resume" ? h("p", {}, "Goes on: ", named(each.resumable, "nothing")) : null,
      ],
      fields: [NAME(true), { name: "reason", label: "Why" }],
      button: `Approve: ${action}`,
      danger: action !== "resume",
    });
    await this.decide(each, "approve", said && { ...said, action });
  }

  async decline(each) {
    const said = await this.page.ask({
      title: `Decline the plan for ${each.run_id}`,
      text: "Nothing is done for this interruption. If the run is interrupted anew, there will be another plan.",
      fields: [NAME(true), { name: "reason", label: "Why" }],
      button: "Decline",
    });
    await this.decide(each, "decline", said);
  }

  async decide(each, how, said) {
    if (said === null) return;
    remember(said.by);
    const done = await this.page.act(() => this.page.post(`recoveries/${each.plan_id}/${how}`, said));
    if (done) await this.load();
  }
}

function named(tasks, none) {
  if (!tasks.length) return none;
  const shown = tasks.slice(0, 12);
  return [shown.join(", "), tasks.length > shown.length ? ` and ${tasks.length - shown.length} more` : ""].join("");
}

/** The exact command of one action of a plan, or that there is none. */
export function commandOf(each, action) {
  const words = each.commands?.[action] || [];
  return words.length ? command(words) : h("span", { class: "faint" }, "no command is configured");
}

/** A command as a shell would take it, word by word. */
export function command(words) {
  return h("code", { class: "command" }, words.map(quoted).join(" "));
}

function quoted(word) {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

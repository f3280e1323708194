// Tasks that were given up, grouped by what went wrong: every attempt and its last words, and the two ways out.

import { ago, clock, count, h, moment, replace, span } from "./dom.js";
import { badge, facts, link, notice, plain, runHash, trouble } from "./parts.js";

const SHOWN = 500;
const TABS = [["open", "Open"], ["redriven", "Redriven"], ["discarded", "Discarded"]];

export async function show(root, params, page) {
  const state = TABS.some(([each]) => each === params.query.get("state")) ? params.query.get("state") : "open";
  const view = new Letters(root, page, state);
  await view.load();
  const soon = page.seldom(() => view.load(), 1_000);
  return {
    onEvent: (record) => /^(deadletter|task\.dead)/.test(record.type) && soon(),
    onMissed: soon,
    onRound: () => {},
    stop: () => {
      soon.stop();
      view.stopped = true;
    },
  };
}

class Letters {
  constructor(root, page, state) {
    Object.assign(this, { root, page, state, stopped: false, words: new Map() }); // words: key -> the letter, tails and all
  }

  async load() {
    try {
      const { deadletters } = await this.page.get("deadletters", { state: this.state, limit: SHOWN });
      this.letters = deadletters;
      if (!this.stopped) this.draw();
    } catch (error) {
      if (this.stopped || this.letters) return;
      replace(this.root, h("h1", {}, "Dead letters"),
        error.code === "tasks_disabled"
          ? notice("info", "This crewd only watches.", "It runs no tasks itself, and so keeps no dead letters of its own (tasks.enabled).")
          : trouble(error));
    }
  }

  draw() {
    const groups = grouped(this.letters);
    replace(
      this.root,
      h("h1", {}, "Dead letters"),
      h("p", { class: "faint" }, "Tasks that were given up after their last attempt. They wait for a person, and are never tried again by time alone."),
      h("nav", { class: "tabs", "aria-label": "Which dead letters" },
        TABS.map(([state, word]) => h("a", { href: `#/deadletters?state=${state}`, "aria-current": state === this.state ? "page" : null }, word))),
      groups.length
        ? groups.map((group, index) => this.group(group, index))
        : h("p", { class: "card empty" }, this.state === "open" ? "Nobody was given up. Here is nothing to do." : `None is ${this.state}.`),
      this.letters.length >= SHOWN ? h("p", { class: "faint" }, `Only the oldest ${SHOWN} are shown.`) : null,
    );
  }

  group(group, index) {
    const { letters, fingerprint } = group;
    const first = letters[0];
    const own = letters.filter((each) => each.runtime === "managed");
    const title = [badge("failed", plain(first.error_class || first.reason || "unknown")), " ", h("span", {}, count(letters.length, "task")),
      " ", h("span", { class: "faint" }, crewsOf(letters), ", the oldest ", ago(letters.map((each) => each.at).filter(Boolean).sort()[0]) || "of unknown age")];
    return h("section", { class: "cause", "aria-labelledby": `cause-${index}`, "data-key": fingerprint || first.key },
      h("h2", { id: `cause-${index}` }, title),
      h("div", { class: "card" },
        h("p", { class: "mono error" }, first.error || first.words || "no word was left"),
        this.state === "open" && letters.length > 1
          ? h("div", { class: "buttons" },
              own.length ? h("button", { type: "button", class: "primary", onclick: () => this.redrive(own, fingerprint) }, `Redrive all ${own.length}…`) : null,
              h("button", { type: "button", class: "danger", onclick: () => this.discard(letters, fingerprint) }, `Discard all ${letters.length}…`))
          : null,
        h("ul", { class: "letters" }, letters.map((each) => this.letter(each)))));
  }

  letter(each) {
    const managed = each.runtime === "managed";
    const name = each.task_id ? `${each.run_id}/${each.task_id}` : each.run_id;
    return h("li", { "data-key": each.key },
      h("div", { class: "head" },
        h("h3", {}, link(runHash(each.run_id, each.task_id), name)),
        h("span", { class: "tag" }, plain(each.reason)),
        h("span", { class: "faint" }, count(each.attempts, "attempt"), ", given up ", ago(each.at)),
        this.state === "open"
          ? h("div", { class: "buttons" },
              managed
                ? h("button", { type: "button", "aria-label": `Redrive ${name}`, onclick: () => this.redrive([each], "") }, "Redrive…")
                : h("span", { class: "faint" }, `redrive it in ${each.runtime}`),
              h("button", { type: "button", class: "danger", "aria-label": `Discard ${name}`, onclick: () => this.discard([each], "") }, "Discard…"))
          : null),
      facts([
        ["Settled", each.settled_at && [clock(each.settled_at, true), ` by ${each.settled_by}`]],
        ["Note", each.note],
        ["Given up because", each.words !== each.error && each.words !== each.reason && each.words],
      ]),
      h("details", {},
        h("summary", {}, "Every attempt"),
        this.attempts(each)));
  }

  attempts(each) {
    const told = this.words.get(each.key);
    const history = (told || each).history || [];
    if (!history.length) return h("p", { class: "faint" }, "Its attempts were not told.");
    return [
      h("ol", { class: "attempts" }, history.map((attempt) =>
        h("li", {},
          h("div", { class: "lines" },
            h("p", {}, h("strong", {}, `Attempt ${attempt.attempt}`), " ",
              attempt.interrupted ? badge("interrupted") : attempt.error_class ? badge("failed", plain(attempt.error_class)) : badge("completed"), " ",
              h("span", { class: "faint" }, [exitWords(attempt.exit), lasted(attempt), output(attempt)].filter(Boolean).join(", "))),
            attempt.error && h("p", { class: "error" }, attempt.error)),
          "tail" in attempt && (attempt.tail
            ? h("pre", { class: "words", tabindex: "0", role: "region", "aria-label": `Last words of attempt ${attempt.attempt}` }, attempt.tail)
            : h("p", { class: "faint" }, "It said nothing at the end."))))),
      told ? null : h("button", { class: "after", type: "button", "aria-label": `Show the last words of ${each.run_id}/${each.task_id}`, onclick: () => this.hear(each) }, "Show last words"),
    ];
  }

  /** What workers wrote is told only with the token. */
  async hear(each) {
    try {
      const answer = await this.page.trusted("deadletter", { key: each.key });
      if (answer === null) return;
      this.words.set(each.key, await answer.json());
      this.draw();
    } catch (error) {
      this.page.announce(error.message);
      replace(this.root, trouble(error));
    }
  }

  /** Ask crewd what it would do, show it, and only then have it done. */
  async redrive(letters, fingerprint) {
    await this.settle("redrive", letters, fingerprint, {
      title: letters.length === 1 ? "Redrive one task" : `Redrive ${letters.length} tasks`,
      words: (dry) => [h("p", {}, `${dry.what}: each gets a new budget of attempts, one a second at most.`), listed(dry.ids)],
      button: "Redrive",
    });
  }

  async discard(letters, fingerprint) {
    await this.settle("discard", letters, fingerprint, {
      title: letters.length === 1 ? "Discard one dead letter" : `Discard ${letters.length} dead letters`,
      words: (dry) => [h("p", {}, `${dry.what}: the tasks stay failed, and nobody is reminded of them any more.`), listed(dry.ids)],
      fields: [{ name: "reason", label: "Why", required: true, hint: "It is kept with them." }],
      button: "Discard",
      danger: true,
    });
  }

  async settle(how, letters, fingerprint, { title, words, fields = [], button, danger = false }) {
    // By cause where all of a cause are meant: what came in meanwhile is then meant as well, and the dry run shows it.
    const own = letters.every((each) => each.runtime === "managed");
    const which = fingerprint && own && letters.length > 1 ? { fingerprint } : { keys: letters.map((each) => each.key) };
    const bare = how === "discard" ? { ...which, reason: "dry run" } : which;
    const dry = await this.dry(`deadletters/${how}`, bare);
    if (!dry) return;
    const said = await this.page.ask({ title, text: words(dry), fields, button, danger });
    if (said === null) return;
    const done = await this.page.act(() => this.page.post(`deadletters/${how}`, { ...which, ...said }));
    if (done) await this.load();
  }

  /** What would be done: only a refusal is told, for what it answers is shown in the question that follows. */
  async dry(path, which) {
    try {
      return await this.page.post(path, { ...which, dry_run: true });
    } catch (error) {
      return this.page.act(() => Promise.reject(error));
    }
  }
}

function grouped(letters) {
  const groups = new Map();
  for (const each of letters) {
    const name = each.fingerprint || each.key;
    if (!groups.has(name)) groups.set(name, { fingerprint: each.fingerprint, letters: [] });
    groups.get(name).letters.push(each);
  }
  return [...groups.values()].sort((one, two) => two.letters.length - one.letters.length);
}

function crewsOf(letters) {
  const crews = [...new Set(letters.map((each) => each.crew || each.runtime))];
  return crews.length > 3 ? `${crews.length} crews` : crews.join(", ");
}

function listed(keys) {
  return h("ul", { class: "short-list", tabindex: "0", "aria-label": "Which" }, keys.map((key) => h("li", { class: "mono" }, key)));
}

function exitWords(exit) {
  if (exit?.signal) return `ended by signal ${exit.signal}`;
  return exit?.code === null || exit?.code === undefined ? "" : `exit ${exit.code}`;
}

function lasted(attempt) {
  const [from, to] = [attempt.started_at, attempt.ended_at].map((at) => (typeof at === "number" ? at : moment(at)));
  return from && to ? `ran ${span(Math.max(0, to - from))}` : "";
}

function output(attempt) {
  return attempt.output_bytes ? `wrote ${attempt.output_bytes.toLocaleString("en-US")} bytes` : "";
}

// What will run: the plan of a managed run. Its drawing, and of each task the exact command, surroundings and gates.

import { count, dollars, h, path, replace, span, svg, thousands } from "./dom.js";
import { facts, link, notice, plain, runHash, section, trouble } from "./parts.js";
import { command } from "./views-recoveries.js";

const OPEN_MAX = 6; // tasks that are shown whole at once
const DRAWN_MAX = 300; // tasks
const BOX = { width: 170, height: 34, between: 46, above: 14 };

/** Show the plan of `params.run`, or what comes of `params.task` alone. `params.within`: as a part of another view. */
export async function show(root, params, page) {
  const view = new Preview(root, params, page);
  if (!params.within) page.title(`${params.task || params.run}: preview`);
  await view.load();
  return { stop: () => (view.stopped = true) };
}

class Preview {
  constructor(root, { run, task = null, within = false }, page) {
    Object.assign(this, { root, run, task, within, page, stopped: false });
  }

  head() {
    if (this.within) return [];
    const here = this.task || this.run;
    return [
      h("nav", { "aria-label": "Where this is" }, h("ol", { class: "crumbs" },
        h("li", {}, link("#/", "Overview")), h("li", {}, link(runHash(this.run), this.run)), this.task && h("li", {}, link(runHash(this.run, this.task), this.task)))),
      h("h1", {}, `What runs in ${here}`),
    ];
  }

  async load() {
    try {
      this.draw(await this.page.get(`${path("runs", this.run)}/plan`));
    } catch (error) {
      if (this.stopped) return;
      replace(this.root, ...this.head(), error.status === 404
        ? notice("info", "crewd does not run this.", "What another program is about to do only that program knows; what it has done stands beside.")
        : trouble(error));
    }
  }

  async unmask() {
    try {
      const answer = await this.page.trusted(`${path("runs", this.run)}/plan`);
      if (answer !== null) this.draw(await answer.json());
    } catch (error) {
      await this.page.act(() => Promise.reject(error));
    }
  }

  draw(plan) {
    if (this.stopped) return;
    const tasks = plan.tasks.filter((each) => !this.task || each.task_id === this.task);
    replace(
      this.root,
      ...this.head(),
      this.task ? null : section("plan", "The run", h("div", { class: "card" }, whole(plan))),
      this.task ? null : section("order", "Order", plan.tasks.length > DRAWN_MAX
        ? h("p", { class: "faint" }, `${plan.tasks.length} tasks are too many to draw; each says below what it waits for.`)
        : drawing(plan)),
      section("begun", [this.task ? "The task " : "Tasks ", h("span", { class: "faint" }, "as begun for the first time")],
        plan.values ? null : h("p", {}, h("button", { type: "button", onclick: () => this.unmask() }, "Show values of the environment"),
          h("span", { class: "faint" }, " With the token; what is recognised as a secret stays masked.")),
        h("ul", { class: "rows" }, tasks.map((each) => task(plan, each, tasks.length <= OPEN_MAX)))),
    );
  }
}

function whole(plan) {
  return facts([
    ["Name", plan.name], ["Crew", plan.crew], ["From", plan.source],
    ["Labels", Object.entries(plan.labels).map(([name, value]) => `${name}=${value}`).join(", ")],
    ["Tasks", thousands(plan.tasks.length)],
    ["At one time", plan.max_parallel && `at most ${plan.max_parallel} of its tasks`],
    ["Budget", budget(plan.budget)],
  ]);
}

function task(plan, each, open) {
  return h("li", { class: "card", "data-key": each.task_id },
    h("details", { class: "preview-task", open },
      h("summary", {}, h("h3", {}, each.task_id), h("span", { class: "faint" },
        [each.profile === "plain" ? each.executor : `${each.profile} (${each.executor})`, each.model, each.depends_on.length ? `after ${some(each.depends_on)}` : ""].filter(Boolean).join(" · "))),
      facts([
        ["Command", command(each.command)],
        ["Prompt", each.prompt !== null && [h("q", {}, each.prompt), h("span", { class: "faint" }, ` ${count(each.prompt_characters, "character")}, ${each.stdin === "prompt" ? "on stdin" : "as an argument"}`)]],
        ["Stdin", each.stdin === "text" && count(each.stdin_characters, "character")],
        ["Folder", h("code", {}, each.cwd)],
        ["Speaks", each.mode === "protocol" ? `crewd-worker/1${each.kind === "preview" ? ", renders and does nothing" : ""}` : ""],
        ["Environment", environment(each, plan.values)],
        ["Waits for", each.depends_on.length > 0 && [each.depends_on.map((name, index) => [index ? ", " : "", link(runHash(plan.run_id, name), name)]),
          each.on_dependency_failure === "block" ? "; waits if one fails" : "; is skipped if one fails"]],
        ["Done when", success(each.success)],
        ["Tried", retries(each.retry)],
        ["Resumes", each.resume ? `up to ${each.resume.attempts_max} attempts in a row go on with one session${each.resume.tree === "same" ? ", where the working tree is as it was left" : ""}` : each.profile !== "plain" && "no: each attempt begins afresh"],
        ["Only once", !each.idempotent && "only what provably goes on is tried again"],
        ["Time", each.timeout ? `at most ${span(each.timeout)} an attempt` : "no limit for an attempt"],
        ["Is ended by", [...each.stop.map((step) => `${step.signal}, ${span(step.wait)}`), "KILL to all that is left"].join("; ")],
        ["Budget", budget(each.budget)],
        ["Limits", limits(each.limits)],
        ["One of", each.concurrency && `at most ${each.concurrency.at_once} at a time of “${each.concurrency.name}”`],
        ["Priority", each.priority || ""],
        ["Circuit", each.circuit],
        ["Type", each.task_type],
        ["Variants", Object.entries(each.variants).map(([name, value]) => `${name}=${value}`).join(", ")],
      ])));
}

function environment(each, values) {
  const names = Object.keys(each.env);
  if (!names.length && !each.env_from_credentials.length && !each.env_pass.length) return "";
  return h("ul", { class: "env" },
    names.map((name) => h("li", {}, h("code", {}, values ? `${name}=${each.env[name]}` : name), each.env_by_profile.includes(name) ? h("span", { class: "faint" }, " of the profile") : "")),
    each.env_from_credentials.map(({ name, file }) => h("li", {}, h("code", {}, name), h("span", { class: "faint" }, ` from the credential ${file}`))),
    each.env_pass.length ? h("li", { class: "faint" }, `passed on: ${each.env_pass.join(", ")}`) : null);
}

function success(told) {
  const codes = told.exit_codes.join(" or ");
  return [
    `it exits with ${codes}`,
    ...told.files.map((file) => `${file.path} is there${file.bytes_min > 1 ? ` with ${thousands(file.bytes_min)} bytes` : ""}`),
    told.output_bytes_min ? `it wrote at least ${thousands(told.output_bytes_min)} bytes` : "",
    told.command.length ? `a check passes: ${told.command.join(" ")}` : "",
  ].filter(Boolean).join("; ");
}

function retries(told) {
  if (told.max_attempts <= 1) return "once, and never again";
  const classes = Object.keys(told.classes || {});
  return `up to ${told.max_attempts} times, ${span(told.base)} after the first failure, then × ${told.factor}, at most ${span(told.cap)}` +
    (told.elapsed_max ? `, within ${span(told.elapsed_max)}` : "") + (classes.length ? `; rules of their own for ${classes.map(plain).join(", ")}` : "");
}

function budget(told) {
  if (!told) return "";
  const words = [told.tokens !== null && `${thousands(told.tokens)} tokens`, told.cost_usd !== null && dollars(told.cost_usd)].filter(Boolean);
  return `${words.join(" and ")}, then ${told.on_exceeded}`;
}

function limits(told) {
  return [
    told.cpu_seconds !== null && `${span(told.cpu_seconds)} of processor`,
    told.memory_bytes !== null && `${thousands(Math.round(told.memory_bytes / 2 ** 20))} MiB of memory`,
    told.files !== null && `${thousands(told.files)} open files`,
    told.processes !== null && `${thousands(told.processes)} processes`,
  ].filter(Boolean).join(", ");
}

function some(names) {
  return names.length > 4 ? `${names.slice(0, 4).join(", ")} and ${names.length - 4} more` : names.join(", ");
}

// -- the drawing: a column for each step that can be taken at once ---------------------------------------------------

function drawing(plan) {
  const depth = depths(plan.tasks);
  const rows = new Map();
  const places = new Map(plan.tasks.map((each) => {
    const column = depth.get(each.task_id);
    const row = rows.get(column) || 0;
    rows.set(column, row + 1);
    return [each.task_id, { x: column * (BOX.width + BOX.between) + 8, y: row * (BOX.height + BOX.above) + 8 }];
  }));
  const columns = Math.max(...depth.values(), 0) + 1;
  const wide = columns * (BOX.width + BOX.between) - BOX.between + 16;
  const high = Math.max(...rows.values(), 1) * (BOX.height + BOX.above) + 8;
  return h("div", { class: "drawing plan-drawing", tabindex: "0", role: "region", "aria-label": "Order of the tasks" },
    svg("svg", { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "group", "aria-label": `${count(plan.tasks.length, "task")} in ${count(columns, "step")}` },
      plan.tasks.flatMap((each) => each.depends_on.filter((name) => places.has(name)).map((name) => edge(places.get(name), places.get(each.task_id)))),
      plan.tasks.map((each) => box(plan, each, places.get(each.task_id)))));
}

function box(plan, each, { x, y }) {
  const after = each.depends_on.length ? `, after ${some(each.depends_on)}` : ", at once";
  return svg("a", { href: runHash(plan.run_id, each.task_id), "aria-label": `${each.task_id}${after}` },
    svg("rect", { class: "box", x, y, width: BOX.width, height: BOX.height, rx: 6 }),
    svg("text", { x: x + 10, y: y + 21 }, each.task_id.length > 22 ? `${each.task_id.slice(0, 21)}…` : each.task_id));
}

function edge(from, to) {
  const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
  const middle = (x1 + x2) / 2;
  return svg("g", { "aria-hidden": "true" },
    svg("path", { class: "edge", d: `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2 - 6} ${y2}` }),
    svg("path", { class: "edge-head", d: `M${x2 - 7} ${y2 - 4} L${x2} ${y2} L${x2 - 7} ${y2 + 4} Z` }));
}

/** How many steps come before each task. A plan has no cycle; one is cut all the same. */
function depths(tasks) {
  const known = new Map(tasks.map((each) => [each.task_id, each]));
  const found = new Map();
  for (const first of tasks) {
    const stack = [first.task_id];
    const open = new Set();
    while (stack.length) {
      const name = stack.at(-1);
      const missing = known.get(name).depends_on.filter((each) => known.has(each) && !found.has(each) && !open.has(each));
      if (missing.length && !open.has(name)) {
        open.add(name);
        stack.push(...missing);
        continue;
      }
      stack.pop();
      if (!found.has(name)) found.set(name, Math.max(-1, ...known.get(name).depends_on.map((each) => found.get(each) ?? -1)) + 1);
    }
  }
  return found;
}

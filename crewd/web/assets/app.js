// The frame: which view stands where, what the stream brings it, what the keyboard does, and what is said aloud.

import { get, post, trusted } from "./api.js";
import { ask } from "./dialogs.js";
import { clean, h, replace, wholeSpan } from "./dom.js";
import { Live } from "./live.js";
import { trouble } from "./parts.js";

// [key after g, title, hash, module]
const VIEWS = [
  ["o", "Overview", "#/", "overview"],
  ["i", "Incidents", "#/incidents", "incidents"],
  ["d", "Dead letters", "#/deadletters", "deadletters"],
  ["r", "Recoveries", "#/recoveries", "recoveries"],
  ["h", "History", "#/history", "history"],
  ["m", "Metrics", "#/metrics", "metrics"],
];
const TITLES = { run: "Run", task: "Task", preview: "Preview" };
const KEYS = [
  ["g then o, i, d, r, h, m", "go to overview, incidents, dead letters, recoveries, history, metrics"],
  ["g then u", "go up: from a task to its run, from a run to the overview"],
  ["j, k", "next and previous row of a list"],
  ["/", "go to the filter, where a view has one"],
  ["Tab, Enter", "from one thing to the next; open it"],
  ["?", "this list"],
];
const REDRAW_MS = 400; // many events in one round are drawn once

const live = new Live();
const content = document.getElementById("content");
const banner = document.getElementById("banner");
const announcer = document.getElementById("announcer");

/** What a view is given besides its root and its parameters. */
const page = {
  get,
  post,
  trusted,
  ask,
  live,
  go: (hash) => {
    location.hash = hash;
  },
  announce,
  title: setTitle,
  act,
};

let current = null; // {name, handle, shown}: what `show` returned, and which showing it is
let showing = 0;
let overdue = false; // whether a round was, a second ago
let prefix = 0; // when g was pressed

/** Say something to whoever listens instead of looking. */
function announce(text) {
  announcer.textContent = "";
  setTimeout(() => {
    announcer.textContent = text;
  }, 50);
}

/** Name what is shown: in the title of the tab. */
function setTitle(text) {
  document.title = text ? `${clean(text)} · crewd` : "crewd";
}

/**
 * Change something, and tell how it went: `act(() => post(...), "cancelled")`. Answers what crewd said; null where it
 * was thought better of or refused, which is then told.
 */
async function act(change) {
  try {
    const done = await change();
    if (done === null) return null;
    toast("good", done.what || "done");
    return done;
  } catch (error) {
    toast("bad", error.message, error.advice || []);
    return null;
  }
}

function toast(tone, text, advice = []) {
  announce([text, ...advice].join(". "));
  const note = h("div", { class: `toast tone-${tone}` },
    h("p", {}, text), advice.map((each) => h("p", { class: "faint" }, each)),
    h("button", { type: "button", "aria-label": "Dismiss", onclick: () => note.remove() }, "✕"));
  for (const old of document.querySelectorAll(".toast")) old.remove();
  document.body.append(note);
  if (tone === "good") setTimeout(() => note.remove(), 8_000);
}

// -- which view -----------------------------------------------------------------------------------------------------

/** Read an address: {name, params}. */
function route(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  const query = new URLSearchParams(search);
  const [first, run, task] = parts;
  if (!first) return { name: "overview", params: { query } };
  if (first === "run" && run) return { name: task ? "task" : "run", params: { run, task, query } };
  if (first === "preview" && run) return { name: "preview", params: { run, task, query } };
  const known = VIEWS.find(([, , each]) => each === `#/${first}`);
  return known ? { name: known[3], params: { run, task, query } } : { name: "", params: { query, path } };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function navigate() {
  if (!location.hash.startsWith("#/") && location.hash !== "") return; // a link within the page, such as the skip link
  const { name, params } = route(location.hash);
  const mine = ++showing;
  const moved = current !== null;
  const within = current?.name === name && current.key === keyOf(params);
  current?.handle?.stop?.();
  current = { name, key: keyOf(params), handle: null };
  markViews(name);
  const root = h("div", { class: `view view-${name || "none"}`, "data-key": `${name}/${keyOf(params)}` });
  try {
    if (!name) throw new Error(`There is no view at ${params.path}.`);
    setTitle(TITLES[name] || VIEWS.find((each) => each[3] === name)[1]);
    const view = await load(name);
    if (mine !== showing) return;
    content.setAttribute("aria-busy", "true");
    const handle = await view.show(root, params, page);
    if (mine !== showing) {
      handle?.stop?.();
      return;
    }
    current.handle = handle || null;
  } catch (error) {
    if (mine !== showing) return;
    if (!root.querySelector("h1")) root.append(h("h1", {}, name ? TITLES[name] || "Not shown" : "Not here"));
    root.append(trouble(error), h("p", {}, h("a", { href: "#/" }, "Back to the overview")));
  }
  content.removeAttribute("aria-busy");
  content.replaceChildren(root);
  if (moved && !within) {
    // Whoever uses a keyboard or listens begins at the heading of what has come.
    const heading = content.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    (heading || content).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function keyOf(params) {
  return [params.run, params.task].filter(Boolean).map(encodeURIComponent).join("/");
}

async function load(name) {
  try {
    return await import(`./views-${name}.js`);
  } catch (error) {
    console.error(error);
    throw new Error(`The view “${name}” could not be loaded.`);
  }
}

function markViews(name) {
  replace(
    document.getElementById("views"),
    VIEWS.map(([key, title, hash, each]) =>
      h("a", { href: hash, "aria-current": each === name ? "page" : null, title: `g ${key}` }, title),
    ),
  );
}

// -- what happens ---------------------------------------------------------------------------------------------------

function happened(message) {
  const handle = current?.handle;
  switch (message.kind) {
    case "event":
      handle?.onEvent?.(message.record);
      break;
    case "round":
      handle?.onRound?.(message.round);
      break;
    case "missed":
      (handle?.onMissed || handle?.onRound)?.call(handle, {});
      break;
    case "state":
      drawConnection();
      if (message.state.name === "gone") announce("crewd does not answer. What is shown may be old.");
      if (["live", "polling"].includes(message.state.name)) announce("connected to crewd");
      break;
  }
}

function drawConnection() {
  const { name, since } = live.state;
  const words = {
    connecting: ["calm", "connecting"],
    live: live.overdue() ? ["warn", `no round for ${wholeSpan(live.overdue())}`] : ["good", "live"],
    polling: ["info", `live, every 3s`],
    reconnecting: ["warn", "reconnecting"],
    gone: ["bad", "not connected"],
  }[name];
  replace(
    document.getElementById("connection"),
    h("span", { class: `badge tone-${words[0]}` }, h("span", { class: "sign", "aria-hidden": "true" }, name === "gone" ? "✖" : "●"), h("span", {}, words[1])),
  );
  document.body.classList.toggle("gone", name === "gone");
  if (name !== "gone") {
    banner.replaceChildren();
    return;
  }
  const at = new Date(since).toLocaleTimeString("en-GB");
  if (!banner.firstChild) {
    banner.replaceChildren(
      h("div", { class: "notice tone-bad" },
        h("strong", {}, "crewd does not answer"), ` since ${at}`,
        h("span", { class: "gone-for", "aria-hidden": "true" }), ". What is shown here is as old as that; crewd is asked again every 2 seconds. ",
        h("code", {}, "crewd doctor"), " says what is wrong, ", h("code", {}, "crewd status"), " reads its ledger. ",
        h("button", { type: "button", onclick: () => live.again() }, "Try now")),
    );
  }
}

setInterval(() => {
  // What counts up between two rounds; it stands still while crewd is gone, for nobody knows any more.
  if (live.state.name !== "gone" && !document.hidden) {
    for (const each of content.querySelectorAll("[data-counts]")) {
      const words = wholeSpan(Date.now() / 1000 - Number(each.dataset.counts));
      if (each.textContent !== words) each.textContent = words;
    }
    for (const each of content.querySelectorAll("[data-until]")) {
      each.textContent = wholeSpan(Math.max(0, Number(each.dataset.until) - Date.now() / 1000));
    }
  }
  if (live.state.name === "live" && (live.overdue() || overdue)) drawConnection();
  overdue = live.overdue() > 0;
  const gone = banner.querySelector(".gone-for");
  if (gone) gone.textContent = ` (${wholeSpan((Date.now() - live.state.since) / 1000)})`;
}, 1_000);

/** Let something be done at most every so often, and once more for what came in between. For views. */
export function seldom(action, wait = REDRAW_MS) {
  let timer = 0;
  let last = 0;
  const run = () => {
    timer = 0;
    last = Date.now();
    action();
  };
  const soon = () => {
    if (!timer) timer = setTimeout(run, Math.max(0, wait - (Date.now() - last)));
  };
  soon.stop = () => clearTimeout(timer);
  return soon;
}
page.seldom = seldom;

// -- keyboard -------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (Date.now() - prefix < 1_500) {
    prefix = 0;
    if (goTo(event.key)) event.preventDefault();
    return;
  }
  switch (event.key) {
    case "g":
      prefix = Date.now();
      break;
    case "j":
    case "k":
      if (step(event.key === "j" ? 1 : -1)) event.preventDefault();
      break;
    case "/": {
      const filter = content.querySelector("input[type=search], .filters input, .filters select");
      if (filter) {
        event.preventDefault();
        filter.focus();
      }
      break;
    }
    case "?":
      help();
      break;
  }
});

function goTo(key) {
  const { name, params } = route(location.hash);
  if (key === "u") {
    page.go(name === "task" ? `#/run/${encodeURIComponent(params.run)}` : "#/");
    return true;
  }
  const view = VIEWS.find(([each]) => each === key);
  if (view) page.go(view[2]);
  return Boolean(view);
}

/** Go to the first link of the next row. */
function step(direction) {
  const links = [...content.querySelectorAll("tbody tr, .rows > *")].map((row) => row.querySelector("a[href]")).filter(Boolean);
  if (!links.length) return false;
  const row = document.activeElement?.closest("tr, .rows > *");
  const at = links.findIndex((each) => row?.contains(each));
  const next = links[at < 0 ? (direction > 0 ? 0 : links.length - 1) : at + direction];
  next?.focus();
  return Boolean(next);
}

function help() {
  const dialog = h("dialog", { "aria-labelledby": "help-title", class: "help" },
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", { class: "facts" }, KEYS.map(([key, does]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)))),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")));
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
}

document.getElementById("foot").append(
  ...[["/plain", "plain page"], ["/runbooks", "runbooks"], ["/metrics", "metrics"], ["/readyz", "readiness"], ["/openapi.json", "API"]].map(
    ([address, word]) => h("a", { href: address }, word)),
  h("button", { type: "button", class: "quiet", onclick: help }, "keys ", h("kbd", {}, "?")),
);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  (content.querySelector("h1") || content).setAttribute("tabindex", "-1");
  (content.querySelector("h1") || content).focus();
});
addEventListener("hashchange", navigate);
live.subscribe(happened);
drawConnection();
navigate();
live.start();

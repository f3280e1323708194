// What every view is made of: elements whose texts are text nodes, and words for times and lengths.
// No text from outside is ever read as markup: there is no way in here to make an element from a string.

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = Symbol("handlers");
// What moves the cursor, hides, or turns the order of what stands beside it; line ends and tabs are left alone.
const CONTROLS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu;

/** Make an element. Props: attributes; `class`, `dataset`, and `onclick` and the like as functions. */
export function h(tag, props, ...children) {
  return filled(document.createElement(tag), props, children);
}

/** Make an element of a drawing. */
export function svg(tag, props, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

/**
 * Let an element have these children. What is there already and alike is kept and only brought up to date, so
 * that focus, selection, scrolling and open details survive. Children with a `data-key` are told apart by it.
 */
export function replace(root, ...children) {
  settle(root, nodes(children));
  return root;
}

/** Make a text that others wrote harmless to read: nothing in it is hidden, and nothing turns the line around. */
export function clean(text) {
  return String(text).replace(CONTROLS, "\ufffd");
}

/** Say whether somebody prefers that nothing moves. */
export function still() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") listen(element, name.replace(/^on/, ""), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value") element.value = String(value);
    else element.setAttribute(name, value === true ? "" : clean(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : document.createTextNode(clean(child))));
}

function listen(element, type, handler) {
  element[HANDLERS] ||= {};
  if (!(type in element[HANDLERS])) element.addEventListener(type, handled);
  element[HANDLERS][type] = handler;
}

function handled(event) {
  return event.currentTarget[HANDLERS]?.[event.type]?.call(event.currentTarget, event);
}

function settle(root, wanted) {
  const keys = new Set(wanted.map(keyOf));
  const keyed = new Map();
  for (const child of [...root.childNodes]) {
    const key = keyOf(child);
    if (key && !keys.has(key)) child.remove(); // first: nothing that stays has then to be moved past it
    else if (key) keyed.set(key, child);
  }
  const used = new Set();
  let cursor = root.firstChild;
  for (const next of wanted) {
    while (cursor && used.has(cursor)) cursor = cursor.nextSibling;
    const key = keyOf(next);
    const same = key ? keyed.get(key) : cursor && !keyOf(cursor) ? cursor : null;
    if (same && !used.has(same) && alike(same, next)) {
      if (same !== next) bring(same, next);
      used.add(same);
      if (same === cursor) cursor = cursor.nextSibling;
      else root.insertBefore(same, cursor);
    } else {
      root.insertBefore(next, cursor);
      used.add(next);
    }
  }
  for (const child of [...root.childNodes]) if (!used.has(child)) child.remove();
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function alike(one, other) {
  // An element that says `data-own` looks after itself: it is kept as it is, or put in whole.
  if (one === other) return true;
  if (one.nodeType !== other.nodeType || one.nodeName !== other.nodeName) return false;
  if (one.nodeType !== Node.ELEMENT_NODE) return true;
  return !one.hasAttribute("data-own") && !other.hasAttribute("data-own") && one.type === other.type;
}

function bring(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  // What a person opened stays open, and a heading that has the focus keeps it.
  const person = { DETAILS: "open", DIALOG: "open", H1: "tabindex" }[old.nodeName];
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== person) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value && name !== person) old.setAttribute(name, value);
  }
  for (const type of Object.keys(old[HANDLERS] || {})) delete old[HANDLERS][type], old.removeEventListener(type, handled);
  for (const [type, handler] of Object.entries(next[HANDLERS] || {})) listen(old, type, handler);
  if (["INPUT", "SELECT", "TEXTAREA"].includes(old.nodeName)) return; // what a person put in stays
  settle(old, [...next.childNodes]);
}

// -- words ------------------------------------------------------------------------------------------------------

/** Write a length of time in at most two units: "850ms", "12s", "1m30s", "2h05m", "3d4h". */
export function span(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "unknown";
  const sign = seconds < 0 ? "-" : "";
  const all = Math.abs(seconds);
  if (all > 0 && all < 1) return `${sign}${Math.max(1, Math.round(all * 1000))}ms`;
  if (all < 10 && all % 1 >= 0.05) return `${sign}${all.toFixed(1)}s`;
  const whole = Math.floor(all);
  if (whole < 60) return `${sign}${whole}s`;
  if (whole < 3600) return `${sign}${Math.floor(whole / 60)}m${pad(whole % 60)}s`;
  if (whole < 86400) return `${sign}${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
  return `${sign}${Math.floor(whole / 86400)}d${Math.floor((whole % 86400) / 3600)}h`;
}

/** The same in whole seconds, for what counts up before one's eyes. */
export function wholeSpan(seconds) {
  return seconds === null || seconds === undefined ? "unknown" : span(Math.max(0, Math.floor(seconds)));
}

/** Read RFC 3339: seconds since 1970, or null. */
export function moment(text) {
  const at = text ? Date.parse(text) : NaN;
  return Number.isNaN(at) ? null : at / 1000;
}

/** The wall clock in seconds. */
export function now() {
  return Date.now() / 1000;
}

/** Write how long ago a moment is: "12s ago", "in 5s"; "" where it is unknown. */
export function ago(text, at = now()) {
  const then = moment(text);
  if (then === null) return "";
  return then > at + 1 ? `in ${wholeSpan(then - at)}` : `${wholeSpan(at - then)} ago`;
}

/** A time as an element: the clock of this place in the text, the whole of it in the title. */
export function clock(text, withDate = false) {
  const at = moment(text);
  if (at === null) return h("span", { class: "faint" }, "-");
  const date = new Date(at * 1000);
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const old = withDate || now() - at > 18 * 3600;
  return h("time", { datetime: text, title: text, class: "number" }, old ? `${day} ${time}` : time);
}

/** "1 run", "2 runs". */
export function count(number, word, words = `${word}s`) {
  return `${thousands(number)} ${number === 1 ? word : words}`;
}

/** 1234567 as "1,234,567". */
export function thousands(number) {
  return number === null || number === undefined ? "-" : Number(number).toLocaleString("en-US");
}

/** Cost in US dollars; "" where nobody tells it. */
export function dollars(usd) {
  return usd === null || usd === undefined ? "" : `$${usd < 1 ? usd.toFixed(4) : usd.toFixed(2)}`;
}

/** What was used as budgets count it, without what came from a cache. */
export function used(usage) {
  if (!usage) return "";
  const tokens = (usage.input || 0) + (usage.output || 0) + (usage.cache_write || 0);
  if (!tokens && !usage.cost_usd) return "";
  return [count(tokens, "token"), dollars(usage.cost_usd)].filter(Boolean).join(", ");
}

/** A path made of parts that may hold anything. */
export function path(...parts) {
  return parts.map((part) => encodeURIComponent(part)).join("/");
}

function pad(number) {
  return String(number).padStart(2, "0");
}

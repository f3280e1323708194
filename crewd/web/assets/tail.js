// The end of what a worker writes, as it writes it. Told only with the token; at most so many lines are kept.

import { clean, h } from "./dom.js";
import { section, trouble } from "./parts.js";

const PIECE = 64 * 1024; // bytes
const LINES_MAX = 2_000;
const LINE_MAX = 4_000; // characters of one that are shown
const ASK_MS = 1_000;
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?)/g;
const NEAR = 40; // pixels from the end that still count as the end

/** An element that shows the output of attempts of one task, once somebody asks for it. */
export class Tail {
  constructor(run, task, page, stream = "stdout") {
    Object.assign(this, { run, task, page, stream, attempt: 0, offset: 0, timer: 0, stopped: false, asked: 0 });
    this.lines = h("div", { class: "output", role: "log", "aria-live": "off", tabindex: "0", "aria-label": "Output" });
    this.whole = h("span", {});
    this.partial = h("span", { class: "faint" });
    this.lines.append(this.whole, this.partial);
    this.lines.addEventListener("scroll", () => this.scrolled());
    this.state = h("span", { class: "faint", role: "status" });
    this.follow = h("input", { type: "checkbox", checked: true, onchange: () => this.follow.checked && this.toEnd() });
    this.choice = h("select", { "aria-label": "Attempt", onchange: () => this.show(this.stream, Number(this.choice.value)) });
    this.streams = ["stdout", "stderr"].map((name) =>
      h("button", { type: "button", "aria-pressed": String(name === stream), onclick: () => this.show(name, this.attempt) }, name));
    this.begin = h("button", { type: "button", class: "primary", onclick: () => this.show(this.stream, this.attempt) }, "Show the output");
    this.problem = h("div", {});
    this.bar = h("div", { class: "output-bar" }, this.streams, this.choice, h("label", {}, this.follow, "Follow"), this.state);
    // Made once, and never moved by what is drawn around it: moving would forget how far it was scrolled.
    this.element = section("output", "Output", this.begin, this.problem, this.bar, this.lines);
    this.element.setAttribute("data-own", "");
    this.open(false);
  }

  /** Say which attempts there are: [{attempt, ended_at}]. */
  know(attempts) {
    const numbers = attempts.map((each) => each.attempt);
    const chosen = this.choice.value;
    const wanted = ["0", ...numbers.map(String).reverse()];
    if ([...this.choice.options].map((each) => each.value).join() === wanted.join()) return;
    this.choice.replaceChildren(...wanted.map((each) => h("option", { value: each }, each === "0" ? "newest attempt" : `attempt ${each}`)));
    this.choice.value = wanted.includes(chosen) ? chosen : "0";
    // The newest is another one now: begin with it.
    if (this.asked && this.attempt === 0 && numbers.length) this.show(this.stream, 0);
  }

  async show(stream, attempt) {
    const mine = (this.asked += 1);
    clearTimeout(this.timer);
    Object.assign(this, { stream, attempt, offset: 0 });
    for (const button of this.streams) button.setAttribute("aria-pressed", String(button.textContent === stream));
    this.whole.replaceChildren();
    this.partial.replaceChildren();
    this.problem.replaceChildren();
    this.follow.checked = true;
    this.state.textContent = "asking…";
    try {
      const offset = await this.start();
      if (mine !== this.asked || offset === null) return; // another stream or attempt was asked for meanwhile
      this.offset = offset;
      this.cut = offset > 0;
      await this.next(mine);
    } catch (error) {
      if (mine === this.asked) this.fail(error);
    }
  }

  stop() {
    this.stopped = true;
    this.asked += 1;
    clearTimeout(this.timer);
  }

  async next(mine) {
    if (mine !== this.asked || this.stopped) return;
    const piece = await this.read(this.offset, PIECE, false);
    if (mine !== this.asked) return;
    if (piece === null) return this.given();
    this.open(true);
    this.add(piece.text);
    const moved = piece.next > this.offset;
    this.offset = piece.next;
    if (moved) this.partial.textContent = "";
    else if (!piece.ended) await this.unfinished(mine);
    if (piece.ended) this.state.textContent = this.whole.firstChild || this.partial.textContent ? "ended" : "ended without a word";
    else this.state.textContent = "live";
    if (mine === this.asked && !this.stopped && !piece.ended) {
      this.timer = setTimeout(() => this.next(mine).catch((error) => this.fail(error, mine)), moved && piece.full ? 0 : document.hidden ? 5_000 : ASK_MS);
    }
  }

  /** The line that is being written: it comes again, whole, once it is. */
  async unfinished(mine) {
    const piece = await this.read(this.offset, PIECE, true);
    if (piece && mine === this.asked) {
      this.partial.textContent = shown(piece.text);
      if (this.follow.checked) this.toEnd();
    }
  }

  /** Find where the last piece begins. How long it is nobody tells: asked for by doubling, then by halving. */
  async start() {
    const there = async (offset) => {
      const piece = await this.read(offset, 1, true);
      return piece === null ? null : piece.size > 0 && piece.begins >= offset; // beyond the end one is told the beginning
    };
    const first = await there(PIECE);
    if (first === null) {
      this.given();
      return null;
    }
    if (!first) return 0;
    let low = PIECE;
    let high = PIECE * 2;
    while (high < 2 ** 50 && (await there(high))) [low, high] = [high, high * 2];
    while (high - low > PIECE / 2) {
      const middle = Math.floor((low + high) / 2);
      if (await there(middle)) low = middle;
      else high = middle;
    }
    return Math.max(0, low - PIECE);
  }

  async read(offset, limit, unfinished) {
    const response = await this.page.trusted(
      `runs/${encodeURIComponent(this.run)}/tasks/${encodeURIComponent(this.task)}/output`,
      { stream: this.stream, attempt: this.attempt, offset, limit, unfinished: unfinished || null });
    if (response === null) return null;
    const data = await response.arrayBuffer();
    return {
      text: new TextDecoder().decode(data),
      size: data.byteLength,
      full: data.byteLength >= limit / 2,
      begins: Number(response.headers.get("x-crewd-offset") || 0),
      next: Number(response.headers.get("x-crewd-next-offset") || offset),
      ended: response.headers.get("x-crewd-ended") === "true",
    };
  }

  add(text) {
    if (this.cut) {
      const line = text.indexOf("\n");
      if (line < 0) return;
      text = text.slice(line + 1); // what is before has its beginning elsewhere
      this.cut = false;
      this.whole.append(h("span", { class: "faint" }, "(earlier output is left out)\n"));
    }
    if (!text) return;
    for (const line of text.match(/[^\n]*\n|[^\n]+$/g) || []) this.whole.append(shown(line));
    while (this.whole.childNodes.length > LINES_MAX) this.whole.firstChild.remove();
    if (this.follow.checked) this.toEnd();
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (!atEnd && this.follow.checked && !this.own) this.follow.checked = false;
    if (atEnd) this.follow.checked = true;
  }

  toEnd() {
    this.own = true; // not a person's scrolling
    this.lines.scrollTop = this.lines.scrollHeight;
    requestAnimationFrame(() => {
      this.own = false;
    });
  }

  given() {
    this.state.textContent = "";
    this.open(Boolean(this.whole.firstChild));
  }

  fail(error, mine = this.asked) {
    if (mine !== this.asked || this.stopped) return;
    this.state.textContent = "";
    if (error.code === "unreachable") {
      this.timer = setTimeout(() => this.next(mine).catch((again) => this.fail(again, mine)), ASK_MS * 3);
      return;
    }
    this.open(Boolean(this.whole.firstChild));
    this.problem.replaceChildren(trouble(error));
  }

  open(yes) {
    this.lines.hidden = !yes;
    this.bar.hidden = !yes;
    this.begin.hidden = yes;
  }
}

function shown(line) {
  const cut = line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)}… (${line.length - LINE_MAX} more)\n` : line;
  // Colours of a terminal say nothing here.
  return clean(cut.replace(ESCAPES, "").replace(/\r(?!\n)/g, "\n"));
}

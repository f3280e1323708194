// What happens, as it happens. One stream for the whole page; while it cannot be had, crewd is asked every few seconds.

import { get } from "./api.js";

const GONE_AFTER_MS = 8_000; // without an answer; before that one only tries again
const POLL_MS = 3_000;
const RETRY_MS = 2_000;
const STREAM_AGAIN_MS = 30_000; // while polling
const HIDDEN_MS = 60_000; // a tab that nobody looks at gives its stream back: there are few
const SILENT_MS = 20_000; // no round for so long: ask whether crewd is there at all

/**
 * Open it. `subscribe(fn)` answers how to end it; fn gets
 *   {kind: "event", record}, {kind: "round", round}, {kind: "missed"} (something was left out: ask anew),
 *   {kind: "state", state}.
 * `state` is {name: "connecting" | "live" | "polling" | "reconnecting" | "gone", since}: `since` in epoch milliseconds
 * is when crewd was last heard of for the last two.
 */
export class Live {
  constructor() {
    this.state = { name: "connecting", since: Date.now() };
    this.seq = null; // the newest event that was told
    this.heard = Date.now();
    this.rounded = Date.now(); // when a round was told
    this.pace = 0; // the longest time between two of them, milliseconds
    this.listeners = new Set();
    this.source = null;
    this.timer = 0;
    this.hidden = 0;
    document.addEventListener("visibilitychange", () => this.seen());
    setInterval(() => this.watch(), 5_000);
  }

  /** Begin. */
  start() {
    this.open();
    return this;
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Try at once, and do not wait for the next try. */
  again() {
    this.open();
  }

  async open() {
    this.shut();
    try {
      await this.begin();
    } catch {
      this.lost();
      return;
    }
    this.rounds = false;
    this.rounded = Date.now();
    const source = new EventSource(`/api/v1/events?rounds=true&after=${this.seq}`);
    this.source = source;
    this.opened = Date.now();
    let answered = false;
    source.onopen = () => {
      answered = true;
      this.alive("live");
    };
    source.onmessage = (message) => this.event(message.data);
    source.addEventListener("round", (message) => {
      this.alive("live");
      if (this.rounds) this.pace = Math.max(this.pace, Date.now() - this.rounded);
      this.rounds = true;
      this.rounded = Date.now();
      this.tell({ kind: "round", round: read(message.data) || {} });
    });
    source.addEventListener("gap", () => this.tell({ kind: "missed" }));
    source.addEventListener("overflow", (message) => {
      this.seq = Math.max(this.seq, read(message.data)?.last_seq || 0);
      this.tell({ kind: "missed" });
      this.later(() => this.open(), RETRY_MS);
    });
    source.onerror = () => {
      if (source !== this.source) return;
      this.shut();
      // Answered and refused: another stream is not to be had (too many, or an older crewd). Otherwise: gone.
      if (answered) this.lost();
      else this.poll();
    };
  }

  /** Learn where the events are now; what came before is for the views to ask for. */
  async begin() {
    const { next_after } = await get("events", this.seq === null ? { newest: true, limit: 1 } : { after: this.seq, limit: 1 });
    if (this.seq === null) this.seq = next_after;
    this.heard = Date.now();
  }

  async poll() {
    this.shut();
    try {
      const { events } = await get("events", { after: this.seq ?? 0, limit: 1000 });
      this.alive("polling");
      for (const record of events) this.event(JSON.stringify(record));
      this.tell({ kind: "round", round: {} });
    } catch {
      this.lost();
      return;
    }
    const wait = Date.now() - (this.opened || 0) > STREAM_AGAIN_MS ? () => this.open() : () => this.poll();
    this.later(wait, POLL_MS);
  }

  event(text) {
    const record = read(text);
    if (!record) return;
    if (record.seq) this.seq = Math.max(this.seq || 0, record.seq);
    this.heard = Date.now();
    this.tell({ kind: "event", record });
  }

  alive(name) {
    const was = this.state.name;
    this.heard = Date.now();
    if (was === name) return;
    this.turn({ name, since: Date.now() });
    // What a page shows may be old by now, and so it asks anew.
    if (was === "gone" || was === "reconnecting") this.tell({ kind: "missed" });
  }

  lost() {
    this.shut();
    const name = Date.now() - this.heard > GONE_AFTER_MS ? "gone" : "reconnecting";
    if (this.state.name !== name) this.turn({ name, since: this.heard });
    this.later(() => this.open(), RETRY_MS);
  }

  turn(state) {
    this.state = state;
    this.tell({ kind: "state", state });
  }

  seen() {
    if (document.hidden) {
      this.hidden = setTimeout(() => this.shut(), HIDDEN_MS);
      return;
    }
    clearTimeout(this.hidden);
    if (this.source) return;
    this.tell({ kind: "missed" });
    this.open();
  }

  /** Seconds for which crewd has told no round although one was due; 0: all is well. */
  overdue() {
    const silent = Date.now() - this.rounded;
    return this.state.name === "live" && silent > Math.max(SILENT_MS, 3 * this.pace) ? silent / 1000 : 0;
  }

  /** Notice a crewd that hangs: the connection stands, and no round is told any more. */
  async watch() {
    if (document.hidden || !this.source || Date.now() - this.heard < SILENT_MS) return;
    try {
      await get("/healthz");
      this.heard = Date.now();
    } catch {
      this.lost();
    }
  }

  later(action, wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(action, wait);
  }

  shut() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  tell(message) {
    for (const listener of [...this.listeners]) {
      try {
        listener(message);
      } catch (error) {
        console.error("a view failed to take what happened", error);
      }
    }
  }
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

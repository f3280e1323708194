// What depends on what, drawn: a column for each step from the beginning, an arrow to whoever waits for somebody.

import { h, svg } from "./dom.js";
import { plain, runHash, sign, tone } from "./parts.js";

const BOX_WIDTH = [132, 172]; // at least, at most: as the columns fit
const BOX_HEIGHT = 38;
const GAP_X = 34;
const GAP_Y = 12;
const MARGIN = 12;
const LETTER = 6.7; // the width of one, about
const LANE = 14; // of an arrow that passes a column
const SWEEPS = 6;
export const TASKS_MAX = 300; // beyond that a drawing says less than the table
export const EDGES_MAX = 1500;
const BAD = ["dead_lettered", "failed", "blocked", "needs_attention", "skipped", "cancelled"];

/** Draw the tasks of a run: [{task_id, state, depends_on, attempts}], `wide` pixels. null: there is nothing to draw. */
export function dag(run, tasks, wide) {
  const known = new Map(tasks.map((task) => [task.task_id, task]));
  const needs = new Map(tasks.map((task) => [task.task_id, task.depends_on.filter((each) => known.has(each))]));
  const edges = [...needs].flatMap(([to, from]) => from.map((each) => [each, to]));
  if (!edges.length || tasks.length > TASKS_MAX || edges.length > EDGES_MAX) return null;
  const depths = depthOf(tasks, needs);
  const { columns, ways } = routed(tasks, needs, depths);
  const room = Math.floor((wide - 2 * MARGIN - 12 + GAP_X) / columns.length) - GAP_X;
  const size = Math.max(BOX_WIDTH[0], Math.min(BOX_WIDTH[1], room));
  const place = placed(columns, known, size);
  const tallest = Math.max(...[...place.values()].map(([, y, high]) => y + high)) - MARGIN;
  const width = MARGIN * 2 + columns.length * (size + GAP_X) - GAP_X;
  const height = MARGIN * 2 + tallest;
  return h("div", { class: "drawing", tabindex: "0", role: "region", "aria-label": "What depends on what" },
    svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "list", "aria-label": `${tasks.length} tasks and what they need` },
      ways.map((way) => arrow(way.map((each) => place.get(each)), size, holds(known.get(way[0]), known.get(way.at(-1))))),
      tasks.map((task) => box(run, task, place.get(task.task_id), size))));
}

/** Each task one step behind the last of those it needs; tasks in a circle, which no run has, stand in the first. */
function depthOf(tasks, needs) {
  const depth = new Map(tasks.map((task) => [task.task_id, 0]));
  const open = new Map([...needs].map(([id, from]) => [id, from.length]));
  const after = followers(needs);
  const ready = [...open].filter(([, left]) => !left).map(([id]) => id);
  for (let at = 0; at < ready.length; at += 1) {
    const id = ready[at];
    depth.set(id, Math.max(0, ...needs.get(id).map((each) => depth.get(each) + 1)));
    for (const next of after.get(id) || []) {
      open.set(next, open.get(next) - 1);
      if (!open.get(next)) ready.push(next);
    }
  }
  return depth;
}

/** Columns of tasks, and a way for each arrow: one that passes columns gets a lane of its own in each of them. */
function routed(tasks, needs, depth) {
  const columns = [];
  for (const task of tasks) (columns[depth.get(task.task_id)] ||= []).push(task.task_id);
  const ties = new Map();
  const ways = [];
  for (const [to, from] of needs) {
    for (const each of from) {
      const way = [each];
      for (let x = depth.get(each) + 1; x < depth.get(to); x += 1) {
        const lane = `\u0000${each}\u0000${x}`; // arrows of one task share their lanes
        if (!columns[x].includes(lane)) columns[x].push(lane);
        way.push(lane);
      }
      way.push(to);
      ways.push(way);
      way.slice(1).forEach((id, index) => ties.set(id, [...new Set([...(ties.get(id) || []), way[index]])]));
    }
  }
  return { columns: ordered(columns, ties), ways };
}

function placed(columns, known, size) {
  const high = (id) => (known.has(id) ? BOX_HEIGHT : LANE);
  const heights = columns.map((column) => column.reduce((sum, id) => sum + high(id) + GAP_Y, -GAP_Y));
  const tallest = Math.max(...heights);
  const place = new Map();
  columns.forEach((column, x) => {
    let y = MARGIN + (tallest - heights[x]) / 2;
    for (const id of column) {
      place.set(id, [MARGIN + x * (size + GAP_X), y, high(id)]);
      y += high(id) + GAP_Y;
    }
  });
  return place;
}

function followers(needs) {
  const after = new Map();
  for (const [id, from] of needs) for (const each of from) after.set(each, [...(after.get(each) || []), id]);
  return after;
}

/** Put neighbours beside each other: a few sweeps in which each stands where those it is tied to stand on average. */
function ordered(columns, needs) {
  const after = followers(needs);
  const found = columns.map((column) => [...column]);
  const sweep = (order, ties) => {
    const row = new Map();
    for (const column of found) column.forEach((id, y) => row.set(id, y - column.length / 2));
    for (const x of order) {
      const wanted = new Map(found[x].map((id, y) => {
        const tied = (ties.get(id) || []).map((each) => row.get(each));
        return [id, tied.length ? tied.reduce((a, b) => a + b, 0) / tied.length : row.get(id) ?? y];
      }));
      found[x].sort((a, b) => wanted.get(a) - wanted.get(b));
      found[x].forEach((id, y) => row.set(id, y - found[x].length / 2));
    }
  };
  const forth = [...found.keys()];
  for (let number = 0; number < SWEEPS; number += 1) {
    if (number % 2) sweep([...forth].reverse(), after);
    else sweep(forth, needs);
  }
  return found;
}

function holds(from, to) {
  return BAD.includes(from.state) && to.state !== "completed";
}

function arrow(stops, size, held) {
  const [fromX, fromY, high] = stops[0];
  const how = held ? " held" : "";
  let x = fromX + size;
  let y = fromY + high / 2;
  let d = `M${x} ${y}`;
  stops.slice(1).forEach(([toX, toY, toHigh], index) => {
    const end = toY + toHigh / 2;
    const last = index === stops.length - 2;
    const bend = Math.max(14, (toX - x) / 2);
    d += `C${x + bend} ${y} ${toX - bend} ${end} ${last ? toX - 6 : toX} ${end}`;
    if (!last) d += `H${toX + size}`;
    x = toX + size;
    y = end;
  });
  const [lastX, lastY, lastHigh] = stops.at(-1);
  return [
    svg("path", { class: `edge${how}`, d }),
    svg("path", { class: `edge-head${how}`, d: `M${lastX} ${lastY + lastHigh / 2}l-7 -3.5v7z` }),
  ];
}

function box(run, task, [x, y], size) {
  const word = plain(task.state);
  const tried = task.attempts.length;
  const tries = tried > 1 ? `, ${tried} attempts` : "";
  const most = Math.floor((size - 36) / LETTER);
  const name = task.task_id.length > most ? `${task.task_id.slice(0, most - 1)}…` : task.task_id;
  const dashed = ["skipped", "cancelled", "waiting", "queued"].includes(task.state) ? " dashed" : "";
  const needs = task.depends_on.length ? `, needs ${task.depends_on.join(", ")}` : "";
  return svg("a", { href: runHash(run, task.task_id), role: "listitem", "aria-label": `${task.task_id}: ${word}${tries}${needs}`, class: `tone-${tone(task.mark)}`, "data-key": task.task_id },
    svg("title", {}, `${task.task_id}: ${word}${tries}${task.why ? `\n${task.why}` : ""}`),
    svg("rect", { class: `box${dashed}`, x, y, width: size, height: BOX_HEIGHT, rx: 6 }),
    svg("text", { class: "sign", x: x + 10, y: y + 23, "aria-hidden": "true" }, sign(task.mark)),
    svg("text", { x: x + 28, y: y + 16 }, name),
    svg("text", { class: "small", x: x + 28, y: y + 30 }, `${word}${tried > 1 ? ` ×${tried}` : ""}`));
}

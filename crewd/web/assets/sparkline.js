// Levels of a crew over the last hour, drawn small: a column for each half minute, the worst of it on top.

import { count, h, svg } from "./dom.js";

const ORDER = ["healthy", "waiting", "warn", "unreadable", "stale", "dead"]; // from below
const WIDTH = 240;
const HEIGHT = 36;

/** `ring`: {seconds: length of a point, points: [{at, levels: {LEVEL: workers}}]}, oldest first. */
export function sparkline(ring) {
  const slots = Math.round(3600 / ring.seconds);
  const points = ring.points.slice(-slots);
  const totals = points.map((point) => ORDER.reduce((sum, level) => sum + (point.levels[level] || 0), 0));
  const most = Math.max(1, ...totals);
  const wide = WIDTH / slots;
  const bars = [];
  points.forEach((point, index) => {
    const x = WIDTH - (points.length - index) * wide;
    let y = HEIGHT - 1;
    for (const level of ORDER) {
      const number = point.levels[level] || 0;
      if (!number) continue;
      const high = (number / most) * (HEIGHT - 3);
      y -= high;
      bars.push(svg("rect", { class: `level-${level}`, x: x.toFixed(2), y: y.toFixed(2), width: (wide + 0.1).toFixed(2), height: high.toFixed(2) }));
    }
  });
  return h("div", {},
    svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words(points, most) },
      svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), bars),
    h("div", { class: "spark-ends", "aria-hidden": "true" }, h("span", {}, "60 min ago"), h("span", {}, `most ${most}`), h("span", {}, "now")));
}

function words(points, most) {
  const bad = points.filter((point) => ["dead", "stale", "unreadable"].some((level) => point.levels[level])).length;
  return `Levels over the last hour: at most ${count(most, "worker")}; in trouble in ${bad} of ${points.length} half minutes`;
}

// The three working views of one execution: what will run, what runs, what ran.

import { h } from "./dom.js";
import { notice, runHash, trouble } from "./parts.js";

const VIEWS = [["preview", "Preview", "what will run"], ["live", "Live", "what runs"], ["history", "History", "what ran"]];

/** Which of them an address asks for. */
export function viewOf(query) {
  const asked = query.get("view");
  return VIEWS.some(([name]) => name === asked) ? asked : "live";
}

/** The row of links between them. */
export function tabs(params, which) {
  return h("nav", { class: "tabs", "aria-label": "Views of this", "data-key": "tabs" },
    VIEWS.map(([name, title, says]) =>
      h("a", { href: runHash(params.run, params.task, name === "live" ? null : { view: name }), "aria-current": name === which ? "page" : null, title: says }, title)));
}

/** Show preview or history in a part of the page; answers its handle. */
export async function within(root, name, params, page) {
  try {
    const view = await import(`./views-${name}.js`);
    return await view.show(root, { ...params, within: true }, { ...page, title: () => {} });
  } catch (error) {
    root.replaceChildren(
      error instanceof TypeError
        ? notice("calm", "Not here.", `This crewd has no ${name} of it.`)
        : error.status === 404
          ? notice("calm", "Nothing is known.", `There is no ${name} of it: ${error.message}.`)
          : trouble(error));
    return null;
  }
}

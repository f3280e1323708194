// What is asked of a person before something is done. A dialog is modal, has a name, and gives the focus back.

import { h } from "./dom.js";

/** Ask for the token; null: none was given. `complaint` says what was wrong with the one before. */
export async function askToken(complaint = "") {
  const given = await ask({
    title: "Token",
    text: [
      complaint && h("p", { class: "bad", role: "alert" }, complaint),
      h("p", {}, "Changes and the output of workers need crewd's token over TCP. It is kept until this tab is closed."),
      h("p", { class: "faint" }, "It is what the setting ", h("code", {}, "http.token"), " holds. Where it is not set, nothing can be changed ",
        "from here: use the commands, which go through the unix socket."),
    ],
    fields: [{ name: "token", label: "Token", type: "password", required: true }],
    button: "Use it",
  });
  return given === null ? null : given.token.trim();
}

/**
 * Ask before something is done; null: thought better of it. `fields`: [{name, label, type, required, value, options,
 * hint}]; answers their values by name. `danger`: it cannot be undone.
 */
export function ask({ title, text, fields = [], button = "Do it", danger = false }) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    let answer = null;
    const inputs = fields.map((field) => [field, input(field)]);
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault(); // nothing is ever sent by a form
          answer = Object.fromEntries(inputs.map(([field, element]) => [field.name, element.value]));
          dialog.close();
        },
      },
      h("h2", { id: "dialog-title" }, title),
      h("div", { class: "dialog-text" }, typeof text === "string" ? h("p", {}, text) : text),
      inputs.map(([field, element]) =>
        h("label", { class: "field" }, h("span", {}, field.label, field.required ? "" : " (optional)"), element,
          field.hint && h("small", { class: "faint" }, field.hint)),
      ),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Never mind"),
        h("button", { type: "submit", class: danger ? "danger" : "primary" }, button)),
    );
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
    (inputs[0]?.[1] || form.querySelector("button")).focus();
  });
}

function input(field) {
  const shared = { name: field.name, required: field.required, maxlength: field.max || 1000, value: field.value || "" };
  if (field.options) {
    const { maxlength, value, ...rest } = shared;
    return h("select", rest, field.options.map(([value, word]) => h("option", { value }, word)));
  }
  return h("input", { ...shared, type: field.type || "text", autocomplete: "off", spellcheck: "false" });
}

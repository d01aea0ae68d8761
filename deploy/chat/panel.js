// The settings: a sheet at the side, whose changes hold at once.

import { setKey } from "./api.js";
import { $, ask, h } from "./dom.js";
import { flush, withdrawConsent } from "./feedback.js";
import { saveSettings, settings } from "./store.js";
import { t } from "./words.js";

// Name, least, most, step; empty: as the server likes.
const NUMBERS = [
  ["temperature", 0, 2, 0.1],
  ["top_p", 0.01, 1, 0.01],
  ["max_tokens", 1, 1000000, 1],
  ["seed", 0, 4294967295, 1],
];

// What the request says about sampling.
export function sampling() {
  const said = NUMBERS.map(([name]) => [name, settings[name]]).filter(([, value]) => value !== "");
  return Object.fromEntries(said.map(([name, value]) => [name, Number(value)]));
}

export function applyTheme() {
  const { theme } = settings;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

// Draws the settings; `page` tells what they change: {conversation, redraw, feedback, hasKey, deleteAll}.
export function drawPanel(page) {
  const system = h("textarea", { id: "system", rows: "3", placeholder: t("systemHint") });
  system.value = page.conversation().system;
  system.addEventListener("input", () => {
    page.setSystem(system.value);
    saveSettings({ system: system.value });
  });
  $("panel-body").replaceChildren(
    part(
      t("look"),
      row(
        t("theme"),
        choice(
          "theme",
          [
            ["auto", t("themeAuto")],
            ["light", t("themeLight")],
            ["dark", t("themeDark")],
          ],
          page,
        ),
      ),
      row(
        t("language"),
        choice(
          "language",
          [
            ["en", "English"],
            ["zh", "中文"],
          ],
          page,
        ),
      ),
    ),
    part(null, field("system", t("system"), system)),
    part(t("sampling"), NUMBERS.map(number)),
    part(
      t("long"),
      tick("forgetful", t("forgetful"), settings.forgetful, (on) =>
        saveSettings({ forgetful: on }),
      ),
    ),
    page.feedback()
      ? part(
          t("feedback"),
          tick("consent-setting", t("consentSetting"), settings.consent === true, (on) =>
            consent(on, page),
          ),
        )
      : "",
    part(
      t("data"),
      h(
        "div",
        { class: "buttons" },
        page.hasKey()
          ? h("button", { type: "button", onclick: page.askKey }, t("keyChange"))
          : null,
        h("button", { type: "button", class: "danger", onclick: page.deleteAll }, t("deleteAll")),
      ),
    ),
  );
}

async function consent(on, page) {
  if (on) {
    saveSettings({ consent: true });
    flush();
  } else await withdrawConsent();
  page.redraw();
}

function part(title, ...children) {
  return h("section", {}, title ? h("h3", {}, title) : null, children.flat());
}

function row(label, control) {
  control.setAttribute("aria-label", label);
  return h("div", { class: "row" }, h("span", {}, label), control);
}

function field(id, label, control) {
  return h("div", { class: "field" }, h("label", { for: id }, label), control);
}

function choice(name, options, page) {
  const current = name === "language" ? document.documentElement.lang.slice(0, 2) : settings[name];
  const buttons = options.map(([value, label]) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": String(value === current),
        "data-focus": `${name}-${value}`,
        onclick: () => {
          saveSettings({ [name]: value });
          page.redraw(`${name}-${value}`);
        },
      },
      label,
    ),
  );
  return h("div", { class: "segments", role: "group" }, buttons);
}

function number([name, least, most, step]) {
  const input = h("input", {
    id: name,
    type: "number",
    min: String(least),
    max: String(most),
    step: String(step),
    inputmode: step < 1 ? "decimal" : "numeric",
    placeholder: t("asServer"),
    "aria-describedby": `${name}-help`,
  });
  input.value = settings[name];
  const help = t(`${name}Help`);
  const node = h(
    "div",
    { class: "field beside" },
    h("label", { for: name }, t(name)),
    h("p", { class: "help", id: `${name}-help` }, help),
    input,
  );
  input.addEventListener("input", () => {
    const value = Number(input.value);
    const good =
      input.value === ""
        ? !input.validity.badInput
        : value >= least && value <= most && (step < 1 || Number.isInteger(value));
    input.setAttribute("aria-invalid", String(!good));
    node.querySelector(".help").textContent = good ? help : t("invalid", { min: least, max: most });
    if (good) saveSettings({ [name]: input.value });
  });
  return node;
}

function tick(id, label, checked, change) {
  const box = h("input", { type: "checkbox", id, checked, onchange: () => change(box.checked) });
  return h("label", { class: "tick", for: id }, box, h("span", {}, label));
}

// Asks for the key; whether there is one now.
export async function askKey(wrong) {
  $("key-wrong").hidden = !wrong;
  $("key").value = "";
  if ((await ask($("key-dialog"))) !== "save" || !$("key").value.trim()) return false;
  setKey($("key").value);
  return true;
}

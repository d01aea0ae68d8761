// The page as `state` has it.

import { $, ask, h, icon, iconButton, toast } from "./dom.js";
import { actions, send, toEnd } from "./actions.js";
import { applyTheme, askKey, drawPanel } from "./panel.js";
import { conversations, save, saveSettings, settings } from "./store.js";
import { forget, isBusy, model, show, state } from "./state.js";
import { hasKey } from "./api.js";
import { t, translate } from "./words.js";
import { turnView } from "./thread.js";

export function draw() {
  keepingFocus(() => {
    const busy = isBusy();
    const turns = state.current.turns;
    const context = {
      actions,
      busy,
      turns: turns.length,
      contextSize: model()?.context,
    };
    drawTurns(turns, context);
    drawWelcome();
    drawControls(busy);
    drawList();
  });
  if (state.following) toEnd();
}

const drawn = new WeakMap(); // turn -> {signature, node}

// Only turns that changed are drawn anew, for what is new in a log is read aloud.
function drawTurns(turns, context) {
  const nodes = turns.map((turn, i) => {
    const last = i === turns.length - 1;
    const signature = JSON.stringify([
      turn,
      { ...context, busy: context.busy && last, last },
      document.documentElement.lang,
      state.feedback,
    ]);
    if (drawn.get(turn)?.signature !== signature)
      drawn.set(turn, { signature, node: turnView(turn, { ...context, last }) });
    return drawn.get(turn).node;
  });
  const log = $("log");
  nodes.forEach(
    (node, i) => log.childNodes[i] !== node && log.insertBefore(node, log.childNodes[i] ?? null),
  );
  while (log.childNodes.length > nodes.length) log.lastChild.remove();
  log.classList.toggle("busy", context.busy);
}

// The same control has the focus after drawing as before; in a turn without it, the message field.
function keepingFocus(work) {
  const { id, dataset = {} } = document.activeElement ?? {};
  const turn = document.activeElement?.closest?.(".turn")?.dataset.id;
  work();
  if (document.activeElement !== document.body) return;
  const place = turn ? $("log").querySelector(`[data-id="${turn}"]`) : document.body;
  const found =
    (id && $(id)) ||
    (dataset.focus && place?.querySelector(`[data-focus="${dataset.focus}"]`)) ||
    (dataset.index && place?.querySelector(`[data-index="${dataset.index}"]`)) ||
    (turn && $("input"));
  if (found) found.focus({ preventScroll: true });
}

function drawWelcome() {
  const empty = !state.current.turns.length;
  $("welcome").hidden = !empty;
  if (!empty) return;
  const chosen = model();
  const base = chosen && !chosen.chat;
  $("hello").textContent = t(base ? "helloBase" : "hello");
  $("hello-more").textContent = chosen
    ? t(state.feedback && !base ? "helloMore" : "helloQuiet", chosen)
    : "";
  $("ideas").replaceChildren(
    ...t(base ? "ideasBase" : "ideas")
      .split("|")
      .map((idea) =>
        h("li", {}, h("button", { type: "button", onclick: () => start(idea) }, idea)),
      ),
  );
}

function start(idea) {
  send(idea);
  $("input").focus();
}

function drawControls(busy) {
  const label = t(busy ? "stop" : "send");
  const button = $("send");
  button.replaceChildren(icon(busy ? "stop" : "send"));
  button.setAttribute("aria-label", label);
  button.title = label;
  button.disabled = !busy && !$("input").value.trim();
  button.classList.toggle("stop", busy);
  drawCompare();
  drawContext();
}

// How many answers there shall be.
function drawCompare() {
  const pick = (n) => () => {
    saveSettings({ compare: n });
    drawCompare();
    $("compare").children[n - 1].focus();
    if (n > 1 && Number(settings.temperature || 1) === 0) toast(t("sameSeed"));
  };
  const button = (n) => {
    const label = n === 1 ? t("compareOne") : t("compareMany", { n });
    const pressed = String(settings.compare === n);
    const props = { type: "button", "aria-label": label, title: label, "aria-pressed": pressed };
    return h("button", { ...props, "data-focus": `compare-${n}`, onclick: pick(n) }, String(n));
  };
  $("compare").replaceChildren(...[1, 2, 3, 4].map(button));
}

// How much of what the model sees is in use.
function drawContext() {
  const used = state.current.turns.findLast((turn) => turn.used)?.used;
  const all = model()?.context;
  const known = used && all;
  const unit = h("span", { class: "unit" }, ` ${t("tokens")}`);
  $("context").replaceChildren(...(known ? [`${used} / ${all}`, unit] : []));
  $("context").title = known ? t("context", { used, all }) : "";
  $("context").classList.toggle("scarce", used > 0.8 * all);
}

function drawList() {
  const all = conversations();
  $("list-empty").hidden = all.length > 0;
  $("list").replaceChildren(
    ...all.map((one) => {
      const name = one.title || t("untitled");
      const mine = one.id === state.current.id;
      const open = h(
        "button",
        {
          type: "button",
          class: "open",
          title: name,
          "aria-current": mine ? "true" : null,
          "data-focus": `open-${one.id}`,
          onclick: () => show(one.id),
        },
        state.running.has(one.id) ? h("i", { class: "pulse" }) : null,
        h("span", {}, name),
      );
      return h(
        "li",
        { class: mine ? "mine" : null },
        open,
        iconButton("trash", `${t("deleteChat")}: ${name}`, () => discard(one.id)),
      );
    }),
  );
}

function drawModels() {
  const chosen = model();
  $("model").replaceChildren(
    ...state.models.map((one) =>
      h(
        "option",
        { value: one.id, selected: one === chosen },
        one.chat ? one.id : t("continues", one),
      ),
    ),
  );
  $("model").disabled = state.models.length < 2;
}

export function drawAll(focus) {
  translate();
  applyTheme();
  drawModels();
  draw();
  drawPanel(sheet);
  if (focus) $("panel-body").querySelector(`[data-focus="${focus}"]`)?.focus();
}

function discard(id) {
  forget([id]);
  toast(t("deleted"));
  $("new").focus();
}

// -- settings -------------------------------------------------------------------------------------

// What the sheet of settings needs of the page.
const sheet = {
  conversation: () => state.current,
  feedback: () => state.feedback,
  hasKey,
  redraw: drawAll,
  connect: () => {},
  setSystem(text) {
    state.current.system = text;
    if (state.current.turns.length) save(state.current);
  },
  async askKey() {
    $("panel").close();
    if (await askKey(false)) sheet.connect();
  },
  async deleteAll() {
    if ((await ask($("delete-all"))) === "yes")
      forget([state.current.id, ...conversations().map((one) => one.id)]);
  },
};

export function openSettings(connect) {
  sheet.connect = connect;
  drawPanel(sheet);
  $("panel").showModal();
}

// The field grows with what is written.
export function fit() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, innerHeight * 0.4)}px`;
  $("send").disabled = !isBusy() && !input.value.trim();
}

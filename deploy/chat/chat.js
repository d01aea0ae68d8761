// The chat page: what people do reaches the conversation, and the conversation the screen.
//
//   chat.js     the fields and buttons that are always there, and the server that comes and goes
//   draw.js     state -> screen        thread.js compare.js markdown.js panel.js
//   actions.js  people -> state        talk.js (a request) -> api.js (the server), feedback.js
//   state.js    what is shown and written now      store.js (this browser)   words.js (languages)

import { $, sleep, toast } from "./dom.js";
import { getSettings, hasKey, isAlive, takeKeyFromAddress } from "./api.js";
import { askKey } from "./panel.js";
import { draw, drawAll, fit, openSettings } from "./draw.js";
import { flush } from "./feedback.js";
import { isBusy, onChange, recall, startNew, state, stop } from "./state.js";
import { save, saveSettings } from "./store.js";
import { send, toEnd, useServer } from "./actions.js";
import { t } from "./words.js";

// -- server ---------------------------------------------------------------------------------------

let connecting = null;

// Finds out what the server has, asking for a key if it wants one; one at a time.
function connect() {
  connecting ??= greet(false).finally(() => (connecting = null));
  return connecting;
}

async function greet(wrongKey) {
  try {
    const { models, feedback, truncation } = await getSettings();
    Object.assign(state, { models, feedback, truncation });
  } catch (error) {
    if (error.code === "unreachable") watch();
    else if (error.status !== 401) later(error);
    else if (await askKey(wrongKey || hasKey())) await greet(true);
    return;
  }
  $("away").hidden = true;
  if (!state.models.length) toast(t("noModels"));
  drawAll();
  flush();
}

let watching = false;

// Asks until the server is back.
async function watch() {
  if (watching) return;
  watching = true;
  for (let pause = 500; !(await isAlive()); pause = Math.min(pause * 1.5, 5000)) {
    $("away").hidden = false;
    await sleep(pause);
  }
  watching = false;
  if (!$("away").hidden) toast(t("back"));
  $("away").hidden = true;
  await sleep(300); // whatever the server says, it is not asked without a pause
  await connect();
}

// A server that is there but refuses, as one that has too much to do, is asked again.
async function later({ message, wait }) {
  toast(`${t("errOther")} ${message}`);
  await sleep(1000 * Math.max(wait, 5));
  await connect();
}

// -- what people do -------------------------------------------------------------------------------

function closeMenu() {
  document.body.classList.remove("menu");
  $("shade").hidden = true;
  $("menu").setAttribute("aria-expanded", "false");
}

function listen() {
  $("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy()) return stop();
    if (!(await send($("input").value))) return;
    $("input").value = "";
    fit();
  });
  $("input").addEventListener("input", fit);
  $("input").addEventListener("keydown", (event) => {
    // while an input method composes, Enter chooses a word (229: Safari's way to say so)
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229)
      return;
    event.preventDefault();
    if (!isBusy()) $("form").requestSubmit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.classList.contains("menu")) closeMenu();
    else stop();
  });
  $("scroll").addEventListener("scroll", () => {
    const { scrollTop, scrollHeight, clientHeight } = $("scroll");
    state.following = scrollHeight - scrollTop - clientHeight < 60;
    $("to-end").hidden = state.following;
  });
  $("to-end").addEventListener("click", toEnd);
  $("new").addEventListener("click", startNew);
  $("side").addEventListener("click", (event) => {
    if (!event.target.closest("#new, #list .open")) return;
    closeMenu();
    $("input").focus();
  });
  $("menu").addEventListener("click", () => {
    const open = document.body.classList.toggle("menu");
    $("shade").hidden = !open;
    $("menu").setAttribute("aria-expanded", String(open));
    if (open) $("new").focus();
  });
  $("shade").addEventListener("click", closeMenu);
  $("settings").addEventListener("click", () => openSettings(connect));
  $("panel").addEventListener(
    "click",
    (event) => event.target === $("panel") && $("panel").close(),
  );
  $("model").addEventListener("change", () => {
    saveSettings({ model: $("model").value });
    draw();
  });
  addEventListener(
    "pagehide",
    () => state.current.turns.length && !state.current.deleted && save(state.current),
  );
  addEventListener("online", flush);
}

takeKeyFromAddress();
recall();
onChange(draw);
useServer({ connect, watch });
listen();
drawAll();
connect();
$("input").focus();

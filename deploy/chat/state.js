// What the page is about now: the conversation that is shown, the server's models, and what is being
// written. Whoever changes something says so with `changed`, and the page is drawn anew.

import { conversation, newConversation, remove, save, settings } from "./store.js";

export const state = {
  current: newConversation(),
  running: new Map(), // conversation id -> {conversation, controller}
  models: [],
  feedback: false, // whether the server keeps opinions
  truncation: "disabled",
  following: true, // whether the view stays at the end
};

let drawing = () => {};

export function onChange(draw) {
  drawing = draw;
}

export const model = () =>
  state.models.find((one) => one.id === settings.model) ??
  state.models.find((one) => one.chat) ??
  state.models[0];

export const isBusy = () => state.running.has(state.current.id);

export function changed(one = state.current) {
  if (one.turns.length && !one.deleted) save(one);
  drawing();
}

export function stop() {
  state.running.get(state.current.id)?.controller.abort();
}

// -- which conversation is shown ------------------------------------------------------------------

// One that is being written is the object that grows, not its copy in the store.
export function show(id) {
  turnTo(state.running.get(id)?.conversation ?? conversation(id) ?? newConversation());
}

export function startNew() {
  turnTo(state.current.turns.length ? newConversation() : state.current);
}

export function forget(ids) {
  for (const id of ids) {
    const writing = state.running.get(id);
    if (writing) writing.conversation.deleted = true; // so that its end does not save it again
    writing?.controller.abort();
    remove(id);
  }
  if (ids.includes(state.current.id)) turnTo(newConversation());
  else drawing();
}

function turnTo(one) {
  state.current = one;
  state.following = true;
  rememberCurrent();
  drawing();
}

// A reload shows the same conversation again.
export function rememberCurrent() {
  try {
    sessionStorage.setItem("humpty.current", state.current.id);
  } catch {
    // then it begins anew
  }
}

export function recall() {
  try {
    const id = sessionStorage.getItem("humpty.current");
    state.current = conversation(id) ?? state.current;
  } catch {
    // begin anew
  }
}

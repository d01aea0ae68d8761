// What stays in this browser: settings, and a conversation under a key of its own, so that saving
// one is cheap. Where storage is full the oldest conversations give way; where there is none the
// page works all the same and forgets when it is closed.

import { newId } from "./dom.js";

const PREFIX = "humpty.chat.";

const DEFAULTS = {
  theme: "auto",
  language: "",
  model: "",
  system: "",
  temperature: "",
  top_p: "",
  max_tokens: "",
  seed: "",
  forgetful: false, // truncation: auto
  compare: 1, // answers side by side
  consent: null, // null: not asked yet
};

export const settings = { ...DEFAULTS, ...read("humpty.settings", {}) };

export function saveSettings(changes) {
  Object.assign(settings, changes);
  write("humpty.settings", settings);
}

export const list = (name) => read(`humpty.${name}`, []);
export const saveList = (name, value) => write(`humpty.${name}`, value);

export function newConversation() {
  return { id: newId(), title: "", updated: Date.now(), system: settings.system, turns: [] };
}

export function save(conversation) {
  conversation.updated = Date.now();
  write(PREFIX + conversation.id, conversation);
}

export function remove(id) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    // nothing is stored
  }
}

// All conversations, the latest first.
export function conversations() {
  return keys()
    .map((key) => read(key, null))
    .filter((one) => one?.turns)
    .sort((a, b) => b.updated - a.updated);
}

function keys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  const text = JSON.stringify(value);
  for (;;) {
    try {
      localStorage.setItem(key, text);
      return;
    } catch {
      const oldest = conversations()
        .filter((one) => PREFIX + one.id !== key)
        .pop();
      if (!oldest) return;
      remove(oldest.id);
    }
  }
}

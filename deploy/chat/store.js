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
  known().set(conversation.id, summaryOf(conversation));
}

export function remove(id) {
  known().delete(id);
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    // nothing is stored
  }
}

export const conversation = (id) => read(PREFIX + id, null);

// Id, title and time of all conversations, the latest first.
export const conversations = () => [...known().values()].sort((a, b) => b.updated - a.updated);

let summaries = null; // by id, so that the texts need not be read for the list

function known() {
  summaries ??= new Map(
    keys()
      .map((key) => read(key, null))
      .filter((one) => one?.turns)
      .map((one) => [one.id, summaryOf(one)]),
  );
  return summaries;
}

const summaryOf = ({ id, title, updated }) => ({ id, title, updated });

// Another tab has changed something.
addEventListener("storage", () => (summaries = null));

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

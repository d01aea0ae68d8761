// One answer, or several side by side: the request, and what comes back, written into a turn.

import { ApiError, answers } from "./api.js";
import { newId } from "./dom.js";

export const ask = (text) => ({ role: "user", id: newId(), text });

// A turn that waits for its answers.
export const awaited = (count) => ({
  role: "assistant",
  id: newId(),
  answers: [],
  shown: 0,
  count,
  compare: count > 1,
  ranks: null,
  error: null,
  dropped: 0,
});

// What a turn's answers are given to, so that it can be told later though people look at other
// answers or correct them meanwhile: the system prompt, and what stood for each turn before.
export function groundOf(conversation, turn) {
  const before = conversation.turns.slice(0, conversation.turns.indexOf(turn));
  const shown = before
    .filter((one) => one.role === "assistant")
    .map((one) => [one.shown, one.answers[one.shown]?.edited !== undefined]);
  return { system: conversation.system.trim() ? conversation.system : "", shown };
}

// What precedes a turn, as the model sees or saw it.
export function messagesBefore(conversation, turn, ground) {
  const messages = ground.system ? [{ role: "system", content: ground.system }] : [];
  const shown = [...ground.shown];
  for (const one of conversation.turns.slice(0, conversation.turns.indexOf(turn))) {
    if (one.role === "user") {
      messages.push({ role: "user", content: one.text });
      continue;
    }
    const [index, edited] = shown.shift() ?? [one.shown, false];
    const answer = one.answers[index];
    if (answer?.text)
      messages.push({ role: "assistant", content: (edited && answer.edited) || answer.text });
  }
  return messages;
}

// Fills a turn with `count` new answers; `changed(answer)` is told of each piece. Errors of the
// server end up in the turn; what was written until then stays.
export async function fill(turn, count, { model, ground, messages, options, signal, changed }) {
  const fresh = Array.from({ length: count }, () => blank(model, ground, options));
  turn.answers.push(...fresh);
  turn.shown = turn.answers.length - count;
  turn.error = null;
  const start = performance.now();
  const wanted = count > 1 ? { ...options, n: count } : options;
  try {
    for await (const event of answers(model, messages, wanted, signal)) {
      if (event.usage) share(turn, fresh, event.usage);
      if (event.dropped) turn.dropped = event.dropped;
      if (event.artifact) fresh.forEach((answer) => (answer.artifact = event.artifact));
      const answer = fresh[event.index];
      if (!answer) continue;
      add(answer, event, (performance.now() - start) / 1000);
      changed(answer);
    }
  } catch (error) {
    if (error.name !== "AbortError") turn.error = problemOf(error);
  }
  fresh.forEach((answer) => (answer.finish ||= "stopped"));
  if (turn.error && fresh.every((answer) => !answer.text)) {
    turn.answers.splice(turn.answers.length - count);
    turn.shown = Math.max(0, turn.answers.length - 1);
  }
}

// An answer of which nothing is written yet; times are in seconds.
function blank({ id, artifact, chat }, ground, sampling) {
  const said = { model: id, artifact, chat, ground, sampling: { ...sampling } };
  return { ...said, text: "", finish: "", tokens: 0, first: 0, seconds: 0 };
}

function add(answer, { text, finish }, seconds) {
  if (text) {
    answer.first ||= seconds;
    answer.text += text;
    answer.tokens++; // about: until usage is told, a piece counts as one
  }
  if (finish) answer.finish = finish;
  answer.seconds = seconds;
}

// The tokens of all answers are told together; their pieces tell how they are shared.
function share(turn, fresh, { prompt_tokens, completion_tokens }) {
  const pieces = fresh.reduce((sum, answer) => sum + answer.tokens, 0);
  for (const answer of fresh) {
    answer.tokens = pieces ? Math.round((completion_tokens * answer.tokens) / pieces) : 0;
  }
  turn.used = prompt_tokens + Math.max(...fresh.map((answer) => answer.tokens));
}

function problemOf(error) {
  if (!(error instanceof ApiError))
    return { code: "broken", status: 0, message: String(error.message ?? error), wait: 0 };
  return { code: error.code, status: error.status, message: error.message, wait: error.wait };
}

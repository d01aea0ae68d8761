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
  const said = { ...options };
  const start = performance.now();
  const since = () => (performance.now() - start) / 1000;
  const fresh = Array.from({ length: count }, () => ({
    text: "",
    finish: "",
    model: model.id,
    artifact: model.artifact,
    sampling: said,
    ground,
    tokens: 0,
    first: 0,
    seconds: 0,
  }));
  const pieces = fresh.map(() => 0);
  turn.answers.push(...fresh);
  turn.shown = turn.answers.length - count;
  turn.error = null;
  let usage = null;
  try {
    for await (const event of answers(
      model,
      messages,
      count > 1 ? { ...options, n: count } : options,
      signal,
    )) {
      if (event.usage) usage = event.usage;
      if (event.dropped) turn.dropped = event.dropped;
      if (event.artifact) for (const answer of fresh) answer.artifact = event.artifact;
      const answer = fresh[event.index];
      if (!answer) continue;
      if (event.text) {
        answer.first ||= since();
        answer.text += event.text;
        pieces[event.index]++;
      }
      if (event.finish) answer.finish = event.finish;
      answer.seconds = since();
      changed(answer);
    }
  } catch (error) {
    if (error.name !== "AbortError") turn.error = problemOf(error);
  }
  const all = pieces.reduce((sum, n) => sum + n, 0);
  fresh.forEach((answer, i) => {
    answer.finish ||= "stopped";
    // tokens are told of all answers together; their pieces tell how they are shared
    answer.tokens =
      usage && all ? Math.round((usage.completion_tokens * pieces[i]) / all) : pieces[i];
  });
  if (usage) turn.used = usage.prompt_tokens + Math.max(...fresh.map((answer) => answer.tokens));
  if (turn.error && fresh.every((answer) => !answer.text)) {
    turn.answers.splice(turn.answers.length - count);
    turn.shown = Math.max(0, turn.answers.length - 1);
  }
}

function problemOf(error) {
  if (!(error instanceof ApiError))
    return { code: "broken", status: 0, message: String(error.message ?? error), wait: 0 };
  return { code: error.code, status: error.status, message: error.message, wait: error.wait };
}

// What people can do with a conversation: talk, and say what they think of answers.

import { ask, awaited, fill, groundOf, messagesBefore } from "./talk.js";
import { $ } from "./dom.js";
import { askKey, sampling } from "./panel.js";
import { changed, isBusy, model, rememberCurrent, state } from "./state.js";
import { consented, give, takeBack } from "./feedback.js";
import { redraw } from "./thread.js";
import { save, saveSettings, settings } from "./store.js";

let server = { connect: async () => {}, watch: () => {} };

// Who finds out what the server has, and who waits for it when it is gone.
export function useServer(found) {
  server = found;
}

// -- talking --------------------------------------------------------------------------------------

// Ask; whether that was possible.
export async function send(text) {
  const question = text.trim();
  if (!model()) await server.connect();
  if (isBusy() || !question || !model()) return false;
  const { current } = state;
  const turn = awaited(settings.compare);
  current.title ||= question.slice(0, 80);
  current.turns.push(ask(question), turn);
  state.following = true;
  rememberCurrent();
  answer(turn, settings.compare);
  return true;
}

async function answer(turn, count) {
  const conversation = state.current;
  const controller = new AbortController();
  const options = sampling();
  if ("seed" in options) options.seed += turn.answers.length; // another answer, not the same
  if (settings.forgetful || state.truncation === "auto") options.truncation = "auto";
  state.running.set(conversation.id, { conversation, controller });
  const ground = groundOf(conversation, turn);
  const filling = fill(turn, count, {
    model: model(),
    ground,
    messages: messagesBefore(conversation, turn, ground),
    options,
    signal: controller.signal,
    changed: (one) => conversation === state.current && grew(one),
  });
  changed(); // the turn has its empty answers now
  await filling;
  state.running.delete(conversation.id);
  changed(conversation);
  if (["unreachable", "broken"].includes(turn.error?.code)) server.watch();
}

let frame = 0;
const waiting = new Set();

// Draws what grew, once a frame however fast it comes.
function grew(answer) {
  waiting.add(answer);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    waiting.forEach(redraw);
    waiting.clear();
    if (state.following) toEnd();
  });
}

export function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

// -- what the buttons of a turn do ----------------------------------------------------------------

export const actions = {
  wantsFeedback: () => state.feedback,

  again(turn) {
    turn.error = null;
    answer(turn, turn.compare && !turn.answers.length ? turn.count : 1);
  },

  forget(turn) {
    saveSettings({ forgetful: true });
    actions.again(turn);
  },

  async askKey(turn) {
    if (await askKey(true)) actions.again(turn);
  },

  editQuestion(turn, text) {
    if (isBusy()) return;
    state.current.turns.splice(state.current.turns.indexOf(turn));
    send(text);
  },

  show(turn, shown) {
    turn.shown = shown;
    changed();
  },

  async rate(turn, answer, value) {
    if (!(await consented())) return;
    const { rating, ratingId } = answer;
    if (rating === value) {
      Object.assign(answer, { rating: 0, ratingId: null });
      takeBack([ratingId]);
    } else {
      answer.rating = value;
      answer.ratingId = give(
        { kind: "rating", ...about(turn, answer), answer: answer.text, rating: value },
        ratingId,
      );
    }
    changed();
  },

  async editAnswer(turn, answer, text) {
    const { editId } = answer;
    answer.edited = text === answer.text ? undefined : text;
    changed(); // the talk goes on with it, whether or not it may be sent
    if (answer.edited && (await consented())) {
      answer.editId = give(
        { kind: "edit", ...about(turn, answer), answer: answer.text, edited: text },
        editId,
      );
    } else if (!answer.edited && editId) {
      answer.editId = null;
      takeBack([editId]);
    }
    save(state.current);
  },

  place(turn, index, place) {
    turn.ranks ??= [];
    turn.ranks[index] = place;
    changed();
  },

  move(turn, from, to) {
    turn.order ??= turn.answers.map((_, i) => i);
    turn.order.splice(to, 0, ...turn.order.splice(from, 1));
    turn.ranks = [];
    turn.order.forEach((index, position) => (turn.ranks[index] = position + 1));
    changed();
  },

  async rank(turn) {
    turn.shown = turn.ranks.indexOf(Math.min(...turn.ranks));
    turn.ranked = true;
    changed();
    if (!(await consented())) return;
    const judged = {
      kind: "ranking",
      answers: turn.answers.map((one) => one.text),
      ranks: turn.ranks,
    };
    turn.rankId = give({ ...about(turn, turn.answers[0]), ...judged }, turn.rankId);
    save(state.current);
  },

  rankAgain(turn) {
    turn.ranked = false;
    changed();
  },
};

// What every judgement tells of its answers.
function about(turn, { model, artifact, sampling, ground }) {
  const { temperature, top_p, max_tokens, seed } = sampling;
  const prompt = messagesBefore(state.current, turn, ground);
  return { model, artifact, prompt, sampling: { temperature, top_p, max_tokens, seed } };
}

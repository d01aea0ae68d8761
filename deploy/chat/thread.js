// The turns of a conversation as elements. Nothing here changes the conversation: `actions` do, and
// then the turn is drawn anew. Only an answer that is being written is drawn piece by piece.

import { comparison } from "./compare.js";
import { copy, h, icon, iconButton } from "./dom.js";
import { markdown } from "./markdown.js";
import { t } from "./words.js";

const drawn = new WeakMap(); // answer -> element of its text

export function turnView(turn, context) {
  return turn.role === "user" ? question(turn, context) : reply(turn, context);
}

// -- questions ------------------------------------------------------------------------------------

function question(turn, { actions }) {
  const text = h("div", { class: "bubble", dir: "auto" }, turn.text);
  const edit = iconButton(
    "edit",
    t("editQuestion"),
    () => {
      const box = editor(
        turn.text,
        t("editQuestion"),
        t("saveSend"),
        (value) => actions.editQuestion(turn, value),
        () => node.replaceChildren(...parts),
      );
      node.replaceChildren(box);
      box.querySelector("textarea").focus();
    },
    { class: "quiet edit-question" },
  );
  const copied = iconButton("copy", t("copy"), () => copy(turn.text, copied));
  const parts = [
    h("span", { class: "hidden" }, t("you")),
    h("div", { class: "tools" }, copied, edit),
    text,
  ];
  const node = h("div", { class: "turn user", "data-id": turn.id }, parts);
  return node;
}

// -- answers --------------------------------------------------------------------------------------

function reply(turn, context) {
  const { actions, busy, last } = context;
  const writing = busy && last;
  const answer = turn.answers[turn.shown];
  const node = h("div", {
    class: `turn assistant${turn.compare ? " wide" : ""}`,
    "data-id": turn.id,
    "aria-busy": String(writing),
  });
  node.append(h("span", { class: "hidden" }, t("it")));
  if (turn.dropped) node.append(h("p", { class: "note" }, t("dropped", { n: turn.dropped })));
  if (turn.compare && turn.answers.length > 1)
    node.append(comparison(turn, answerView, actions, writing || !answer.chat));
  else if (answer) node.append(single(turn, answer, node, context, writing));
  if (turn.error) node.append(problem(turn, context));
  return node;
}

function single(turn, answer, node, { actions, last }, writing) {
  const body = answerView(answer);
  if (writing) return body;
  const copied = iconButton("copy", t("copy"), () => copy(answer.edited ?? answer.text, copied));
  const thumb = (value, name, label) =>
    iconButton(name, label, () => actions.rate(turn, answer, value), {
      "aria-pressed": String(answer.rating === value),
      "data-focus": name,
    });
  const edit = iconButton("edit", t("editAnswer"), () => {
    const box = editor(
      answer.edited ?? answer.text,
      t("editLabel"),
      t("saveEdit"),
      (value) => actions.editAnswer(turn, answer, value),
      () => box.replaceWith(body, tools),
    );
    body.replaceWith(box);
    tools.remove();
    box.querySelector("textarea").focus();
  });
  const opinions =
    actions.wantsFeedback() && answer.chat && answer.text.trim()
      ? [thumb(1, "up", t("good")), thumb(-1, "down", t("bad")), edit]
      : [];
  const again = last ? iconButton("again", t("again"), () => actions.again(turn)) : null;
  const tools = h(
    "div",
    { class: "tools" },
    pager(turn, actions),
    copied,
    opinions,
    again,
    stats(answer),
  );
  const whole = document.createDocumentFragment();
  whole.append(body, tools);
  return whole;
}

// An answer's text and what is to be said of it; drawn again by `redraw` as it grows.
export function answerView(answer) {
  const node = h("div", { class: "answer", dir: "auto" });
  drawn.set(answer, node);
  redraw(answer);
  return node;
}

export function redraw(answer) {
  const node = drawn.get(answer);
  if (!node) return;
  const text = answer.edited ?? answer.text;
  const empty = !text && !answer.finish;
  node.replaceChildren(
    empty
      ? h(
          "span",
          { class: "dots", role: "img", "aria-label": t("thinking") },
          h("i"),
          h("i"),
          h("i"),
        )
      : markdown(text),
  );
  node.classList.toggle("growing", !answer.finish && text !== "");
  const notes = [
    answer.edited ? t("corrected") : "",
    answer.finish === "stop" && !text.trim() ? t("nothing") : "",
    { length: t("cutOff"), stopped: t("stopped"), content_filter: t("filtered") }[answer.finish] ??
      "",
  ];
  const note = notes.filter(Boolean).join(" · ");
  if (note) node.append(h("p", { class: "note" }, note));
}

function pager(turn, actions) {
  const count = turn.answers.length;
  if (count < 2) return null;
  const to = (shown) => () => actions.show(turn, shown);
  return h(
    "span",
    { class: "pager" },
    iconButton("back", t("previous"), to(turn.shown - 1), {
      disabled: turn.shown === 0,
      "data-focus": "back",
    }),
    h("span", {}, t("version", { i: turn.shown + 1, n: count })),
    iconButton("forth", t("next"), to(turn.shown + 1), {
      disabled: turn.shown === count - 1,
      "data-focus": "forth",
    }),
  );
}

function stats({ tokens, first, seconds }) {
  if (!tokens) return null;
  const rate = tokens > 1 && seconds > first ? (tokens - 1) / (seconds - first) : 0;
  const parts = [
    t("statTokens", { n: tokens }),
    t("statFirst", { s: first < 1 ? first.toFixed(2) : first.toFixed(1) }),
    rate ? t("statRate", { r: rate < 10 ? rate.toFixed(1) : Math.round(rate) }) : "",
  ];
  return h("span", { class: "stats" }, parts.filter(Boolean).join(" · "));
}

// -- parts ----------------------------------------------------------------------------------------

function editor(text, label, save, done, cancel) {
  const box = h("textarea", {
    "aria-label": label,
    rows: String(Math.min(12, text.split("\n").length + 1)),
  });
  box.value = text;
  const submit = () => box.value.trim() && done(box.value.trim());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      cancel();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  const buttons = h(
    "div",
    { class: "buttons" },
    h("button", { type: "button", onclick: cancel }, t("cancel")),
    h("button", { type: "button", class: "primary", onclick: submit }, save),
  );
  return h("div", { class: "editor" }, h("label", {}, label), box, buttons);
}

// What went wrong, and what can be done about it.
function problem(turn, context) {
  const { status, message } = turn.error;
  const [text, remedy, act] = remedyFor(turn, context);
  const detail = message && ![401, 429].includes(status) ? message : "";
  const button = h(
    "button",
    { type: "button", class: "primary", onclick: act, "data-focus": "retry" },
    remedy,
  );
  return h(
    "div",
    { class: "problem", role: "alert" },
    icon("alert"),
    h("div", {}, h("p", {}, text), detail && h("p", { class: "detail" }, detail)),
    act && context.last && !context.busy ? button : null,
  );
}

// In words, then a button's name and what it does, if there is something to be done here.
function remedyFor(turn, { actions, contextSize, turns }) {
  const { code, status, wait } = turn.error;
  const retry = [t("retry"), () => actions.again(turn)];
  if (code === "context_length_exceeded") {
    if (turns <= 2) return [t("errLong")];
    return [t("errContext", { n: contextSize }), t("errForget"), () => actions.forget(turn)];
  }
  if (code === "unreachable") return [t("errUnreachable"), ...retry];
  if (code === "broken") return [t("errBroken"), ...retry];
  if (code === "content_filter") return [t("errFilter"), ...retry];
  if (status === 401) return [t("errKey"), t("errKeyButton"), () => actions.askKey(turn)];
  if (status === 429 || status === 503) return [t("errBusy", { n: wait || 1 }), ...retry];
  return [t("errOther"), ...retry];
}

// Answers side by side, and what people think of them: a place for each, by buttons, by the number
// keys, or by dragging them into order. Equal places are a tie.

import { h, icon } from "./dom.js";
import { t } from "./words.js";

export const nameOf = (index) => "ABCDEFGH"[index];

// Cards of a turn in the order in which the person put them; `actions` are those of chat.js.
export function comparison(turn, answerView, actions, busy) {
  const order = turn.order ?? turn.answers.map((_, i) => i);
  const cards = h(
    "div",
    { class: `cards cards-${order.length}` },
    order.map((index, position) => card(turn, index, position, answerView, actions, busy)),
  );
  return h("div", { class: "comparison" }, cards, busy ? null : footer(turn, actions));
}

function card(turn, index, position, answerView, actions, busy) {
  const name = nameOf(index);
  const place = turn.ranks?.[index];
  const chosen = turn.ranked && turn.shown === index;
  const open = !busy && !turn.ranked;
  const keys = (event) => {
    if (
      open &&
      event.target.matches("article, input[type=radio]") &&
      Number(event.key) >= 1 &&
      Number(event.key) <= turn.answers.length
    ) {
      event.preventDefault();
      actions.place(turn, index, Number(event.key));
    }
  };
  const node = h(
    "article",
    {
      class: `card${chosen ? " chosen" : ""}`,
      "aria-label": t("answer", { name }),
      tabindex: "0",
      "data-index": String(index),
      onkeydown: keys,
    },
    h(
      "header",
      {},
      h("span", { class: "letter", "aria-hidden": "true" }, name),
      turn.ranked ? h("span", { class: `medal medal-${place}` }, `${place}.`) : null,
      chosen ? h("span", { class: "note" }, t("goesOn")) : null,
      open ? grip(turn, name, position, actions) : null,
    ),
    answerView(turn.answers[index]),
    open ? places(turn, index, actions) : null,
  );
  if (open) accept(node, turn, position, actions);
  return node;
}

function places(turn, index, actions) {
  const group = `place-${turn.id}-${index}`;
  const option = (place) => [
    h("input", {
      type: "radio",
      name: group,
      id: `${group}-${place}`,
      value: String(place),
      checked: turn.ranks?.[index] === place,
      onchange: () => actions.place(turn, index, place),
    }),
    h("label", { for: `${group}-${place}` }, String(place)),
  ];
  return h(
    "fieldset",
    { class: "places" },
    h("legend", { class: "hidden" }, t("place", { name: nameOf(index) })),
    h("span", { class: "help", "aria-hidden": "true" }, t("placeLabel")),
    turn.answers.map((_, i) => option(i + 1)),
  );
}

function footer(turn, actions) {
  if (turn.ranked) {
    return h(
      "div",
      { class: "ranking" },
      h("p", {}, t("rankSaved", { name: nameOf(turn.shown) })),
      h("button", { type: "button", onclick: () => actions.rankAgain(turn) }, t("rankAgain")),
    );
  }
  const complete = turn.answers.every((_, i) => turn.ranks?.[i]);
  return h(
    "div",
    { class: "ranking" },
    h("div", {}, h("strong", {}, t("rankTitle")), h("p", {}, t("rankHelp"))),
    h(
      "button",
      {
        type: "button",
        class: "primary",
        "data-focus": "rank-save",
        disabled: !complete,
        onclick: () => actions.rank(turn),
      },
      t("rankSave"),
    ),
  );
}

// -- dragging -------------------------------------------------------------------------------------

let dragged = null;

function grip(turn, name, position, actions) {
  const handle = h(
    "span",
    { class: "grip", draggable: "true", title: t("drag", { name }) },
    icon("grip"),
  );
  handle.addEventListener("dragstart", (event) => {
    dragged = { turn, position };
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", name);
    event.dataTransfer.setDragImage(handle.closest("article"), 20, 20);
    handle.closest("article").classList.add("dragged");
  });
  handle.addEventListener("dragend", () => {
    dragged = null;
    handle.closest("article")?.classList.remove("dragged");
  });
  return handle;
}

function accept(node, turn, position, actions) {
  node.addEventListener("dragover", (event) => {
    if (dragged?.turn !== turn) return;
    event.preventDefault();
    node.classList.add("target");
  });
  node.addEventListener("dragleave", () => node.classList.remove("target"));
  node.addEventListener("drop", (event) => {
    if (dragged?.turn !== turn) return;
    event.preventDefault();
    actions.move(turn, dragged.position, position);
  });
}

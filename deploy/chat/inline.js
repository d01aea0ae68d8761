// What stands within a line of Markdown: bold, italic, struck out, code, links.

import { h } from "./dom.js";

const DEEPEST = 6; // emphasis in emphasis
const FARTHEST = 2000; // characters between the marks of an emphasis, so that no text takes long

const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];
const SPECIAL = /[\\`*_~[h]/g; // where something other than text may begin; h of https://

// Nodes and texts.
export function inline(text, depth) {
  const nodes = [];
  let plain = 0;
  let at = 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text);
    if (!next) break;
    at = next.index;
    const found = depth < DEEPEST ? span(text, at, depth) : null;
    if (!found) {
      at++;
      continue;
    }
    if (plain < at) nodes.push(text.slice(plain, at));
    nodes.push(found[0]);
    plain = at = found[1];
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

// What begins at a place, and the place behind it; null: nothing but text.
function span(text, at, depth) {
  const here = text[at];
  if (here === "\\")
    return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? [text[at + 1], at + 2] : null;
  if (here === "`") return codeSpan(text, at);
  if (here === "[") return link(text, at, depth);
  if (here === "h") return address(text, at);
  return emphasis(text, at, depth);
}

function codeSpan(text, at) {
  const mark = /^`+/.exec(text.slice(at, at + 20))[0];
  const end = within(text, mark, at + mark.length);
  if (end < 0) return [mark, at + mark.length];
  const inside = text.slice(at + mark.length, end);
  return [
    h("code", {}, /^ .*[^ ].* $/.test(inside) ? inside.slice(1, -1) : inside),
    end + mark.length,
  ];
}

function link(text, at, depth) {
  const match =
    /^\[([^\][]{1,500})\]\(\s*<?(https?:\/\/[^\s()<>]{1,2000})>?(?:\s+"[^"]{0,200}")?\s*\)/.exec(
      text.slice(at, at + FARTHEST),
    );
  return match && [anchor(match[2], inline(match[1], depth + 1)), at + match[0].length];
}

function address(text, at) {
  if (at && /\w/.test(text[at - 1])) return null;
  const match = /^https?:\/\/[^\s<>"'`)\]}，。；、）】」]{2,1000}/.exec(
    text.slice(at, at + FARTHEST),
  );
  const found = match && match[0].replace(/[.,;:!?*_~]+$/, "");
  return found && [anchor(found, [found]), at + found.length];
}

function anchor(href, children) {
  return h("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" }, children);
}

function emphasis(text, at, depth) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    if (
      !text[start] ||
      /\s/.test(text[start]) ||
      (mark[0] === "_" && /\w/.test(text[at - 1] ?? ""))
    )
      continue;
    let end = within(text, mark, start + 1);
    while (end > 0 && mark.length === 1 && text[end + 1] === mark)
      end = within(text, mark, end + 2);
    while (end > 0 && mark.length === 2 && text[start] === mark[0] && text[end + 2] === mark[0])
      end++; // ***both***
    if (
      end < 0 ||
      /\s/.test(text[end - 1]) ||
      (mark[0] === "_" && /\w/.test(text[end + mark.length] ?? ""))
    )
      continue;
    return [h(tag, {}, inline(text.slice(start, end), depth + 1)), end + mark.length];
  }
  return null;
}

function within(text, mark, start) {
  const end = text.slice(start, start + FARTHEST).indexOf(mark);
  return end < 0 ? -1 : start + end;
}

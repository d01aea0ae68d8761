// Markdown as models write it, to DOM nodes: paragraphs, headings, lists, quotes, code, tables,
// bold, italic, links. Nothing that a text says becomes markup of its own, and every search is
// bounded, so that no text takes longer than its length allows.

import { copy, h, iconButton } from "./dom.js";
import { inline } from "./inline.js";
import { t } from "./words.js";

const DEEPEST = 6; // lists in lists

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+)(.*)$/;
const TABLE = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

export function markdown(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0));
  return fragment;
}

// -- blocks ---------------------------------------------------------------------------------------

function blocks(lines, depth) {
  const made = [];
  let at = 0;
  while (at < lines.length) {
    const [node, next] = block(lines, at, depth);
    if (node) made.push(node);
    at = next;
  }
  return made;
}

// The block that begins at a line, and the line behind it.
function block(lines, at, depth) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading)
    return [h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2], 0)), at + 1];
  if (RULE.test(line)) return [h("hr"), at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  if (line.includes("|") && TABLE.test(lines[at + 1] ?? "") && lines[at + 1].includes("-"))
    return table(lines, at);
  return paragraph(lines, at, depth);
}

function code(lines, at, [, mark, language]) {
  let end = at + 1;
  while (
    end < lines.length &&
    !(
      lines[end].trim().startsWith(mark) &&
      !lines[end].trim().slice(mark.length).replaceAll(mark[0], "")
    )
  )
    end++;
  const text = lines.slice(at + 1, end).join("\n");
  const name = language.trim().split(/\s+/)[0].slice(0, 30);
  const button = iconButton("copy", t("copy"), () => copy(text, button));
  const head = h("div", { class: "code-head" }, h("span", {}, name), button);
  const body = h(
    "pre",
    { tabindex: "0", "aria-label": name || t("code"), role: "group" },
    h("code", {}, text),
  );
  return [h("div", { class: "code" }, head, body), end + 1];
}

function quote(lines, at, depth) {
  const inside = [];
  let match;
  while (at < lines.length && (match = QUOTE.exec(lines[at]))) {
    inside.push(match[1]);
    at++;
  }
  return [h("blockquote", {}, blocks(inside, depth + 1)), at];
}

function list(lines, at, depth) {
  const [, , mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const node = ordered
    ? h("ol", mark.slice(0, -1) === "1" ? {} : { start: mark.slice(0, -1) })
    : h("ul");
  let match;
  while (
    at < lines.length &&
    (match = ITEM.exec(lines[at])) &&
    /\d/.test(match[2]) === ordered &&
    !RULE.test(lines[at])
  ) {
    const [inside, next] = item(lines, at, match);
    const parts = blocks(inside, depth + 1);
    node.append(
      h(
        "li",
        {},
        parts.flatMap((part, i) =>
          part.tagName === "P" && i === 0 ? [...part.childNodes] : [part],
        ),
      ),
    );
    at = next;
    while (at + 1 < lines.length && !lines[at].trim() && ITEM.test(lines[at + 1])) at++;
  }
  return [node, at];
}

// The lines of an item without its indentation, and the line behind it.
function item(lines, at, [, indent, mark, space, first]) {
  const width = indent.length + mark.length + Math.min(space.length, 4);
  const inside = [first];
  for (at++; at < lines.length; at++) {
    const line = lines[at];
    const own = line.length - line.trimStart().length;
    if (
      line.trim() &&
      own < Math.min(width, 2) &&
      (ITEM.test(line) || !lines[at - 1].trim() || interrupts(line))
    )
      break;
    if (line.trim() && own < 2 && ITEM.test(line)) break;
    if (!line.trim() && !(lines[at + 1] ?? "").startsWith("  ")) break;
    inside.push(line.slice(Math.min(own, width)));
  }
  return [inside, at];
}

function table(lines, at) {
  const [head, sides] = [cells(lines[at]), cells(lines[at + 1])];
  const align = sides.map((side) =>
    /^:-+:$/.test(side) ? "center" : /-:$/.test(side) ? "right" : "left",
  );
  const row = (tag, found) =>
    h(
      "tr",
      {},
      head.map((_, i) => h(tag, { class: align[i] }, inline(found[i] ?? "", 0))),
    );
  const body = [];
  for (at += 2; at < lines.length && lines[at].includes("|"); at++)
    body.push(row("td", cells(lines[at])));
  const made = h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, body));
  return [
    h("div", { class: "table", tabindex: "0", role: "group", "aria-label": t("table") }, made),
    at,
  ];
}

function cells(line) {
  return line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());
}

function interrupts(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line);
}

function paragraph(lines, at, depth) {
  const start = at++;
  while (
    at < lines.length &&
    lines[at].trim() &&
    !interrupts(lines[at]) &&
    !(depth < DEEPEST && ITEM.test(lines[at]))
  )
    at++;
  const text = lines.slice(start, at).map((line) => line.trimStart());
  return [
    h(
      "p",
      {},
      text.flatMap((line, i) => [...(i ? [h("br")] : []), ...inline(line.trimEnd(), 0)]),
    ),
    at,
  ];
}

// Elements, icons and small things of the page. Texts become text nodes; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

// Drawn on 24 x 24 with a stroke.
const ICONS = {
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  up: "M7 11v9H4v-9h3zm0 0l4-8c1.7 0 3 1.3 3 3v3h4.5a2 2 0 012 2.3l-1.2 7A2 2 0 0117.300 20H7",
  down: "M7 13V4H4v9h3zm0 0l4 8c1.700 0 3-1.300 3-3v-3h4.500a2 2 0 002-2.300l-1.200-7A2 2 0 0017.300 4H7",
  again: "M20 12a8 8 0 11-2.600-5.900M20 3v4.500h-4.500",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  done: "M5 12.500l4.500 4.500L19 7.500",
  edit: "M4 20l1-4.500L16.500 4 20 7.500 8.500 19zM14 6.500L17.500 10",
  trash: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5",
  back: "M14 6l-6 6 6 6",
  forth: "M10 6l6 6-6 6",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5",
  columns: "M4 5h7v14H4zM13 5h7v14h-7z",
  grip: "M9 6v.01M15 6v.01M9 12v.01M15 12v.01M9 18v.01M15 18v.01",
  alert: "M12 8v5M12 16.500v.01M12 3.500l9 16.500H3z",
  bottom: "M12 5v14M6 13l6 6 6-6",
  theme: "M12 4a8 8 0 100 16zM12 4a8 8 0 010 16",
};

export const $ = (id) => document.getElementById(id);

// An element; properties beginning with "on" are listeners, null and false children are left out.
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", `icon icon-${name}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// A button that is an icon; its label is read aloud and shown when pointed at.
export function iconButton(name, label, onclick, props = {}) {
  return h(
    "button",
    { type: "button", class: "quiet", "aria-label": label, title: label, onclick, ...props },
    icon(name),
  );
}

let toastTimer = 0;

// A word at the edge of the page, gone after a while.
export function toast(text) {
  const place = $("toast");
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.classList.remove("shown"), 5000);
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyTheOldWay(text); // the new one is for https and localhost only
  }
  const old = button.firstChild;
  button.replaceChildren(icon("done"));
  setTimeout(() => button.replaceChildren(old), 1500);
}

function copyTheOldWay(text) {
  const box = h("textarea", { class: "hidden" });
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
}

// Asks in a dialog of the page; the value of the button that was pressed, "" when closed.
export function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export const newId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) =>
    b.toString(16).padStart(2, "0"),
  ).join("");

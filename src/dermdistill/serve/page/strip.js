// The strip of miniatures.

import { drawThumbnail } from "./picture.js";

/**
 * Show one button for each image; arrow keys, Home, End and Delete work within the strip.
 * @param {HTMLUListElement} list
 * @param {object[]} items
 * @param {?object} current
 * @param {{show: (item: object) => void, remove: (item: object) => void}} act
 */
export function showStrip(list, items, current, act) {
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...items.map((item) => {
    const entry = document.createElement("li");
    item.button ??= newButton(item);
    entry.append(item.button);
    label(item, item === current);
    item.button.onclick = () => act.show(item);
    item.button.onkeydown = (event) => onKey(event, items, item, act);
    return entry;
  }));
  current?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (focused) current?.button.focus();
}

function newButton(item) {
  const button = document.createElement("button");
  button.type = "button";
  const canvas = document.createElement("canvas");
  const badge = document.createElement("span");
  badge.className = "badge";
  button.append(canvas, badge);
  item.drawn = false;
  return button;
}

function label(item, isCurrent) {
  const { button } = item;
  const [canvas, badge] = button.children;
  if (item.photograph && !item.drawn) {
    drawThumbnail(canvas, item.photograph);
    item.drawn = true;
  }
  const warned = item.answer?.warnings.length ?? 0;
  const state = item.problem ? "failed" : !item.answer ? "waiting" : warned ? `${warned} warning${warned > 1 ? "s" : ""}` : "done";
  badge.hidden = state === "done";
  badge.className = `badge${item.problem ? " bad" : warned ? " warn" : ""}`;
  badge.textContent = { failed: "×", waiting: "…", done: "" }[state] ?? "!";
  button.setAttribute("aria-label", `${item.name}, ${state}`);
  button.title = item.name;
  if (isCurrent) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function onKey(event, items, item, act) {
  const place = items.indexOf(item);
  const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: items.length - 1 }[event.key];
  if (event.key === "Delete") act.remove(item);
  else if (to !== undefined && items[to]) act.show(items[to]);
  else return;
  event.preventDefault();
}

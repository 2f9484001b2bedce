// The page: which images there are, which one is shown, and what is done with it.

import { Problem, fetchModel, segment } from "./api.js";
import { listenForImages } from "./intake.js";
import { showChecks, showMeasures, showProblem } from "./panel.js";
import { draw, lesionShare, readMap, readPhotograph } from "./picture.js";
import { showStrip } from "./strip.js";
import { modelLine, pictureLabel, stem, summary, tally } from "./words.js";

const AT_ONCE = 2; // images sent at the same time; the server has a queue of its own
const SETTLED = 350; // milliseconds after the last move of a slider

const $ = (id) => document.getElementById(id);
const items = []; // {name, file, photograph, size, map, answer, problem, threshold, standard, started, stop}
const scales = new Map(); // millimetres per pixel, by the pictures' size: those of one camera have one scale
let current = null;
let asking = 0;

// ---- images in

function add(files) {
  const added = [...files].map((file) => ({ name: file.name || "pasted image", file, photograph: null, size: null, map: null, answer: null, problem: null, threshold: null, standard: null, started: false, stop: null }));
  if (!added.length) return;
  items.push(...added);
  show(added[0]);
  pump();
}

function pump() {
  while (asking < AT_ONCE) {
    const item = items.find((each) => !each.started);
    if (!item) return;
    item.started = true;
    asking++;
    process(item).finally(() => { asking--; pump(); });
  }
}

async function process(item) {
  const local = readPhotograph(item.file).catch(() => null).then((read) => {
    if (read) Object.assign(item, read);
    refresh(item);
  });
  try {
    const answer = await (await segment(item.file, { probability_map: true })).json();
    item.map = await readMap(answer.probability_map);
    await local;
    if (item.size?.width !== answer.width || item.size?.height !== answer.height) {
      // TIFF, or turned in a way that this browser does not know: the server decodes it.
      const { photograph } = await readPhotograph(await (await segment(item.file, { output: "image" })).blob());
      Object.assign(item, { photograph, size: { width: answer.width, height: answer.height } });
    }
    delete answer.probability_map;
    item.threshold = item.standard = answer.threshold;
    item.answer = answer;
  } catch (error) {
    item.problem = asProblem(error);
  }
  say(item === current ? summary(item, shareOf(item)) : tally(items));
  refresh(item);
}

const shareOf = (item) => (item.answer ? lesionShare(item.map, item.threshold) : 0);

function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ title: "Failed", code: "page", detail: `The page met a fault: ${error.message}` });
}

function remove(item) {
  const place = items.indexOf(item);
  item.stop?.abort();
  items.splice(place, 1);
  if (item === current) current = items[Math.min(place, items.length - 1)] ?? null;
  say(`${item.name} was removed.`);
  render();
  if (!current) document.querySelector("#empty button").focus();
}

// ---- what is shown

function show(item) {
  current = item;
  render();
  if (item.answer || item.problem) say(summary(item, shareOf(item)));
}

function refresh(item) {
  if (item === current) render();
  else showStrip($("strip"), items, current, { show, remove });
}

function render() {
  $("empty").hidden = items.length > 0;
  $("work").hidden = items.length === 0;
  document.title = current ? `${current.name} · dermdistill` : "dermdistill";
  if (!current) return;
  const { answer, problem } = current;
  $("title").textContent = $("title").title = current.name;
  $("size").textContent = current.size ? `${current.size.width} × ${current.size.height}` : "";
  $("working").hidden = Boolean(answer || problem);
  $("panel").hidden = !answer;
  $("remove").setAttribute("aria-label", `Remove ${current.name}`);
  $("picture").style.opacity = problem ? 0.35 : 1;
  showProblem(problem);
  if (answer) renderPanel();
  paint();
  showStrip($("strip"), items, current, { show, remove });
}

function renderPanel() {
  showChecks(current.answer);
  $("threshold").value = current.threshold;
  $("default").textContent = current.standard.toFixed(2);
  if (document.activeElement !== $("scale")) $("scale").value = scaleOf(current) ?? "";
  renderMeasures();
}

function renderMeasures() {
  showMeasures(current.answer, current.threshold, shareOf(current), isStale(current));
  if (isStale(current)) settle(current);
}

function paint() {
  const canvas = $("picture");
  canvas.hidden = !current?.photograph;
  if (canvas.hidden) return;
  const stage = $("stage");
  const single = matchMedia("(max-width: 60rem)").matches;
  const room = { width: stage.clientWidth, height: single ? Math.max(240, 0.7 * innerHeight) : stage.clientHeight };
  draw(canvas, current.photograph, current.answer && current.map, { threshold: current.threshold, opacity: $("opacity").value / 100, view: view() }, room);
  canvas.setAttribute("aria-label", pictureLabel(current, shareOf(current)));
}

const view = () => document.querySelector("input[name=view]:checked").value;

function say(text) {
  $("status").textContent = text;
}

// ---- controls

let settling = 0;

function moveThreshold(value) {
  current.threshold = value;
  renderMeasures();
  paint();
}

const sizeOf = (item) => `${item.answer?.width} × ${item.answer?.height}`;
const scaleOf = (item) => scales.get(sizeOf(item));

/** Whether the measurements are of another threshold or scale than those shown. */
function isStale(item) {
  return item.answer.threshold !== item.threshold || (item.answer.mm_per_pixel ?? undefined) !== scaleOf(item);
}

function settle(item) {
  clearTimeout(settling);
  settling = setTimeout(measure, SETTLED, item);
}

/** The exact measurements at the threshold and scale shown: the server computes them from the image. */
async function measure(item) {
  item.stop?.abort();
  const stop = item.stop = new AbortController();
  try {
    const query = { threshold: item.threshold, mm_per_pixel: scaleOf(item) };
    item.answer = await (await segment(item.file, query, stop.signal)).json();
    say(summary(item, shareOf(item)));
  } catch (error) {
    if (error.name === "AbortError") return;
    say(`Not measured at this threshold: ${asProblem(error).detail}`);
    return;
  }
  if (item.stop === stop) item.stop = null;
  refresh(item);
}

function changeScale() {
  const text = $("scale").value.trim();
  const value = Number(text.replace(",", "."));
  const fits = text === "" || (value > 0 && Number.isFinite(value));
  $("scale").setAttribute("aria-invalid", String(!fits));
  $("scale-error").textContent = fits ? "" : "A number above 0, such as 0.02.";
  if (!fits) return;
  if (text === "") scales.delete(sizeOf(current));
  else scales.set(sizeOf(current), value);
  renderMeasures();
}

async function download(output) {
  const item = current;
  try {
    const response = await segment(item.file, { output, threshold: item.threshold, mm_per_pixel: scaleOf(item) });
    const plain = output.endsWith("json");
    const blob = plain ? new Blob([JSON.stringify(await response.json(), null, 2)], { type: "application/json" }) : await response.blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = stem(item.name) + (plain ? `.${output}` : `_${output}.png`);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`${link.download} was saved.`);
  } catch (error) {
    say(`Nothing was saved: ${asProblem(error).detail}`);
  }
}

$("threshold").addEventListener("input", (event) => moveThreshold(Number(event.target.value)));
$("opacity").addEventListener("input", () => {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  paint();
});
$("reset").addEventListener("click", () => {
  $("threshold").value = current.standard;
  moveThreshold(current.standard);
});
$("remove").addEventListener("click", () => remove(current));
$("scale").addEventListener("change", changeScale);
$("again").addEventListener("click", () => {
  Object.assign(current, { problem: null, started: false });
  render();
  pump();
});
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => {
    $("legend").hidden = view() !== "probability";
    paint();
  });
}
for (const button of document.querySelectorAll("[data-download]")) button.addEventListener("click", () => download(button.dataset.download));
listenForImages(add);
new ResizeObserver(() => paint()).observe($("stage"));

// ---- start

$("opacity-value").textContent = "100 %";
if (!["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) {
  $("privacy").textContent = `Images go to ${location.hostname} only, and are not kept there`;
}
try {
  const service = await fetchModel();
  $("model").textContent = modelLine(service);
  $("formats").textContent = `JPEG, PNG, BMP, TIFF, WebP or GIF, up to ${Math.round(service.max_upload_bytes / 2 ** 20)} MB and ${Math.round(service.max_pixels / 1e6)} megapixels`;
} catch (error) {
  say(asProblem(error).detail);
}

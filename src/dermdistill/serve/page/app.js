// The page: which images there are, which one is shown, and what is done with it.

import { Problem, fetchModel, segment } from "./api.js";
import { draw, lesionShare, readMap, readPhotograph } from "./picture.js";
import { showStrip } from "./strip.js";
import { measureRows, modelLine, percent, problemTitle, stem } from "./words.js";

const AT_ONCE = 2; // images sent at the same time; the server has a queue of its own
const SETTLED = 350; // milliseconds after the last move of a slider

const $ = (id) => document.getElementById(id);
const items = []; // {name, file, photograph, size, map, answer, problem, threshold}
let current = null;
let service = null;
let asking = 0;

// ---- images in

function add(files) {
  const added = [...files].map((file) => ({ name: file.name || "pasted image", file, photograph: null, size: null, map: null, answer: null, problem: null, threshold: null, started: false, stop: null }));
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
    const answer = await (await segment(item.file, { probability_map: true, mm_per_pixel: millimetres() })).json();
    item.map = await readMap(answer.probability_map);
    await local;
    if (item.size?.width !== answer.width || item.size?.height !== answer.height) {
      // TIFF, or turned in a way that this browser does not know: the server decodes it.
      const { photograph } = await readPhotograph(await (await segment(item.file, { output: "image" })).blob());
      Object.assign(item, { photograph, size: { width: answer.width, height: answer.height } });
    }
    delete answer.probability_map;
    item.threshold = answer.threshold;
    item.answer = answer;
  } catch (error) {
    item.problem = asProblem(error);
  }
  say(summary(item));
  refresh(item);
}

function summary(item) {
  if (item.problem) return `${item.name}: ${item.problem.detail}`;
  const share = lesionShare(item.map, item.threshold);
  const warned = item.answer.warnings?.length ?? 0;
  const found = share > 0 ? `the lesion covers ${percent(share)} of the image at threshold ${item.threshold.toFixed(2)}.` : "no lesion was found.";
  return `${item.name}: ${found}${warned ? ` ${warned} warning${warned > 1 ? "s" : ""}.` : ""}`;
}

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
  if (item.answer || item.problem) say(summary(item));
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
  $("picture").style.opacity = problem ? 0.35 : 1;
  renderProblem(problem);
  if (answer) renderPanel();
  paint();
  showStrip($("strip"), items, current, { show, remove });
}

function renderProblem(problem) {
  $("problem").hidden = !problem;
  if (!problem) return;
  $("problem-title").textContent = problemTitle(problem);
  $("problem-detail").textContent = problem.detail;
  $("problem-mend").textContent = [problem.expected && `Expected: ${problem.expected}.`, problem.mend].filter(Boolean).join(" ");
  $("problem-id").textContent = problem.request_id && `Request ${problem.request_id}`;
  $("again").hidden = problem.status >= 400 && problem.status < 500 && problem.status !== 408 && problem.status !== 429;
}

function renderPanel() {
  const { answer } = current;
  const warnings = answer.warnings ?? [];
  $("warnings").hidden = warnings.length === 0;
  $("warning-list").replaceChildren(...warnings.map(({ message }) => Object.assign(document.createElement("li"), { textContent: message })));
  $("threshold").value = current.threshold;
  $("default").textContent = service ? service.card.threshold.toFixed(2) : "default";
  renderMeasures();
}

function renderMeasures() {
  const share = lesionShare(current.map, current.threshold);
  $("threshold-value").textContent = current.threshold.toFixed(2);
  $("threshold").setAttribute("aria-valuetext", `${current.threshold.toFixed(2)}, lesion ${percent(share)} of the image`);
  $("measures").replaceChildren(...measureRows(current.answer, share).map(([name, value, exact]) => {
    const row = document.createElement("div");
    row.className = exact ? "exact" : "";
    row.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
    return row;
  }));
}

function paint() {
  const canvas = $("picture");
  canvas.hidden = !current?.photograph;
  if (canvas.hidden) return;
  const stage = $("stage");
  const single = matchMedia("(max-width: 60rem)").matches;
  const room = { width: stage.clientWidth, height: single ? Math.max(240, 0.7 * innerHeight) : stage.clientHeight };
  draw(canvas, current.photograph, current.answer && current.map, { threshold: current.threshold, opacity: $("opacity").value / 100, view: view() }, room);
  const told = current.answer ? `, lesion outlined: ${percent(lesionShare(current.map, current.threshold))} of the image at threshold ${current.threshold.toFixed(2)}` : "";
  canvas.setAttribute("aria-label", `Photograph ${current.name}${told}`);
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
  $("measures").setAttribute("aria-busy", "true");
  clearTimeout(settling);
  settling = setTimeout(measure, SETTLED, current);
}

/** The exact measurements at the threshold and scale shown: the server computes them from the image. */
async function measure(item) {
  item.stop?.abort();
  const stop = item.stop = new AbortController();
  try {
    const query = { threshold: item.threshold, mm_per_pixel: millimetres() };
    item.answer = await (await segment(item.file, query, stop.signal)).json();
    say(summary(item));
  } catch (error) {
    if (error.name === "AbortError") return;
    say(`Not measured at this threshold: ${asProblem(error).detail}`);
    return;
  }
  if (item.stop === stop) item.stop = null;
  if (item === current) {
    $("measures").removeAttribute("aria-busy");
    render();
  }
}

function millimetres() {
  const value = Number($("scale").value.trim().replace(",", "."));
  return value > 0 && Number.isFinite(value) ? value : undefined;
}

function changeScale() {
  const empty = $("scale").value.trim() === "";
  const fits = empty || millimetres() !== undefined;
  $("scale").setAttribute("aria-invalid", String(!fits));
  $("scale-error").textContent = fits ? "" : "A number above 0, such as 0.02.";
  if (fits && current?.answer) measure(current);
}

async function download(output) {
  const item = current;
  try {
    const response = await segment(item.file, { output, threshold: item.threshold, mm_per_pixel: millimetres() });
    const blob = output === "json" ? new Blob([JSON.stringify(await response.json(), null, 2)], { type: "application/json" }) : await response.blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = output === "json" ? `${stem(item.name)}.json` : `${stem(item.name)}_${output}.png`;
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
  $("threshold").value = service.card.threshold;
  moveThreshold(service.card.threshold);
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
for (const [action, input] of [["choose", $("files")], ["photograph", $("camera")]]) {
  for (const button of document.querySelectorAll(`[data-action=${action}]`)) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
}

// ---- drop, paste, size

let depth = 0; // dragenter and dragleave come for every element on the way
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) document.body.classList.toggle("dragging", ++depth > 0);
});
addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) document.body.classList.toggle("dragging", --depth > 0);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});
addEventListener("paste", (event) => add(event.clipboardData.files));
new ResizeObserver(() => paint()).observe($("stage"));

// ---- start

$("opacity-value").textContent = "100 %";
if (!["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) {
  $("privacy").textContent = `Images go to ${location.hostname} only, and are not kept there`;
}
try {
  service = await fetchModel();
  $("model").textContent = modelLine(service);
  $("formats").textContent = `JPEG, PNG, BMP or TIFF, up to ${Math.round(service.max_upload_bytes / 2 ** 20)} MB and ${Math.round(service.max_pixels / 1e6)} megapixels`;
} catch (error) {
  say(asProblem(error).detail);
}

// Photographs and what is drawn over them.

import { framed, rings, shares, toPath } from "./contour.js";

const LINE = "rgb(86 180 233)"; // sky blue of Okabe and Ito: as in the overlays that `predict` writes
const HALO = "rgb(10 16 20 / 60%)";
const SHADE = 0.35;
const LARGEST = 2000; // pixels kept of a photograph's longer side: as many as a screen shows
// cividis (Nuñez, Anderton and Renslow 2018): even steps, also for the colour-blind.
const COLOURS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];

/** The photograph as a canvas of at most 2000 pixels, turned upright; its native size. Throws where the browser cannot. */
export async function readPhotograph(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const share = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * share));
  canvas.height = Math.max(1, Math.round(bitmap.height * share));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const size = { width: bitmap.width, height: bitmap.height };
  bitmap.close();
  return { photograph: canvas, size };
}

/** A probability map of the API, ready for outlines. */
export async function readMap(map) {
  const bytes = Uint8Array.from(atob(map.png), (c) => c.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(map.width, map.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, map.width, map.height).data;
  const values = new Uint8Array(map.width * map.height);
  for (let i = 0; i < values.length; i++) values[i] = pixels[4 * i];
  return { values, width: map.width, height: map.height, field: framed(values, map.width, map.height), share: shares(values), coloured: null };
}

/** Share of the picture that is lesion at a threshold. */
export function lesionShare(map, threshold) {
  return map.share[Math.floor(threshold * 255)];
}

/**
 * Draw the photograph and its lesion.
 * @param {HTMLCanvasElement} target Sized for its place on the screen by this.
 * @param {HTMLCanvasElement} photograph
 * @param {?object} map From `readMap`, or null before there is an answer.
 * @param {{threshold: number, opacity: number, view: string}} how
 * @param {{width: number, height: number}} room CSS pixels.
 */
export function draw(target, photograph, map, how, room) {
  const scale = Math.min(room.width / photograph.width, room.height / photograph.height);
  const width = Math.max(1, Math.round(photograph.width * scale)), height = Math.max(1, Math.round(photograph.height * scale));
  const dense = window.devicePixelRatio || 1;
  target.style.width = `${width}px`;
  target.style.height = `${height}px`;
  target.width = Math.round(width * dense);
  target.height = Math.round(height * dense);
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(photograph, 0, 0, target.width, target.height);
  if (!map || how.opacity === 0) return;
  const layer = new OffscreenCanvas(target.width, target.height); // so that opacity acts on it as a whole
  drawLesion(layer.getContext("2d"), map, how, dense);
  context.globalAlpha = how.opacity;
  context.drawImage(layer, 0, 0);
  context.globalAlpha = 1;
}

/** A square miniature. */
export function drawThumbnail(target, photograph) {
  const side = Math.min(photograph.width, photograph.height);
  target.width = target.height = 144;
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(photograph, (photograph.width - side) / 2, (photograph.height - side) / 2, side, side, 0, 0, 144, 144);
}

function drawLesion(context, map, how, dense) {
  const { width, height } = context.canvas;
  if (how.view === "probability") {
    map.coloured ??= colour(map);
    context.imageSmoothingQuality = "high";
    context.globalAlpha = 0.85;
    context.drawImage(map.coloured, 0, 0, width, height);
    context.globalAlpha = 1;
  }
  const path = toPath(rings(map.field, how.threshold * 255), width / map.width, height / map.height);
  if (how.view === "shaded") {
    context.globalAlpha = SHADE;
    context.fillStyle = LINE;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
  }
  context.lineJoin = "round";
  context.strokeStyle = HALO;
  context.lineWidth = 5 * dense;
  context.stroke(path);
  context.strokeStyle = how.view === "probability" ? "white" : LINE;
  context.lineWidth = 2.5 * dense;
  context.stroke(path);
}

function colour(map) {
  const canvas = new OffscreenCanvas(map.width, map.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.width, map.height);
  map.values.forEach((value, i) => {
    const place = (value / 255) * (COLOURS.length - 1);
    const low = Math.min(Math.floor(place), COLOURS.length - 2);
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = COLOURS[low][k] + (place - low) * (COLOURS[low + 1][k] - COLOURS[low][k]);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

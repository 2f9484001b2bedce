// Outlines of a probability map: marching squares (Lorensen and Cline 1987, in two dimensions), traced to rings.

const MARGIN = 2; // repeated edge pixels, so that a lesion cut by the picture's border closes outside of it

/**
 * A map with its edge repeated, then a frame of zeros: every ring on it is closed.
 * @param {Uint8Array} values width × height, the probability times 255.
 * @returns {{values: Uint8Array, width: number, height: number}}
 */
export function framed(values, width, height) {
  const pad = MARGIN + 1;
  const wide = width + 2 * pad, high = height + 2 * pad;
  const out = new Uint8Array(wide * high);
  for (let y = 1; y < high - 1; y++) {
    const from = Math.min(Math.max(y - pad, 0), height - 1) * width;
    for (let x = 1; x < wide - 1; x++) {
      out[y * wide + x] = values[from + Math.min(Math.max(x - pad, 0), width - 1)];
    }
  }
  return { values: out, width: wide, height: high };
}

/**
 * Rings along which the map crosses a level, lesion on their left.
 * @param {{values: Uint8Array, width: number, height: number}} field From `framed`.
 * @param {number} level In the map's units; above it is lesion.
 * @returns {Float32Array[]} x, y, x, y … in pixels of the unframed map, from its upper left corner.
 */
export function rings(field, level) {
  const { values, width, height } = field;
  // A crossing lies on an edge of the grid: 2·i to the right of pixel i, 2·i + 1 below it.
  const next = new Int32Array(2 * values.length).fill(-1);
  const starts = [];
  const link = (from, to) => { next[from] = to; starts.push(from); };
  for (let y = 0; y < height - 1; y++) {
    for (let x = 0; x < width - 1; x++) {
      const i = y * width + x;
      const a = values[i], b = values[i + 1], c = values[i + width + 1], d = values[i + width];
      const kind = (a > level ? 1 : 0) | (b > level ? 2 : 0) | (c > level ? 4 : 0) | (d > level ? 8 : 0);
      if (kind === 0 || kind === 15) continue;
      const top = 2 * i, left = 2 * i + 1, bottom = 2 * (i + width), right = 2 * (i + 1) + 1;
      switch (kind) {
        case 1: link(top, left); break;
        case 2: link(right, top); break;
        case 3: link(right, left); break;
        case 4: link(bottom, right); break;
        case 6: link(bottom, top); break;
        case 7: link(bottom, left); break;
        case 8: link(left, bottom); break;
        case 9: link(top, bottom); break;
        case 11: link(right, bottom); break;
        case 12: link(left, right); break;
        case 13: link(top, right); break;
        case 14: link(left, top); break;
        default: { // a saddle: the mean says whether its two lesion corners touch
          const joined = a + b + c + d > 4 * level;
          if (kind === 5) {
            if (joined) { link(top, right); link(bottom, left); } else { link(top, left); link(bottom, right); }
          } else if (joined) { link(left, top); link(right, bottom); } else { link(left, bottom); link(right, top); }
        }
      }
    }
  }
  const found = [];
  for (const start of starts) {
    if (next[start] < 0) continue;
    const points = [];
    for (let edge = start; next[edge] >= 0;) {
      place(field, level, edge, points);
      const to = next[edge];
      next[edge] = -1;
      edge = to;
    }
    found.push(Float32Array.from(points));
  }
  return found;
}

/** Rings as a path on a canvas of the given size; fill it with the rule "evenodd". */
export function toPath(found, scaleX, scaleY) {
  const path = new Path2D();
  for (const ring of found) {
    path.moveTo(ring[0] * scaleX, ring[1] * scaleY);
    for (let k = 2; k < ring.length; k += 2) path.lineTo(ring[k] * scaleX, ring[k + 1] * scaleY);
    path.closePath();
  }
  return path;
}

/** Share of pixels above a level, for every level 0 … 255: index by Math.floor(level). */
export function shares(values) {
  const counts = new Float64Array(256);
  for (const value of values) counts[value]++;
  let above = values.length;
  return counts.map((count) => (above -= count) / values.length);
}

function place(field, level, edge, points) {
  const { values, width } = field;
  const i = edge >> 1, down = edge & 1;
  const from = values[i], to = values[i + (down ? width : 1)];
  const step = (level - from) / (to - from);
  points.push((i % width) + (down ? 0 : step) + 0.5 - MARGIN - 1, Math.floor(i / width) + (down ? step : 0) + 0.5 - MARGIN - 1);
}

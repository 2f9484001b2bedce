// Numbers and names as they are shown.

/** 0.1234 → "12.3 %". */
export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
}

/** The file's name without its ending, for the names of downloads. */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "image";
}

/**
 * Rows of the table of measurements: [name, value, whether the server has to compute it again].
 * @param {object} answer Of /v1/segment.
 * @param {number} share Lesion's share of the picture at the threshold shown now.
 */
export function measureRows(answer, share) {
  const { measures } = answer;
  const rows = [["Lesion area", `${percent(share)} of the image`, false]];
  if (measures.area_mm2 !== undefined) rows.push(["", `${figures(measures.area_mm2)} mm²`, true]);
  if (measures.regions > 1) rows.push(["Regions", String(measures.regions), true]);
  for (const [key, name] of [["longest_diameter", "Longest diameter"], ["perimeter", "Perimeter"]]) {
    const px = measures[`${key}_px`], mm = measures[`${key}_mm`];
    if (px !== undefined) rows.push([name, mm === undefined ? `${Math.round(px)} px` : `${figures(mm)} mm`, true]);
  }
  if (measures.asymmetry !== undefined) {
    rows.push(["Asymmetry (0 to 1)", measures.asymmetry.toFixed(2), true]);
    rows.push(["Compactness (circle: 1)", measures.compactness.toFixed(2), true]);
    rows.push(["Solidity (convex: 1)", measures.solidity.toFixed(2), true]);
  }
  rows.push(["Mean probability inside", answer.confidence.toFixed(2), true]);
  if (answer.uncertainty !== null) rows.push(["Disagreement of views", answer.uncertainty.toFixed(2), true]);
  return rows;
}

const NAMES = { not_dermoscopy: "whether this is a dermoscopic picture" };

/** What the checks say where they warn of nothing. */
export function silence(answer) {
  const missing = answer.not_checked.map((code) => NAMES[code] ?? code.replaceAll("_", " "));
  const untested = missing.length ? ` Not checked: ${missing.join(", ")}.` : "";
  return (answer.warnings.length ? "" : "No warnings.") + untested;
}

function figures(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

const TITLES = {
  busy: "The server is busy",
  timeout: "It took too long",
  too_large: "The file is too large",
  too_many_pixels: "The image has too many pixels",
  unreadable_image: "This image cannot be read",
  no_image: "There is no image in it",
  unreachable: "No answer",
};

/** A problem's heading, for people. */
export function problemTitle(problem) {
  return TITLES[problem.code] ?? (problem.title || "Failed");
}

/** One image's state in a sentence. */
export function summary(item, share) {
  if (item.problem) return `${item.name}: ${item.problem.detail}`;
  const warned = item.answer.warnings.length;
  const found = share > 0 ? `the lesion covers ${percent(share)} of the image at threshold ${item.threshold.toFixed(2)}.` : "no lesion was found.";
  return `${item.name}: ${found}${warned ? ` ${warned} warning${warned > 1 ? "s" : ""}.` : ""}`;
}

/** How far all images are. */
export function tally(items) {
  const failed = items.filter((each) => each.problem).length;
  const done = items.filter((each) => each.answer).length;
  return `${done} of ${items.length} images are done${failed ? `, ${failed} failed` : ""}.`;
}

/** The picture in words. */
export function pictureLabel(item, share) {
  if (!item.answer) return `Photograph ${item.name}`;
  return `Photograph ${item.name}, lesion outlined: ${percent(share)} of the image at threshold ${item.threshold.toFixed(2)}`;
}

/** What the card says about the model, in one line. */
export function modelLine(service) {
  const { card } = service;
  return `dermdistill ${service.version} · ${card.recipe} · ${card.input_size} × ${card.input_size}`;
}

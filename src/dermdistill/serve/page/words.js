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
  const rows = [["Lesion area", `${percent(share)} of the image`, false]];
  const box = answer.bounding_box;
  rows.push(["Extent", box ? `${box[2] - box[0]} × ${box[3] - box[1]} px` : "none", true]);
  rows.push(["Mean confidence", percent(answer.mean_confidence), true]);
  return rows;
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

/** What the card says about the model, in one line. */
export function modelLine(service) {
  const { card } = service;
  return `dermdistill ${service.version} · ${card.recipe} · ${card.input_size} × ${card.input_size}`;
}

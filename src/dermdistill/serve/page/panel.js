// The panel beside the picture: checks, measurements; and the card that tells a problem.

import { measureRows, percent, problemTitle, silence } from "./words.js";

const $ = (id) => document.getElementById(id);

/** Warnings, and what was not checked. */
export function showChecks(answer) {
  $("checks").classList.toggle("warned", answer.warnings.length > 0);
  $("silence").textContent = silence(answer);
  $("warning-list").replaceChildren(...answer.warnings.map(({ message }) => element("li", message)));
}

/**
 * The table of measurements, and the threshold in figures.
 * @param {object} answer Of /v1/segment, perhaps at another threshold.
 * @param {number} threshold Shown now.
 * @param {number} share Of the picture that is lesion at this threshold.
 * @param {boolean} stale Whether the server's measurements are of another threshold or scale.
 */
export function showMeasures(answer, threshold, share, stale) {
  $("threshold-value").textContent = threshold.toFixed(2);
  $("threshold").setAttribute("aria-valuetext", `${threshold.toFixed(2)}, lesion ${percent(share)} of the image`);
  $("measures").setAttribute("aria-busy", String(stale));
  $("measures").replaceChildren(...measureRows(answer, share).map(([name, value, exact]) => {
    const row = element("div");
    row.className = exact ? "exact" : "";
    row.append(element("dt", name), element("dd", value));
    return row;
  }));
}

/** What went wrong, or nothing. */
export function showProblem(problem) {
  $("problem").hidden = !problem;
  if (!problem) return;
  $("problem-title").textContent = problemTitle(problem);
  $("problem-detail").textContent = problem.detail;
  $("problem-fix").textContent = [problem.expected && `Expected: ${problem.expected}.`, problem.fix].filter(Boolean).join(" ");
  $("problem-id").textContent = problem.request_id && `Request ${problem.request_id}`;
  // Asking again helps where the image is not at fault.
  $("again").hidden = problem.status >= 400 && problem.status < 500 && ![408, 429].includes(problem.status);
}

function element(name, text = "") {
  return Object.assign(document.createElement(name), { textContent: text });
}

// The HTTP API, as the page uses it.

/** A refusal (RFC 9457), or a server that cannot be reached. */
export class Problem extends Error {
  constructor(values) {
    super(values.detail);
    Object.assign(this, { status: 0, title: "", code: "", expected: "", fix: "", request_id: "" }, values);
  }
}

const PATIENCE = 8; // times that a busy server is asked again

/** The model's card and the server's limits. */
export async function fetchModel() {
  return (await answered(await reach("v1/model", {}))).json();
}

/**
 * Ask for one image; waits and asks again while the server is busy.
 * @param {Blob} file
 * @param {Object} query Parameters of /v1/segment; undefined ones are left out.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
export async function segment(file, query, signal) {
  const wanted = Object.entries(query).filter(([, value]) => value !== undefined);
  const path = `v1/segment?${new URLSearchParams(wanted)}`;
  const headers = { "Content-Type": file.type.startsWith("image/") ? file.type : "application/octet-stream" };
  for (let asked = 1; ; asked++) {
    const response = await reach(path, { method: "POST", headers, body: file, signal });
    if (response.status !== 429 || asked === PATIENCE) return answered(response);
    await pause(Number(response.headers.get("Retry-After") ?? 1) * 1000, signal);
  }
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", code: "unreachable", detail: "The server does not answer.", fix: "Start it again with dermdistill serve, then try again." });
  }
}

async function answered(response) {
  if (response.ok) return response;
  const values = await response.json().catch(() => ({}));
  throw new Problem({ title: "Failed", detail: `The server answered ${response.status}.`, status: response.status, ...values });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("aborted", "AbortError")); }, { once: true });
  });
}

// Where the served page has its answers from: POST /classify. The exported page has another file of this name.

const TRIES = 6;
// A model that can say what it does not know is asked to.
const coverage = document.getElementById("answer").dataset.coverage;
const NO_ANSWER = "The server does not answer. Is it still running?";

export const ready = Promise.resolve();

// {predictions: [{label, probability}, ...], version} of an image (Blob) or the address of one, the `top` likeliest; of
// a model that can say what it does not know also {label, reason, label_set, unlike}.
// With `similar`, also so many of the nearest works: [{title, label, credit_line, link, thumbnail, ...}, ...].
// With `explain`, also {explanation: {label, probability, lowest, picture}}.
// A busy server is asked again by who is `patient`. Throws Error with words for a person, and AbortError.
export async function classify(image, top, {signal, patient = false, similar = 0, explain = 0} = {}) {
  const byUrl = typeof image === "string";
  // A file's name stays here: the server is sent the bytes and nothing else.
  const body = byUrl ? JSON.stringify({url: image}) : image;
  const headers = {"Content-Type": byUrl ? "application/json" : "application/octet-stream"};
  const url = `classify?top=${top}${coverage ? `&coverage=${coverage}` : ""}`;
  for (let tries = 1; ; tries++) {
    const response = await fetch(`${url}&similar=${similar}&explain=${explain}`, {method: "POST", body, headers, signal}).catch(unreachable);
    const content = await response.json().catch(unreachable);
    if (response.ok) return content;
    if (!patient || response.status !== 503 || tries === TRIES) throw new Error(content.error);
    await new Promise(done => setTimeout(done, 1000 * (response.headers.get("Retry-After") || 1) * tries));
  }
}

// Sends an image with the class that it should have had. Throws Error with words for a person.
export async function correct(image, label) {
  const byUrl = typeof image === "string";
  const headers = {"Content-Type": byUrl ? "application/json" : "application/octet-stream"};
  const body = byUrl ? JSON.stringify({url: image}) : image;
  const response = await fetch(`correct?label=${encodeURIComponent(label)}`, {method: "POST", body, headers}).catch(unreachable);
  const content = await response.json().catch(unreachable);
  if (!response.ok) throw new Error(content.error);
}

function unreachable(error) {
  throw error.name === "AbortError" ? error : new Error(NO_ANSWER);
}

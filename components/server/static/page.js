"use strict";
// Four ways to give a picture (drop, choose, paste, URL), one way to ask: POST /classify with the very bytes.

const element = id => document.getElementById(id);
const drop = element("drop"), file = element("file"), preview = element("preview"), answer = element("answer");
const STATES = ["empty", "busy", "error", "result"];
let asked = null;
// Behind an ingress the page may lie below a path that the server does not know.
element("address").textContent = new URL(".", location).href;

function show(state) {
  for (const name of STATES) element(name).hidden = name !== state;
  answer.setAttribute("aria-busy", state === "busy");
  // On a phone the answer is below the picture.
  if (state === "result" || state === "error") answer.scrollIntoView({block: "nearest"});
}

function showPicture(source) {
  if (preview.src.startsWith("blob:")) URL.revokeObjectURL(preview.src);
  preview.src = source;
  preview.referrerPolicy = "no-referrer";
  preview.hidden = element("again").hidden = false;
  element("hint").hidden = true;
}

function hidePicture() {
  preview.hidden = element("again").hidden = true;
  element("hint").hidden = false;
}

function showError(text) {
  element("error").textContent = text;
  show("error");
}

function bar({label, probability}) {
  const item = document.createElement("li"), track = document.createElement("span"), bar = document.createElement("span");
  for (const [name, text] of [["label", label], ["value", `${(probability * 100).toFixed(1)} %`]]) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    item.append(part);
  }
  track.className = "track";
  bar.className = "bar";
  bar.style.width = `${probability * 100}%`;
  track.append(bar);
  item.append(track);
  return item;
}

function showAnswer({predictions, version}, milliseconds) {
  element("best").textContent = predictions[0].label;
  element("bars").replaceChildren(...predictions.map(bar));
  element("unsure").hidden = predictions[0].probability > 0.5;
  element("took").textContent = `Model ${version}, ${Math.round(milliseconds)} ms`;
  show("result");
}

async function ask(body, headers) {
  asked?.abort();
  const mine = asked = new AbortController();
  show("busy");
  const started = performance.now();
  try {
    const response = await fetch(`classify?top=${answer.dataset.top}`, {method: "POST", body, headers, signal: mine.signal});
    const content = await response.json();
    if (response.ok) showAnswer(content, performance.now() - started);
    else showError(content.error);
  } catch (error) {
    if (error.name !== "AbortError") showError("The server does not answer. Is it still running?");
  }
}

function give(picture) {
  if (!picture) return;
  showPicture(URL.createObjectURL(picture));
  // The name stays here: the server is sent the bytes and nothing else.
  ask(picture, {"Content-Type": "application/octet-stream"});
}

file.addEventListener("change", () => { give(file.files[0]); file.value = ""; });
preview.addEventListener("error", hidePicture);

for (const name of ["dragenter", "dragover"]) document.addEventListener(name, event => {
  event.preventDefault();
  drop.classList.add("over");
});
for (const name of ["dragleave", "drop"]) document.addEventListener(name, event => {
  event.preventDefault();
  if (name === "drop" || !event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", event => {
  const link = event.dataTransfer.getData("text/uri-list");
  if (event.dataTransfer.files.length) give(event.dataTransfer.files[0]);
  else if (link) giveUrl(link);
});

document.addEventListener("paste", event => {
  const picture = [...event.clipboardData.files].find(item => item.type.startsWith("image/"));
  if (picture) { event.preventDefault(); give(picture); }
});

function giveUrl(url) {
  showPicture(url);
  ask(JSON.stringify({url}), {"Content-Type": "application/json"});
}

element("by-url")?.addEventListener("submit", event => { event.preventDefault(); giveUrl(element("url").value.trim()); });

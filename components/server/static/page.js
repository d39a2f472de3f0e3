// Five ways to give an image (drop, choose, photograph, paste, URL), one way to ask: classify.js.

import {classify, ready} from "./classify.js";
// What only a served page has: an exported one has no such functions, nor the forms that call them.
import * as service from "./classify.js";

const element = id => document.getElementById(id);
const drop = element("drop"), file = element("file"), preview = element("preview"), answer = element("answer");
const several = element("several"), AT_ONCE = 2;
const STATES = ["empty", "busy", "error", "result"];
let asked = null, shown = null;  // the question under way, and the image that the answer is about
// Behind an ingress the page may lie below a path that the server does not know.
for (const name of ["address", "here"]) if (element(name)) element(name).textContent = new URL(".", location).href;
// What only this machine can open is no address for another.
element("elsewhere").hidden = /^(localhost$|127\.|\[::1\]$)/.test(location.hostname);
if (element("code") && !element("elsewhere").hidden) {
  element("code").src = "address.svg";
  element("code").onload = () => { element("code").hidden = false; };
}

function show(state) {
  for (const name of STATES) element(name).hidden = name !== state;
  if (state !== "result") showWorks();
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

// Nothing is asked of a museum before somebody follows a link to it.
function workItem({title, object_id, label, credit_line, link, similarity, thumbnail}) {
  const item = document.createElement("li"), name = document.createElement(link ? "a" : "span");
  if (thumbnail) {
    const picture = document.createElement("img");
    picture.src = thumbnail;
    picture.alt = "";
    item.append(picture);
  }
  name.textContent = title || object_id;
  if (link) Object.assign(name, {href: link, target: "_blank", rel: "noopener noreferrer"});
  const lines = [[label, "class"], [credit_line, "soft"], [`similarity ${similarity.toFixed(2)}`, "soft"]];
  item.append(name, ...lines.filter(([text]) => text).map(([text, kind]) => {
    const line = document.createElement("span");
    line.textContent = text;
    line.className = kind;
    return line;
  }));
  return item;
}

function showWorks(works = []) {
  element("works").replaceChildren(...works.map(workItem));
  element("similar").hidden = !works.length;
}

// Why there is no one answer; empty where there is. Models of earlier releases only have their probabilities to say.
function doubt({predictions, label, label_set, unlike}) {
  if (label === undefined) return predictions[0].probability > 0.5 ? "" : "The model is not sure: no class has more than half of the probability.";
  if (label !== null) return "";
  if (unlike) return "This image is unlike those that the model learned from: do not rely on these classes.";
  if (!label_set.length) return "No class is likely enough.";
  const shown = label_set.slice(0, 5).join(", ") + (label_set.length > 5 ? ` and ${label_set.length - 5} more` : "");
  return `Cannot be told apart for sure: ${shown}.`;
}

function showAnswer(found, milliseconds) {
  const {predictions, version, label, works} = found, why = doubt(found);
  element("best").textContent = label === null ? "I do not know" : predictions[0].label;
  element("verdict").hidden = label === null;
  element("bars").replaceChildren(...predictions.map(bar));
  element("unsure").textContent = why;
  element("unsure").hidden = !why;
  showWorks(works);
  forgetWhy();
  if (element("sent")) element("sent").textContent = element("right").value = "";
  element("took").textContent = `Model ${version}, ${Math.round(milliseconds)} ms`;
  show("result");
}

async function ask(image) {
  asked?.abort();
  const mine = asked = new AbortController();
  shown = image;
  show("busy");
  const started = performance.now();
  try {
    const content = await classify(image, answer.dataset.top, {signal: mine.signal, similar: answer.dataset.similar});
    if (asked === mine) showAnswer(content, performance.now() - started);
  } catch (error) {
    if (asked === mine && error.name !== "AbortError") showError(error.message);
  }
}

function give(picture) {
  if (!picture) return;
  showPicture(URL.createObjectURL(picture));
  ask(picture);
}

// One image has the page; several have a table.
function giveAll(files) {
  const images = [...files];
  batch = null;
  several.hidden = images.length < 2;
  if (images.length > 1) giveSeveral(images);
  else give(images[0]);
}

function forgetWhy() {
  if (!element("why")) return;
  element("heat").hidden = true;
  element("asking").textContent = "";
  element("why").disabled = false;
}

element("why")?.addEventListener("click", async () => {
  const mine = asked;
  element("why").disabled = true;
  element("asking").textContent = "Covering parts of it, one after the other …";
  try {
    const {explanation: {label, probability, lowest, picture}} = await service.classify(shown, 1, {signal: mine.signal, explain: 1});
    if (asked !== mine) return;
    const [image, caption] = element("heat").children;
    image.src = picture;
    caption.textContent = `Warm: what speaks for ${label}. Covered there, ${percent(probability)} become ${percent(lowest)}.`;
    element("heat").hidden = false;
    element("asking").textContent = "";
  } catch (error) {
    if (asked !== mine) return;
    element("asking").textContent = error.message;
    element("why").disabled = false;
  }
});

element("correction")?.addEventListener("submit", async event => {
  event.preventDefault();
  const sent = element("sent");
  sent.textContent = "Sending …";
  try {
    await service.correct(shown, element("right").value);
    sent.textContent = "Thank you: a person will look at it.";
  } catch (error) {
    sent.textContent = error.message;
  }
});

let batch = null;

function cell(row, text, kind = "td", name = "") {
  const part = document.createElement(kind);
  part.textContent = text;
  part.className = name;
  row.append(part);
  return part;
}

function startRow(image) {
  const row = document.createElement("tr"), thumbnail = document.createElement("img");
  thumbnail.alt = "";
  thumbnail.src = URL.createObjectURL(image);
  thumbnail.onload = () => URL.revokeObjectURL(thumbnail.src);
  thumbnail.onerror = () => thumbnail.remove();
  cell(row, "").append(thumbnail);
  cell(row, image.name, "th").scope = "row";
  element("rows").append(row);
  return row;
}

const percent = probability => `${(probability * 100).toFixed(1)} %`;

async function fillRow({image, row, found}) {
  try {
    const answered = await classify(image, 2, {patient: true}), [best, next] = found.predictions = answered.predictions;
    found.uncertain = answered.label === null;
    const shown = cell(row, best.label + (found.uncertain ? " ?" : ""), "td", found.uncertain ? "uncertain" : "class");
    if (found.uncertain) shown.title = doubt(answered);
    cell(row, percent(best.probability), "td", "number");
    cell(row, next ? `${next.label} ${percent(next.probability)}` : "");
  } catch (error) {
    found.error = error.message;
    cell(row, found.error, "td", "failed").colSpan = 3;
  }
}

async function giveSeveral(images) {
  asked?.abort();
  asked = null;
  hidePicture();
  show("empty");
  element("rows").replaceChildren();
  element("copied").textContent = "";
  const mine = batch = images.map(image => ({image, row: startRow(image), found: {}})), waiting = [...mine];
  let done = 0;
  const tell = () => {
    if (batch === mine) element("progress").textContent = done < mine.length ? `${done} of ${mine.length} done` : `All ${done} done`;
  };
  tell();
  several.scrollIntoView({block: "nearest"});
  await Promise.all(Array.from({length: AT_ONCE}, async () => {
    while (waiting.length && batch === mine) {
      await fillRow(waiting.shift());
      done++;
      tell();
    }
  }));
}

function table() {
  const line = ({image, found: {predictions: [best, next] = [], uncertain, error}}) =>
    [image.name, best?.label ?? "", best?.probability ?? "", next?.label ?? "", next?.probability ?? "", uncertain ? "uncertain" : "", error ?? ""];
  return [["image", "class", "probability", "next class", "its probability", "reason", "error"], ...batch.map(line)];
}

// A spreadsheet would take what begins like a formula for one.
const plain = value => typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
const quoted = value => /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;

async function copyText(text, status) {
  try {
    await navigator.clipboard.writeText(text);  // only at https:// and on this machine
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  element(status).textContent = "Copied";
}

element("copy").addEventListener("click", () =>
  copyText(table().map(line => line.map(value => plain(value).replace(/[\t\r\n]/g, " ")).join("\t")).join("\n"), "copied"));
element("copy-address").addEventListener("click", () => copyText(element("here").textContent, "address-copied"));
element("save").addEventListener("click", () => {
  const text = "\ufeff" + table().map(line => line.map(value => quoted(plain(value))).join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  link.download = "classes.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

for (const input of [file, element("photo")])
  input.addEventListener("change", () => { if (input.files.length) giveAll(input.files); input.value = ""; });
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
  if (event.dataTransfer.files.length) giveAll(event.dataTransfer.files);
  else if (link) giveUrl(link);
});

document.addEventListener("paste", event => {
  const images = [...event.clipboardData.files].filter(item => item.type.startsWith("image/"));
  if (images.length) { event.preventDefault(); giveAll(images); }
});

function giveUrl(url) {
  showPicture(url);
  ask(url);
}

element("by-url")?.addEventListener("submit", event => { event.preventDefault(); giveUrl(element("url").value.trim()); });
ready.catch(error => showError(error.message));

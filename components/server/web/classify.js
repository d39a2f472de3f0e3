// Where the exported page has its answers from: the model itself, run here by LiteRT.js.

import {loadAndCompile, loadLiteRt, Tensor} from "@litertjs/core";
import {modelInput} from "./geometry.js";

const {version, view, storedSize, inputSize, scale, zero} = document.querySelector("main").dataset;
const side = Number(inputSize);
let turn = Promise.resolve();

// By its file: of the two that differ in speed alone this one runs in every browser.
export const ready = load().catch(error => { throw new Error(`The model cannot be loaded here: ${error.message ?? error}`); });

async function load() {
  navigator.serviceWorker?.register("sw.js").catch(() => {});  // without it the page needs the network once a visit
  const [labels] = await Promise.all([read("labels.txt"), loadLiteRt(at("runtime/litert_wasm_compat_internal.js"))]);
  const model = await loadAndCompile(at("model.tflite"), {accelerator: "wasm"});
  return {model, labels: labels.split("\n").slice(0, -1)};
}

function at(name) {
  return new URL(name, document.baseURI).href;
}

async function read(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response.text();
}

// {predictions: [{label, probability}, ...], version} of an image (Blob), the `top` likeliest, one image after the other.
// Throws Error with words for a person, and AbortError.
export function classify(image, top, {signal} = {}) {
  const mine = turn.then(() => answer(image, top, signal));
  turn = mine.catch(() => {});
  return mine;
}

async function answer(image, top, signal) {
  signal?.throwIfAborted();
  if (typeof image === "string") throw new Error("This page cannot fetch an image by its address: save it, and give the file.");
  const {model, labels} = await ready, row = await run(model, await modelInput(image, Number(storedSize), side, view));
  // Six digits are all that float32 says of a probability; the order is that of the unrounded ones.
  const order = [...labels.keys()].sort((one, other) => row[other] - row[one]).slice(0, top);
  return {version, predictions: order.map(index => ({label: labels[index], probability: Math.round(row[index] * 1e6) / 1e6}))};
}

async function run(model, pixels) {
  const input = new Tensor(values(pixels, model.getInputDetails()[0].dtype), [1, side, side, 3]);
  const outputs = await model.run(input);
  try {
    return outputs[0].toTypedArray().slice();
  } finally {
    for (const tensor of [input, ...outputs]) tensor.delete();
  }
}

// An int8 model counts in steps of its own.
function values(pixels, dtype) {
  if (dtype === "float32") return Float32Array.from(pixels);
  return Uint8Array.from(Uint8ClampedArray.from(pixels, value => value / scale + Number(zero)));
}

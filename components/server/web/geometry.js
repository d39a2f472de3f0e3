// What the model sees of an image: the geometry of components/shared/imaging.py, to the last digit.
// Images are {width, height, rows}: rows(first, count) gives {pixels, channels}, RGB or RGBA.

const MAX_ASPECT = 100, SHRINK_MARGIN = 1.25;
const NO_PICTURE = "This is no picture that the browser can read: convert it to JPEG or PNG.";

// [side, side, 3] uint8 of an encoded image (Blob). Throws Error with words for a person.
export async function modelInput(blob, storedSize, side, view) {
  const bitmap = await decoded(blob);
  try {
    const whole = onWhite(bitmap), image = await isJpeg(blob) ? shrink(whole, storedSize) : whole;
    const scale = storedSize / Math.min(image.width, image.height);
    const size = length => Math.max(storedSize, round(length * scale));
    const stored = resize(image, size(image.width), size(image.height));
    return view === "whole" ? resize(stored, side, side).pixels : centerCrop(stored, side);
  } finally {
    bitmap.close();
  }
}

// In sRGB, and turned as its EXIF says: the browser does both.
async function decoded(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "default"});
  } catch {
    throw new Error(NO_PICTURE);
  }
  const {width, height} = bitmap;
  if (Math.max(width, height) <= MAX_ASPECT * Math.min(width, height)) return bitmap;
  bitmap.close();
  throw new Error(`A picture of ${width} x ${height} pixels is too thin.`);
}

// Some rows at a time: a canvas of 50 megapixels is more than a phone allows.
function onWhite(bitmap) {
  const {width, height} = bitmap, canvas = document.createElement("canvas");
  canvas.width = width;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const rows = (first, count) => {
    if (canvas.height < count) canvas.height = count;
    context.fillStyle = "white";
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, first, width, count, 0, 0, width, count);
    return {pixels: context.getImageData(0, 0, width, count).data, channels: 4};
  };
  return {width, height, rows};
}

async function isJpeg(blob) {
  const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
  return first === 0xff && second === 0xd8;
}

// The server's decoder shrinks a large JPEG while it decodes it, by 2, 4 or 8, which is very nearly the mean of blocks.
function shrink(image, storedSize) {
  const short = Math.min(image.width, image.height), smallest = Math.ceil(storedSize * SHRINK_MARGIN);
  const factor = [8, 4, 2].find(factor => short >= factor * smallest);
  if (!factor) return image;
  const width = Math.ceil(image.width / factor), height = Math.ceil(image.height / factor);
  const pixels = new Uint8ClampedArray(width * height * 3), sums = new Float64Array(width * 3);
  for (let y = 0; y < height; y++) {
    const count = Math.min(factor, image.height - y * factor), source = image.rows(y * factor, count).pixels;
    sums.fill(0);
    for (let at = 0, row = 0; row < count; row++)
      for (let x = 0; x < image.width; x++, at += 4) {
        const block = Math.floor(x / factor) * 3;
        sums[block] += source[at];
        sums[block + 1] += source[at + 1];
        sums[block + 2] += source[at + 2];
      }
    for (let x = 0; x < width; x++) {
      const number = count * Math.min(factor, image.width - x * factor);
      for (let at = x * 3; at < x * 3 + 3; at++) pixels[y * width * 3 + at] = Math.floor(sums[at] / number + 0.5);
    }
  }
  return inMemory(width, height, pixels);
}

function inMemory(width, height, pixels) {
  const rows = (first, count) => ({pixels: pixels.subarray(first * width * 3, (first + count) * width * 3), channels: 3});
  return {width, height, rows, pixels};
}

// Bilinear with antialiasing, a triangle as wide as the scale: down the columns, then along the rows.
function resize(image, width, height) {
  const down = triangles(image.height, height), across = triangles(image.width, width);
  const line = new Uint8ClampedArray(image.width * 3), pixels = new Uint8ClampedArray(width * height * 3);
  for (let y = 0; y < height; y++) {
    const {first, weights} = down.kernels[y], {pixels: source, channels} = image.rows(first, weights.length);
    for (let x = 0; x < image.width; x++)
      blend(source, x * channels, image.width * channels, weights, down.unit, line, x * 3);
    for (let x = 0; x < width; x++)
      blend(line, across.kernels[x].first * 3, 3, across.kernels[x].weights, across.unit, pixels, (y * width + x) * 3);
  }
  return inMemory(width, height, pixels);
}

function blend(source, from, step, weights, unit, target, at) {
  let red = 0, green = 0, blue = 0;
  for (let number = 0; number < weights.length; number++, from += step) {
    const weight = weights[number];
    red += weight * source[from];
    green += weight * source[from + 1];
    blue += weight * source[from + 2];
  }
  target[at] = Math.floor(red / unit + 0.5);
  target[at + 1] = Math.floor(green / unit + 0.5);
  target[at + 2] = Math.floor(blue / unit + 0.5);
}

// For each of `to` pixels the first of `from` that it is made of, and the weights of that and those that follow. They
// are whole numbers, in parts of `unit`, as the server's resizer has them: the largest that fit into 16 bits.
function triangles(from, to) {
  const scale = from / to, support = Math.max(scale, 1);
  const exact = Array.from({length: to}, (_, index) => {
    const center = (index + 0.5) * scale, first = Math.max(0, Math.floor(center - support + 0.5));
    const length = Math.min(from, Math.floor(center + support + 0.5)) - first;
    const weights = Array.from({length}, (_, number) => Math.max(0, 1 - Math.abs(first + number + 0.5 - center) / support));
    const sum = weights.reduce((total, weight) => total + weight);
    return {first, weights: weights.map(weight => weight / sum)};
  });
  const largest = Math.max(...exact.map(({weights}) => Math.max(...weights)));
  let unit = 1;
  while (Math.round(largest * unit * 2) < 1 << 15) unit *= 2;
  const kernels = exact.map(({first, weights}) => ({first, weights: Int32Array.from(weights, weight => Math.round(weight * unit))}));
  return {kernels, unit};
}

function centerCrop({width, height, pixels}, side) {
  const top = (height - side) >> 1, left = (width - side) >> 1, found = new Uint8ClampedArray(side * side * 3);
  for (let y = 0; y < side; y++) {
    const start = ((top + y) * width + left) * 3;
    found.set(pixels.subarray(start, start + side * 3), y * side * 3);
  }
  return found;
}

// As Python does: halves to the even number.
function round(value) {
  const below = Math.floor(value), half = value - below;
  return half > 0.5 || (half === 0.5 && below % 2) ? below + 1 : below;
}

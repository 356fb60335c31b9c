// Classifies images with a file of milenas-export in ONNX Runtime, without this project's programs.
//
//     node classify.js model.onnx photo.jpg more/*.png
//
// prints a JSON line an image: path, label, probability. labels.txt and preprocess.json are read beside the model:
// `milenas-export ... --sidecars` writes them, since ONNX Runtime for JavaScript reads no metadata. Decoding is sharp's;
// resizing is here, because no other filter is as near to what the network was trained with as the same one.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const ort = require('onnxruntime-node');
const sharp = require('sharp');

/** Antialiased bilinear along rows of `length` pixels, which become `size`, rounded to bytes. */
function resizeAxis(source, lines, length, size) {
  const out = new Uint8Array(lines * size * 3);
  const scale = length / size;
  const radius = Math.max(scale, 1);
  for (let x = 0; x < size; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - radius + 0.5));
    const last = Math.min(length, Math.floor(centre + radius + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs(i + 0.5 - centre) / radius));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < 3; c++) {
        let value = 0;
        weights.forEach((w, i) => { value += w * source[(line * length + first + i) * 3 + c]; });
        out[(line * size + x) * 3 + c] = Math.round(value / sum);
      }
    }
  }
  return out;
}

function transpose(pixels, height, width) {
  const out = new Uint8Array(pixels.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 3; c++) out[(x * height + y) * 3 + c] = pixels[(y * width + x) * 3 + c];
  return out;
}

function resize(pixels, height, width, toHeight, toWidth) {
  const across = resizeAxis(pixels, height, width, toWidth);
  return transpose(resizeAxis(transpose(across, height, toWidth), toWidth, height, toHeight), toWidth, toHeight);
}

function roundHalfToEven(x) {
  return x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/** Upright, over the background, resized and cropped: bytes [H, W, 3]. */
async function prepare(file, recipe) {
  let image = sharp(file).autoOrient().toColourspace('srgb');
  const [r, g, b] = recipe.background ?? [0, 0, 0];
  image = recipe.background ? image.flatten({ background: { r, g, b } }) : image.removeAlpha();
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const { height, width } = recipe;
  if (info.height === height && info.width === width) return data;
  if (recipe.resize === 'stretch') return resize(data, info.height, info.width, height, width);
  const shorter = Math.min(info.height, info.width);
  const scaled = (length, least) => Math.max(Math.floor((length * recipe.resize.shorter_side.side) / shorter), least);
  const [h, w] = [scaled(info.height, height), scaled(info.width, width)];
  const whole = resize(data, info.height, info.width, h, w);
  const [top, left] = [roundHalfToEven((h - height) / 2), roundHalfToEven((w - width) / 2)];
  const out = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++)
    out.set(whole.subarray(((top + y) * w + left) * 3, ((top + y) * w + left + width) * 3), y * width * 3);
  return out;
}

/** What the network takes of the bytes. */
function tensor(pixels, how) {
  const { height, width, mean, std } = how.input;
  if (how.dtype === 'uint8') return new ort.Tensor('uint8', Uint8Array.from(pixels), [1, height, width, 3]);
  const area = height * width;
  const floats = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < area; i++) floats[c * area + i] = (pixels[3 * i + c] / 255 - mean[c]) / std[c];
  return new ort.Tensor('float32', floats, [1, 3, height, width]);
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

async function main() {
  const [model, ...files] = process.argv.slice(2);
  const beside = (name) => fs.readFileSync(path.join(path.dirname(model), name), 'utf8');
  const how = JSON.parse(beside('preprocess.json'));
  const labels = beside('labels.txt').trimEnd().split('\n');
  if (how.input.channels !== 3) throw new Error('this example is for networks of three channels');
  const session = await ort.InferenceSession.create(model);
  for (const file of files) {
    const input = tensor(await prepare(file, how.input), how);
    const output = (await session.run({ [session.inputNames[0]]: input }))[session.outputNames[0]].data;
    const p = how.output === 'logits' ? softmax(output) : Array.from(output);
    const best = p.indexOf(Math.max(...p));
    console.log(JSON.stringify({ path: file, label: labels[best], probability: Math.round(p[best] * 1e6) / 1e6 }));
  }
}

main();

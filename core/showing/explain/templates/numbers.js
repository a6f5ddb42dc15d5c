"use strict";
// Numbers: the arrays that Python has packed, the geometry of boxes, and how numbers are written.

const TYPES = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array };

// Return the values of an array that was compressed and written in base64; null stays null.
async function unpack(packed) {
  if (packed === null) return null;
  const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new TYPES[packed.type](await new Response(stream).arrayBuffer());
}

// Unpack every array within a column's numbers, in place.
async function unpackColumn(data) {
  for (const moment of data.moments) {
    moment.maps = await Promise.all(moment.maps.map(unpack));
  }
  const cells = data.cells;
  if (!cells) return;
  for (const name of ["anchors", "rows", "scores", "boxes", "matched", "iou", "nearest", "fate", "by", "rule"]) {
    cells[name] = await unpack(cells[name]);
  }
  for (const group of [cells.values, cells.named]) {
    for (const name of Object.keys(group)) group[name] = await unpack(group[name]);
  }
  let start = 0;
  for (const level of cells.levels) {
    level.start = start; // its first anchor among all of them
    start += level.height * level.width * level.anchors;
  }
  cells.count = start;
  cells.classes = data.classes.length;
  // The row that holds an anchor's numbers; -1 where the page does not hold them.
  cells.rowOf = new Int32Array(start).fill(-1);
  const held = cells.rows || Int32Array.from({ length: start }, (_, anchor) => anchor);
  held.forEach((anchor, row) => { cells.rowOf[anchor] = row; });
  cells.held = held;
}

// The level, cell and position in the cell of an anchor.
function placeOf(cells, anchor) {
  const number = cells.levels.findLastIndex((level) => level.start <= anchor);
  const level = cells.levels[number];
  const cell = Math.floor((anchor - level.start) / level.anchors);
  return {
    level: number,
    row: Math.floor(cell / level.width),
    column: cell % level.width,
    slot: (anchor - level.start) % level.anchors,
  };
}

function anchorAt(cells, place) {
  const level = cells.levels[place.level];
  return level.start + (place.row * level.width + place.column) * level.anchors + place.slot;
}

// The box of an anchor, [x1, y1, x2, y2] in pixels of the network's input.
function anchorBox(cells, anchor) {
  if (cells.anchors) return Array.from(cells.anchors.subarray(4 * anchor, 4 * anchor + 4));
  const place = placeOf(cells, anchor);
  const level = cells.levels[place.level];
  const [x, y] = [place.column * level.cell[0], place.row * level.cell[1]];
  const [x1, y1, x2, y2] = level.base[place.slot];
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}

// The decoded box of a row.
function rowBox(cells, row) {
  return Array.from(cells.boxes.subarray(4 * row, 4 * row + 4));
}

// Intersection over union. Every step is rounded to float32, as PyTorch has it, so that a box on a threshold
// falls on the same side of it.
function iou(a, b) {
  const f = Math.fround;
  const width = Math.max(0, f(Math.min(a[2], b[2]) - Math.max(a[0], b[0])));
  const height = Math.max(0, f(Math.min(a[3], b[3]) - Math.max(a[1], b[1])));
  const shared = f(width * height);
  const areas = f(area(a) + area(b));
  const union = f(areas - shared);
  return union > 0 ? f(shared / union) : 0;
}

function area(box) {
  return Math.fround(Math.fround(box[2] - box[0]) * Math.fround(box[3] - box[1]));
}

// -- how numbers are written --------------------

// Scores, IoU: three digits after the point, or as many as show that it is not 0.
function score(value) {
  if (!Number.isFinite(value)) return "∞";
  return value !== 0 && Math.abs(value) < 0.0005 ? value.toExponential(1) : value.toFixed(3);
}

// Whatever a matcher counts: shares with three digits, pixels with at most one.
function amount(value) {
  if (value === 0 || Math.abs(value) > 1) return Number.isFinite(value) ? pixels(value) : "∞";
  return score(value);
}

function size(box) {
  return `${pixels(box[2] - box[0])} × ${pixels(box[3] - box[1])}`;
}

function pixels(value) {
  return String(Math.round(10 * value) / 10);
}

function number(count) {
  return count.toLocaleString("en");
}

function counted(count, noun, many = `${noun}s`) {
  return `${number(count)} ${count === 1 ? noun : many}`;
}

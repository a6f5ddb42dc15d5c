"use strict";
// Drawing on canvases. All boxes are in pixels of the network's input; `view.scale` makes screen pixels of them.

// Ten colours of matplotlib's "magma" (Smith and van der Walt, CC0): black is 0, the brightest the largest score.
const MAGMA = [
  [0, 0, 4], [24, 15, 61], [68, 15, 118], [114, 31, 129], [158, 47, 127],
  [205, 64, 113], [241, 96, 93], [253, 150, 104], [254, 202, 141], [252, 253, 191],
];

function magma(share) {
  const place = Math.min(1, Math.max(0, share)) * (MAGMA.length - 1);
  const low = Math.min(Math.floor(place), MAGMA.length - 2);
  return MAGMA[low].map((side, i) => Math.round(side + (MAGMA[low + 1][i] - side) * (place - low)));
}

// Fit a canvas to its width on the page, give it the image's shape, draw the image, and return what the other
// functions take.
function openCanvas(canvas, image, data) {
  canvas.style.aspectRatio = `${data.width} / ${data.height}`;
  const wide = canvas.clientWidth || 320;
  const sharp = window.devicePixelRatio || 1;
  const tall = (wide * data.height) / data.width;
  canvas.classList.toggle("stays", tall < 0.45 * window.innerHeight); // in sight while the walk is read
  canvas.width = Math.round(wide * sharp);
  canvas.height = Math.round(tall * sharp);
  const pen = canvas.getContext("2d");
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  pen.imageSmoothingEnabled = wide < data.width; // enlarged pixels stay what the network gets
  pen.drawImage(image, 0, 0, wide, tall);
  return { pen, scale: wide / data.width, wide, tall };
}

// The width and height of a level's cells on the screen.
function cellSize(view, level) {
  return level.cell.map((side) => side * view.scale);
}

// Lay a score map over the image: one colour a cell, so that nothing looks finer than the network has it.
function drawMap(view, level, map, top) {
  const { pen } = view;
  const [wide, tall] = cellSize(view, level);
  pen.fillStyle = "rgba(0, 0, 0, 0.45)";
  pen.fillRect(0, 0, view.wide, view.tall);
  for (let row = 0; row < level.height; row++) {
    for (let column = 0; column < level.width; column++) {
      const share = map[row * level.width + column] / top;
      if (share < 0.02) continue;
      pen.fillStyle = `rgba(${magma(share).join(", ")}, ${0.25 + 0.55 * Math.min(1, share)})`;
      pen.fillRect(column * wide, row * tall, wide, tall);
    }
  }
}

function drawGrid(view, level) {
  const [wide, tall] = cellSize(view, level);
  if (Math.min(wide, tall) < 6) return;
  const { pen } = view;
  pen.strokeStyle = "rgba(255, 255, 255, 0.22)";
  pen.lineWidth = 1;
  pen.beginPath();
  for (let x = 1; x < level.width; x++) { pen.moveTo(x * wide, 0); pen.lineTo(x * wide, view.tall); }
  for (let y = 1; y < level.height; y++) { pen.moveTo(0, y * tall); pen.lineTo(view.wide, y * tall); }
  pen.stroke();
}

function drawCell(view, level, place) {
  const [wide, tall] = cellSize(view, level);
  const { pen } = view;
  const [x, y] = [place.column * wide, place.row * tall];
  pen.lineWidth = 4;
  pen.strokeStyle = "#000";
  pen.strokeRect(x, y, wide, tall);
  pen.lineWidth = 2;
  pen.strokeStyle = "#fff";
  pen.strokeRect(x, y, wide, tall);
}

// Outline a box. how: {color, width, dash, text}.
function drawBox(view, box, how) {
  const { pen, scale } = view;
  const [x1, y1, x2, y2] = box.map((side) => side * scale);
  pen.setLineDash(how.dash || []);
  pen.lineWidth = how.width + 2;
  pen.strokeStyle = "rgba(0, 0, 0, 0.65)";
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.lineWidth = how.width;
  pen.strokeStyle = how.color;
  pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  pen.setLineDash([]);
  if (how.text) drawText(view, x1, y1, how.text, how.color);
}

// Write a label above a box, or inside where there is no room above.
function drawText(view, x, y, text, color) {
  const { pen } = view;
  pen.font = "600 12px system-ui, sans-serif";
  const wide = pen.measureText(text).width + 6;
  const left = Math.max(0, Math.min(x - 1, view.wide - wide));
  const top = y >= 16 ? y - 16 : Math.max(0, y);
  pen.fillStyle = color;
  pen.fillRect(left, top, wide, 16);
  pen.fillStyle = bright(color) ? "#000" : "#fff";
  pen.textBaseline = "middle";
  pen.fillText(text, left + 3, top + 8.5);
}

function bright(color) {
  const [red, green, blue] = (color.match(/\d+/g) || [255, 255, 255]).map(Number);
  return 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2 > 0.18 * 255 ** 2.2;
}

function drawObjects(view, data) {
  data.objects.forEach((object, slot) => {
    const color = object.counts ? data.colors[object.label] : "rgb(170, 170, 170)";
    drawBox(view, object.box, { color, width: 1.5, dash: [5, 4], text: `${slot + 1}` });
  });
}

// A line of one value per moment of the training, with a dot at the moment that is shown.
function drawLine(canvas, values, shown, color) {
  const wide = canvas.clientWidth || 200;
  const tall = 44;
  const sharp = window.devicePixelRatio || 1;
  canvas.width = wide * sharp;
  canvas.height = tall * sharp;
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  const x = (place) => 5 + ((wide - 10) * place) / Math.max(1, values.length - 1);
  const y = (value) => tall - 5 - (tall - 10) * value;
  pen.strokeStyle = "rgba(128, 128, 128, 0.5)";
  pen.strokeRect(0.5, 0.5, wide - 1, tall - 1);
  pen.strokeStyle = pen.fillStyle = color;
  pen.lineWidth = 2;
  pen.beginPath();
  values.forEach((value, place) => (place ? pen.lineTo(x(place), y(value)) : pen.moveTo(x(place), y(value))));
  pen.stroke();
  pen.beginPath();
  pen.arc(x(shown), y(values[shown]), 4, 0, 7);
  pen.fill();
}

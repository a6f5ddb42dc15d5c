"use strict";
// From scores and boxes to detections, by the same rules as the detector's postprocess: score threshold, top-k,
// non-maximum suppression class by class, and a limit on detections.

const FATE = { low: 0, topK: 1, nms: 2, limit: 3, kept: 4 };

// At most so many candidates lie in one picture in which the classes are moved apart, as torchvision's
// batched_nms does it on a CPU. Moving rounds the boxes; we round in the same way.
const APART = 1000;

// Decide the fate of every candidate (anchor, class).
//
// cells: the numbers of a column. settings: {score, top_k, per, iou, max_detections, class_agnostic, min_size,
// method, sigma, final_score}. Returns {fate: of row * classes + label, by: the candidate that removed it, in the
// same numbering, kept: candidates best first, scores: theirs, passed: how many are above the score threshold}.
function suppress(cells, settings) {
  const total = cells.held.length * cells.classes;
  const result = { fate: new Int8Array(total), by: new Int32Array(total).fill(-1), kept: [], scores: [], passed: 0 };
  const passed = aboveThreshold(cells, settings);
  result.passed = passed.length;
  for (const candidate of passed) result.fate[candidate] = FATE.topK;
  const going = bestOfEach(cells, settings, passed);
  for (const candidate of going) result.fate[candidate] = FATE.nms;
  const survivors =
    settings.method === "hard" ? hard(cells, settings, going, result.by) : soft(cells, settings, going, result);
  survivors.candidates.forEach((candidate, place) => {
    const kept = place < settings.max_detections;
    result.fate[candidate] = kept ? FATE.kept : FATE.limit;
    if (kept) {
      result.kept.push(candidate);
      result.scores.push(survivors.scores[place]);
    }
  });
  return result;
}

// Step 1: candidates whose score is above the threshold, and whose box is large enough.
function aboveThreshold(cells, settings) {
  const least = Math.fround(settings.score);
  const smallest = Math.fround(settings.min_size);
  const passed = [];
  for (let candidate = 0; candidate < cells.scores.length; candidate++) {
    if (!(cells.scores[candidate] > least)) continue;
    if (smallest > 0) {
      const [x1, y1, x2, y2] = rowBox(cells, Math.floor(candidate / cells.classes));
      if (Math.min(Math.fround(x2 - x1), Math.fround(y2 - y1)) < smallest) continue;
    }
    passed.push(candidate);
  }
  return passed;
}

// Which candidates compete for the places of top-k: those of a level, or those of a class.
function groupOf(cells, settings, candidate) {
  if (settings.per === "class") return candidate % cells.classes;
  return placeOf(cells, cells.held[Math.floor(candidate / cells.classes)]).level;
}

// Step 2: only the best top_k of each level or class go on. Which of several equal scores PyTorch takes is not
// defined; those that the detector took come first.
function bestOfEach(cells, settings, passed) {
  const taken = (candidate) => (cells.fate && cells.fate[candidate] > FATE.topK ? 1 : 0);
  const better = (a, b) => cells.scores[b] - cells.scores[a] || taken(b) - taken(a) || a - b;
  const groups = new Map();
  for (const candidate of passed) {
    const group = groupOf(cells, settings, candidate);
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(candidate);
  }
  const going = [];
  for (const group of groups.values()) {
    going.push(...(group.length > settings.top_k ? group.sort(better).slice(0, settings.top_k) : group));
  }
  return going.sort((a, b) => a - b);
}

function bestFirst(cells, candidates) {
  return Array.from(candidates).sort((a, b) => cells.scores[b] - cells.scores[a] || a - b);
}

// Step 3, hard suppression: going from the best score down, a box stays unless a better one that stayed overlaps
// it too much.
function hard(cells, settings, going, by) {
  const together = settings.class_agnostic || going.length > APART;
  const boxes = going.map((candidate) => rowBox(cells, Math.floor(candidate / cells.classes)));
  const far = Math.fround(boxes.reduce((most, box) => Math.max(most, ...box), 0) + 1);
  const boxOf = new Map();
  going.forEach((candidate, place) => {
    const shift = together ? 0 : Math.fround((candidate % cells.classes) * far);
    boxOf.set(candidate, boxes[place].map((side) => Math.fround(side + shift)));
  });
  const stayed = new Map(); // of each class; of all where boxes of different classes remove each other
  const candidates = [];
  for (const candidate of bestFirst(cells, going)) {
    const label = settings.class_agnostic ? 0 : candidate % cells.classes;
    if (!stayed.has(label)) stayed.set(label, []);
    const box = boxOf.get(candidate);
    const better = stayed.get(label).find((other) => iou(boxOf.get(other), box) > settings.iou);
    if (better === undefined) {
      stayed.get(label).push(candidate);
      candidates.push(candidate);
    } else {
      by[candidate] = better;
    }
  }
  return { candidates, scores: candidates.map((candidate) => cells.scores[candidate]) };
}

// Step 3, soft suppression: each detection lowers the scores of the boxes that overlap it.
function soft(cells, settings, going, result) {
  const f = Math.fround;
  const left = going.map((candidate) => cells.scores[candidate]);
  const boxes = going.map((candidate) => rowBox(cells, Math.floor(candidate / cells.classes)));
  const last = f(settings.final_score);
  const candidates = [];
  const scores = [];
  while (candidates.length < Math.min(settings.max_detections, going.length)) {
    let best = 0;
    for (let place = 1; place < left.length; place++) if (left[place] > left[best]) best = place;
    if (!(left[best] > last)) break;
    candidates.push(going[best]);
    scores.push(left[best]);
    for (let place = 0; place < left.length; place++) {
      const same = settings.class_agnostic || (going[place] - going[best]) % cells.classes === 0;
      if (place === best || !same || left[place] === -1) continue;
      const before = left[place];
      left[place] = f(before * lowering(iou(boxes[best], boxes[place]), settings));
      if (before > last && left[place] <= last) result.by[going[place]] = going[best];
    }
    left[best] = -1;
  }
  going.forEach((candidate, place) => {
    if (left[place] > last) result.fate[candidate] = FATE.limit;
  });
  return { candidates, scores };
}

// The factor on the score of a box of this IoU with a new detection.
function lowering(overlap, settings) {
  const f = Math.fround;
  if (settings.method === "gaussian") return f(Math.exp(f(-f(overlap * overlap) / f(settings.sigma))));
  return overlap >= f(settings.iou) ? f(1 - overlap) : 1;
}

// The place, from 1 on, of a candidate among those that compete with it for top-k, and their number.
function rankOf(cells, settings, candidate) {
  const group = groupOf(cells, settings, candidate);
  const rivals = aboveThreshold(cells, settings).filter((one) => groupOf(cells, settings, one) === group);
  return { place: bestFirst(cells, rivals).indexOf(candidate) + 1, of: rivals.length };
}

"use strict";
// What the page says, in sentences with the real numbers.

// The fates in short, by their numbers.
const FATES = ["low score", "cut: top-k", "cut: NMS", "cut: limit", "kept"];

function objectName(data, slot) {
  return slot < 0 ? "no object" : `object ${slot + 1} (“${data.objects[slot].name}”)`;
}

function cellSentence(data, place) {
  const level = data.cells.levels[place.level];
  const [x, y] = [(place.column + 0.5) * level.cell[0], (place.row + 0.5) * level.cell[1]];
  return (
    `Level ${place.level} is a map of ${level.width} × ${level.height} cells of ${size([0, 0, ...level.cell])} ` +
    `pixels. This is the cell in column ${place.column}, row ${place.row}, counted from 0; its middle is at pixel ` +
    `(${pixels(x)}, ${pixels(y)}).`
  );
}

function anchorsSentence(data, place) {
  const level = data.cells.levels[place.level];
  if (level.anchors === 1) {
    return "The cell has one anchor: a box of a fixed size. The network says which object is here, measured from it.";
  }
  return (
    `The cell has ${level.anchors} anchors: boxes of fixed sizes and shapes. The network answers for each of them ` +
    "by itself. Choose one:"
  );
}

// What an anchor is trained on: its kind, and why.
function matchOf(data, row) {
  const cells = data.cells;
  const slot = cells.matched[row];
  const kind = slot >= 0 ? "positive" : slot === -2 ? "ignored" : "background";
  return { kind, slot, sentence: matchSentence(data, row, kind, slot) };
}

function matchSentence(data, row, kind, slot) {
  const cells = data.cells;
  if (cells.rule) {
    return cells.rules[cells.rule[row]].replace(/{(\w+)}/g, (_, name) =>
      name in cells.named ? objectName(data, cells.named[name][row]) : amount(cells.values[name][row]));
  }
  const overlap = cells.nearest[row] < 0 ? "No object overlaps it"
    : `Its largest IoU is ${score(cells.iou[row])}, with ${objectName(data, cells.nearest[row])}`;
  const chosen = kind === "positive" ? `it is trained on ${objectName(data, slot)}` : `it is ${kind}`;
  return `${overlap}; ${chosen}. The matcher does not tell why.`;
}

function boxSentence(data, anchor, box) {
  const middle = (one) => [(one[0] + one[2]) / 2, (one[1] + one[3]) / 2];
  const [ax, ay] = middle(anchor);
  const [bx, by] = middle(box);
  const signed = (value) => `${Math.round(10 * value) < 0 ? "−" : "+"}${pixels(Math.abs(value))}`;
  const cut = box[0] <= 0 || box[1] <= 0 || box[2] >= data.width || box[3] >= data.height;
  return (
    `The box head moves the anchor's middle by (${signed(bx - ax)}, ${signed(by - ay)}) pixels and changes its size ` +
    `from ${size(anchor)} to ${size(box)}${cut ? ", after a cut at the image's border" : ""}.`
  );
}

// The sentence about how well a decoded box fits.
function fitSentence(data, box) {
  let [best, slot] = [0, -1];
  data.objects.forEach((object, index) => {
    const overlap = iou(object.box, box);
    if (overlap > best) [best, slot] = [overlap, index];
  });
  if (!data.objects.length) return "";
  return slot < 0 ? "It overlaps no object." : `Its IoU with ${objectName(data, slot)} is ${score(best)}.`;
}

// Why a candidate ends as it does.
function fateSentence(data, settings, result, candidate) {
  const cells = data.cells;
  const value = cells.scores[candidate];
  const name = data.classes[candidate % cells.classes];
  const start = `As “${name}” with score ${score(value)}:`;
  switch (result.fate[candidate]) {
    case FATE.low:
      return `${start} not above the score threshold of ${score(settings.score)}, so it is dropped at once.`;
    case FATE.topK: {
      const rank = rankOf(cells, settings, candidate);
      const rivals = settings.per === "class" ? "of its class" : "of its level";
      return (
        `${start} above the score threshold, but ${counted(rank.of, "candidate")} ${rivals} are, and only the best ` +
        `${settings.top_k} go on. This is number ${rank.place}.`
      );
    }
    case FATE.nms:
      return `${start} ${removalText(data, settings, result, candidate)}`;
    case FATE.limit:
      return `${start} nothing removes it, but an image has at most ${settings.max_detections} detections.`;
    default:
      return `${start} ${keptText(settings, result, candidate)}`;
  }
}

function removalText(data, settings, result, candidate) {
  const cells = data.cells;
  const by = result.by[candidate];
  const better = `“${data.classes[by % cells.classes]}” of score ${score(cells.scores[by])}`;
  const box = (one) => rowBox(cells, Math.floor(one / cells.classes));
  const overlap = iou(box(by), box(candidate));
  if (settings.method !== "hard") {
    return (
      `better boxes lower its score to ${score(settings.final_score)} or less. The last is a ${better}, with an IoU ` +
      `of ${score(overlap)}.`
    );
  }
  return (
    `a better ${better} has an IoU of ${score(overlap)} with it, more than ${score(settings.iou)}. Non-maximum ` +
    "suppression takes it for the same object and removes it."
  );
}

function keptText(settings, result, candidate) {
  const place = result.kept.indexOf(candidate);
  const text = `kept, as detection ${place + 1} of ${result.kept.length}.`;
  if (settings.method !== "hard") {
    return `${text} Overlap with better boxes leaves it a score of ${score(result.scores[place])}.`;
  }
  const rivals = settings.class_agnostic ? "No better detection" : "No better detection of its class";
  return `${text} ${rivals} has an IoU above ${score(settings.iou)} with it.`;
}

// Whether the page finds the same as the detector at its own thresholds.
function agreementSentence(data, result) {
  const cells = data.cells;
  const own = result.kept.map((one) => `${cells.held[Math.floor(one / cells.classes)]}/${one % cells.classes}`);
  const theirs = data.found.anchors.map((anchor, place) => `${anchor}/${data.found.labels[place]}`);
  const same = own.length === theirs.length && own.every((one, place) => one === theirs[place]);
  const all = counted(theirs.length, "detection");
  return same
    ? `At the recipe's own thresholds this page and the detector agree on all of ${all}.`
    : `At the recipe's own thresholds this page finds ${own.length}, the detector ${theirs.length}: they differ.`;
}

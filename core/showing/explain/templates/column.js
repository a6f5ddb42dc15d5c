"use strict";
// One detector: its controls, its picture, the walk through a cell, and what is found.

const SURE = 0.3; // the score from which on `densedet predict` shows a detection
const LISTED = 24; // detections that are listed at once

class Column {
  constructor(data, number, root, page) {
    this.data = data;
    this.number = number;
    this.root = root;
    this.page = page;
    this.settings = data.suppression && { ...data.suppression };
    this.moment = data.moments.findIndex((moment) => moment.walked);
    this.map = 0; // the map that is shown: 0 is that of the best class, 1 + i of the i-th class with a map
    this.place = { level: 0, row: 0, column: 0, slot: 0 };
    this.label = null; // the class whose fate is told; null: the best one
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  async open() {
    const { data } = this;
    this.image = new Image();
    this.image.src = data.picture;
    await this.image.decode();
    this.part("title").textContent = data.title;
    this.part("state").textContent = data.state;
    const longest = Math.max(...data.classes.map((name) => name.length));
    this.root.style.setProperty("--name", `${Math.max(2, Math.min(12, longest + 1))}ch`);
    for (const note of data.notes) this.part("notes").append(element("p", { className: "note" }, note));
    this.openMoments();
    this.openThresholds();
    if (data.cells) {
      this.openLevels();
      this.openMaps();
      this.openPicture();
    } else {
      this.part("inside").hidden = true;
    }
    this.openObjects();
    this.recompute();
    this.part("agreement").textContent = this.settings ? agreementSentence(data, this.result) : "";
  }

  // -- controls --------------------

  openLevels() {
    this.data.cells.levels.forEach((level, number) => {
      const text = `level ${number}: ${level.width} × ${level.height}`;
      const label = choice(`level-${this.number}`, number, text, () => this.chooseLevel(number));
      label.title = `stride ${level.stride}, cells of ${size([0, 0, ...level.cell])} pixels`;
      this.part("levels").append(label);
    });
  }

  openMaps() {
    const select = this.part("map");
    select.append(element("option", { value: 0 }, "any class"));
    this.data.mapClasses.forEach((label, place) => {
      select.append(element("option", { value: place + 1 }, `“${this.data.classes[label]}”`));
    });
    select.addEventListener("change", () => { this.map = Number(select.value); this.draw(); });
    for (const name of ["show-map", "show-objects", "show-anchors"]) {
      this.part(name).addEventListener("change", () => this.draw());
    }
  }

  openMoments() {
    const { moments } = this.data;
    if (moments.length < 2) return;
    this.part("training").hidden = false;
    const slider = this.part("moment");
    slider.max = moments.length - 1;
    slider.value = this.moment;
    slider.addEventListener("input", () => {
      this.moment = Number(slider.value);
      this.show();
      this.showFound();
    });
  }

  openThresholds() {
    if (!this.settings) {
      this.part("thresholds").hidden = true;
      return;
    }
    const { cells, suppression } = this.data;
    const score = this.part("score");
    // Below, the page does not hold every candidate.
    score.min = Math.ceil(200 * cells.from) / 200;
    if (cells.from > 0) {
      this.part("from").textContent = `Of the candidates below ${cells.from.toFixed(3)} the page does not hold all.`;
    }
    for (const [name, input] of [["score", score], ["iou", this.part("iou")]]) {
      input.value = suppression[name];
      input.addEventListener("input", () => { this.settings[name] = Number(input.value); this.recompute(); });
    }
    if (suppression.method === "gaussian") this.part("iou-line").hidden = true;
    this.part("reset").addEventListener("click", () => this.setThresholds(suppression.score, suppression.iou));
    this.part("sure").addEventListener("click", () => this.setThresholds(SURE, this.settings.iou));
  }

  setThresholds(score, overlap) {
    Object.assign(this.settings, { score, iou: overlap });
    this.part("score").value = score;
    this.part("iou").value = overlap;
    this.recompute();
  }

  openObjects() {
    const { objects } = this.data;
    if (!objects.length || !this.data.cells) return;
    objects.forEach((object, slot) => {
      const button = element("button", { type: "button" }, `${slot + 1} “${object.name}”`);
      button.style.borderColor = object.counts ? this.data.colors[object.label] : "gray";
      button.addEventListener("click", () => this.page.chooseObject(slot));
      this.part("objects").append(button);
    });
    this.part("objects-line").hidden = false;
  }

  openPicture() {
    const canvas = this.part("picture");
    const choose = (event) => {
      const area = canvas.getBoundingClientRect();
      this.page.choosePoint((event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
    };
    canvas.addEventListener("click", choose);
    canvas.addEventListener("pointermove", (event) => {
      // Dragging with a mouse; a finger that moves scrolls the page.
      if (event.pointerType === "mouse" && event.buttons === 1) choose(event);
    });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    for (const button of this.root.querySelectorAll("[data-move]")) {
      const [dx, dy] = button.dataset.move.split(",").map(Number);
      button.addEventListener("click", () => this.move(dx, dy));
    }
  }

  onKey(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const levels = { PageUp: -1, PageDown: 1 };
    if (event.key in steps) this.move(...steps[event.key]);
    else if (event.key in levels) this.chooseLevel(this.place.level + levels[event.key]);
    else return;
    event.preventDefault();
  }

  // -- choosing --------------------

  get anchor() {
    return anchorAt(this.data.cells, this.place);
  }

  // The row of the chosen anchor's numbers; -1 where the page does not hold them.
  get row() {
    return this.data.cells.rowOf[this.anchor];
  }

  // The middle of the chosen cell, as shares of the picture's sides.
  get point() {
    const level = this.data.cells.levels[this.place.level];
    return [
      ((this.place.column + 0.5) * level.cell[0]) / this.data.width,
      ((this.place.row + 0.5) * level.cell[1]) / this.data.height,
    ];
  }

  move(dx, dy) {
    const level = this.data.cells.levels[this.place.level];
    const column = Math.max(0, Math.min(level.width - 1, this.place.column + dx));
    const row = Math.max(0, Math.min(level.height - 1, this.place.row + dy));
    this.page.choosePoint(
      ((column + 0.5) * level.cell[0]) / this.data.width, ((row + 0.5) * level.cell[1]) / this.data.height);
  }

  chooseLevel(number) {
    const { cells } = this.data;
    const [x, y] = this.point;
    this.place.level = Math.max(0, Math.min(cells.levels.length - 1, number));
    this.choosePoint(x, y);
  }

  // Go to the cell at a point of the picture, and to its anchor of the best score.
  choosePoint(x, y) {
    if (!this.data.cells) return;
    const level = this.data.cells.levels[this.place.level];
    const [column, row] = [(x * this.data.width) / level.cell[0], (y * this.data.height) / level.cell[1]];
    this.place.column = Math.max(0, Math.min(level.width - 1, Math.floor(column)));
    this.place.row = Math.max(0, Math.min(level.height - 1, Math.floor(row)));
    this.place.slot = 0;
    const best = this.slots().map((anchor) => this.bestScore(anchor));
    this.chooseAnchor(anchorAt(this.data.cells, this.place) + best.indexOf(Math.max(...best)));
  }

  chooseAnchor(anchor, label = null) {
    if (!this.data.cells) return;
    this.place = placeOf(this.data.cells, anchor);
    this.label = label;
    this.show();
  }

  // Go to the anchor that is trained on an object, or else overlaps it most.
  chooseObject(slot) {
    const { cells, objects } = this.data;
    if (!cells || slot >= objects.length) return;
    let [best, most] = [0, -1];
    for (const anchor of cells.held) {
      const row = cells.rowOf[anchor];
      const value = iou(anchorBox(cells, anchor), objects[slot].box) + (cells.matched[row] === slot ? 1 : 0);
      if (value > most) [best, most] = [anchor, value];
    }
    this.chooseAnchor(best);
  }

  slots() {
    const { cells } = this.data;
    const first = anchorAt(cells, { ...this.place, slot: 0 });
    return Array.from({ length: cells.levels[this.place.level].anchors }, (_, slot) => first + slot);
  }

  bestScore(anchor) {
    const { cells } = this.data;
    const row = cells.rowOf[anchor];
    return row < 0 ? 0 : Math.max(...cells.scores.subarray(row * cells.classes, (row + 1) * cells.classes));
  }

  // -- showing --------------------

  recompute() {
    if (this.settings) this.result = suppress(this.data.cells, this.settings);
    this.show();
    this.showFound();
  }

  show() {
    if (this.data.cells) {
      const { level } = this.place;
      const radio = this.part("levels").querySelectorAll("input")[level];
      if (radio) radio.checked = true;
      this.showCell();
    }
    this.showMoment();
    this.draw();
  }

  showMoment() {
    const { moments } = this.data;
    const moment = moments[this.moment];
    if (moments.length < 2) return;
    this.part("moment-text").textContent = moment.step === 0 ? "step 0, untrained" : `step ${moment.step}`;
    this.part("moment-note").textContent = moment.walked ? "" :
      `Map and detections are those of step ${moment.step}. The walk below is through the detector of step ` +
      `${moments.find((one) => one.walked).step}.`;
  }

  draw() {
    const { data } = this;
    if (!data.cells) return;
    const view = openCanvas(this.part("picture"), this.image, data);
    const level = data.cells.levels[this.place.level];
    const maps = data.moments[this.moment].maps[this.place.level];
    const count = level.height * level.width;
    const map = Float32Array.from(maps.subarray(this.map * count, (this.map + 1) * count), (step) => step / 65535);
    const peak = map.reduce((most, value) => Math.max(most, value), 0);
    const top = Math.max(0.05, peak);
    if (this.part("show-map").checked) drawMap(view, level, map, top);
    drawGrid(view, level);
    if (this.part("show-objects").checked) drawObjects(view, data);
    drawCell(view, level, this.place);
    if (this.part("show-anchors").checked) {
      for (const anchor of this.slots()) {
        drawBox(view, anchorBox(data.cells, anchor), { color: "rgba(255, 255, 255, 0.45)", width: 1 });
      }
    }
    drawBox(view, anchorBox(data.cells, this.anchor), { color: "rgb(255, 255, 255)", width: 2 });
    if (this.row >= 0) drawBox(view, rowBox(data.cells, this.row), { color: "rgb(0, 220, 190)", width: 2.5 });
    this.part("peak").textContent = score(top);
    const here = map[this.place.row * level.width + this.place.column];
    const name = this.map ? `“${data.classes[data.mapClasses[this.map - 1]]}”` : "any class";
    this.part("map-text").textContent =
      `Best score of each cell for ${name}; highest on this map ${score(peak)}, in the chosen cell ${score(here)}.`;
  }

  showCell() {
    const { data, place } = this;
    this.part("cell-text").textContent = cellSentence(data, place);
    this.part("anchors-text").textContent = anchorsSentence(data, place);
    this.showAnchors();
    const { row } = this;
    for (const name of ["match-step", "scores-step", "box-step", "fate-step"]) this.part(name).hidden = row < 0;
    this.part("left-out").hidden = row >= 0;
    if (row < 0) {
      this.part("live").textContent = "";
      return;
    }
    const match = matchOf(data, row);
    this.part("match-kind").textContent = match.kind;
    this.part("match-kind").className = `kind ${match.kind}`;
    this.part("match-text").textContent = match.sentence;
    this.showScores(row);
    const box = rowBox(data.cells, row);
    this.part("box-text").textContent = boxSentence(data, anchorBox(data.cells, this.anchor), box);
    this.part("box-numbers").textContent = `(${box.map((side) => side.toFixed(2)).join(", ")})`;
    this.part("box-numbers").dataset.box = JSON.stringify(box);
    this.part("fit-text").textContent = fitSentence(data, box);
    this.showFate(row);
  }

  // Within a cell the buttons stay, so that the keyboard stays where it is.
  showAnchors() {
    const group = this.part("anchors");
    const anchors = this.slots();
    if (Number(group.dataset.first) !== anchors[0]) {
      group.dataset.first = anchors[0];
      group.replaceChildren(...anchors.map((anchor, slot) => this.anchorChoice(anchor, slot)));
      group.hidden = anchors.length < 2;
    }
    group.querySelectorAll("input")[this.place.slot].checked = true;
  }

  anchorChoice(anchor, slot) {
    const { cells } = this.data;
    const row = cells.rowOf[anchor];
    const kind = row < 0 ? "background" : matchOf(this.data, row).kind;
    const box = anchorBox(cells, anchor);
    const label = choice(`anchor-${this.number}`, slot, size(box), () => this.chooseAnchor(anchor));
    label.prepend(element("i", { className: `dot ${kind}` }));
    label.append(element("small", {}, row < 0 ? "" : ` ${this.bestScore(anchor).toFixed(2)}`));
    label.title = `${kind}, best score ${score(this.bestScore(anchor))}`;
    label.dataset.anchor = anchor;
    return label;
  }

  // The classes by their scores: the best five, and the rest on demand.
  showScores(row) {
    const { data } = this;
    const { classes } = data.cells;
    const labels = bestFirst(data.cells, Array.from({ length: classes }, (_, label) => row * classes + label));
    const chosen = this.label === null ? labels[0] : row * classes + this.label;
    const most = data.cells.scores[labels[0]];
    const bars = labels.map((candidate) => this.scoreBar(candidate, candidate === chosen, most));
    this.part("scores").replaceChildren(...bars.slice(0, 5));
    this.part("more-scores").replaceChildren(...bars.slice(5));
    this.part("more").hidden = bars.length <= 5;
    this.part("scores-text").textContent =
      `The class head gives each of ${counted(classes, "class", "classes")} a score. The best is ` +
      `“${data.classes[labels[0] % classes]}” with ${score(most)}. Choose a class to follow it:`;
    this.showLearning(chosen % classes);
  }

  scoreBar(candidate, chosen, most) {
    const { data } = this;
    const label = candidate % data.cells.classes;
    const value = data.cells.scores[candidate];
    const button = element("button", { type: "button", className: "bar" });
    button.setAttribute("aria-pressed", chosen);
    button.dataset.label = label;
    button.dataset.score = value;
    const fate = this.fateOf(candidate);
    const fill = element("b", {});
    fill.style.width = `${100 * Math.min(1, value)}%`;
    fill.style.background = data.colors[label];
    button.append(
      element("span", { className: "name" }, data.classes[label]), element("span", { className: "track" }, fill),
      element("span", { className: "value" }, score(value)),
      element("span", { className: `fate fate-${fate}` }, fate === null ? "" : FATES[fate]));
    button.addEventListener("click", () => {
      this.label = label;
      this.show();
      this.root.querySelector(`.bar[data-label="${label}"]`).focus(); // the bars were made anew
    });
    return button;
  }

  // How this cell's score for a class rose in the training.
  showLearning(label) {
    const { data, place } = this;
    const map = data.mapClasses.indexOf(label) + 1;
    const there = data.moments.length > 1 && map > 0;
    this.part("learning").hidden = !there;
    if (!there) return;
    const level = data.cells.levels[place.level];
    const at = map * level.height * level.width + place.row * level.width + place.column;
    const values = data.moments.map((moment) => moment.maps[place.level][at] / 65535);
    this.part("learning-text").textContent =
      `Over the training, the best score of this cell for “${data.classes[label]}” went from ${score(values[0])} ` +
      `(step ${data.moments[0].step}) to ${score(values[values.length - 1])} (step ${data.moments[values.length - 1].step}).`;
    drawLine(this.part("line"), values, this.moment, data.colors[label]);
  }

  fateOf(candidate) {
    if (this.settings) return this.result.fate[candidate];
    return this.data.cells.fate ? this.data.cells.fate[candidate] : null;
  }

  showFate(row) {
    const { data } = this;
    const { classes } = data.cells;
    const scores = Array.from(data.cells.scores.subarray(row * classes, (row + 1) * classes));
    const label = this.label === null ? scores.indexOf(Math.max(...scores)) : this.label;
    const candidate = row * classes + label;
    const fate = this.fateOf(candidate);
    const text = this.settings ? fateSentence(data, this.settings, this.result, candidate)
      : fate === null ? "The detector gives no trace, so that the fate of this candidate is not known."
        : `As “${data.classes[label]}” with score ${score(scores[label])}: ${FATES[fate]}.`;
    this.part("fate-text").textContent = text;
    this.part("fate-text").dataset.fate = fate;
    const removers = this.settings ? this.result.by : data.cells.by;
    const by = fate === FATE.nms && removers ? removers[candidate] : -1;
    const button = this.part("remover");
    button.hidden = by < 0;
    // The page numbers candidates by the rows that it holds, a detector's trace by its anchors.
    const better = Math.floor(by / classes);
    button.onclick = () => this.chooseAnchor(this.settings ? data.cells.held[better] : better, by % classes);
    this.part("live").textContent =
      `Column ${this.place.column}, row ${this.place.row}. ${matchOf(data, row).kind}. ${text}`;
  }

  // -- what is found --------------------

  // The detections that are shown: this page's own at the moment of the walk, the snapshot's at others.
  found() {
    const moment = this.data.moments[this.moment];
    const { cells } = this.data;
    if (!this.settings || !moment.walked) {
      const least = this.settings ? this.settings.score : 0;
      return moment.found.scores.map((value, place) => ({
        box: moment.found.boxes[place], score: value, label: moment.found.labels[place],
        anchor: moment.walked ? moment.found.anchors[place] : -1,
      })).filter((one) => one.score > least);
    }
    return this.result.kept.map((candidate, place) => {
      const row = Math.floor(candidate / cells.classes);
      return {
        box: rowBox(cells, row), score: this.result.scores[place], label: candidate % cells.classes,
        anchor: cells.held[row],
      };
    });
  }

  showFound() {
    const { data } = this;
    const found = this.found();
    const view = openCanvas(this.part("result"), this.image, data);
    drawObjects(view, data);
    for (const one of [...found].reverse()) {
      const sure = one.score >= SURE;
      view.pen.globalAlpha = sure ? 1 : 0.3; // unsure ones stay in the background
      drawBox(view, one.box, {
        color: data.colors[one.label], width: sure ? 2.5 : 1,
        text: sure ? `${data.classes[one.label]} ${one.score.toFixed(2)}` : "",
      });
    }
    if (this.settings) this.showThresholds(found);
    else this.part("found-text").textContent = found.length ? `${counted(found.length, "detection")}, best first:` : "Nothing.";
    const buttons = found.map((one) => this.foundButton(one));
    this.part("found").replaceChildren(...buttons.slice(0, LISTED));
    this.part("more-found").replaceChildren(...buttons.slice(LISTED));
    this.part("rest").hidden = buttons.length <= LISTED;
    this.part("rest-text").textContent = `${buttons.length - LISTED} more`;
  }

  showThresholds(found) {
    const { settings, result } = this;
    this.part("score-text").textContent = score(settings.score);
    this.part("iou-text").textContent = score(settings.iou);
    const walked = this.data.moments[this.moment].walked;
    const counts = [0, 0, 0, 0, 0];
    for (const fate of result.fate) counts[fate]++;
    this.part("found-text").textContent = !walked ? `${counted(found.length, "detection")} at this moment of the training.`
      : `${counted(result.passed, "candidate")} above the score threshold; top-k cuts ${number(counts[FATE.topK])}, NMS removes ` +
        `${number(counts[FATE.nms])}, the limit of ${settings.max_detections} cuts ${number(counts[FATE.limit])}; ` +
        `${counted(counts[FATE.kept], "detection")} ${counts[FATE.kept] === 1 ? "is" : "are"} left.`;
  }

  foundButton(one) {
    const button = element("button", { type: "button" }, `${this.data.classes[one.label]} ${score(one.score)}`);
    button.style.borderColor = this.data.colors[one.label];
    Object.assign(button.dataset, {
      label: one.label, score: one.score, anchor: one.anchor, box: JSON.stringify(one.box),
    });
    button.disabled = one.anchor < 0 || !this.data.cells;
    button.addEventListener("click", () => {
      this.chooseAnchor(one.anchor, one.label);
      this.page.follow(this);
    });
    return button;
  }
}

// -- pieces of HTML --------------------

function element(tag, properties, ...content) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...content);
  return made;
}

// A radio button that looks like a chip.
function choice(group, value, text, choose) {
  const input = element("input", { type: "radio", name: group, value });
  input.addEventListener("change", choose);
  return element("label", { className: "chip" }, input, element("span", {}, text));
}

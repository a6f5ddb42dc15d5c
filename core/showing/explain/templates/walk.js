"use strict";
// The walk through the chosen cell and anchor: anchors, matching, scores, box and fate.

class Walk extends Found {
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

  // -- the steps --------------------

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
    const [first, last] = [data.moments[0], data.moments[data.moments.length - 1]];
    this.part("learning-text").textContent =
      `Over the training, the best score of this cell for “${data.classes[label]}” went from ${score(values[0])} ` +
      `(step ${first.step}) to ${score(values[values.length - 1])} (step ${last.step}).`;
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
}

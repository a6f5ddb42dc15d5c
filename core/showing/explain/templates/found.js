"use strict";
// What is found with one detector: its thresholds, the picture of the detections and their list.

const SURE = 0.3; // the score from which on `densedet predict` shows a detection
const LISTED = 24; // detections that are listed at once

class Found {
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

  recompute() {
    if (this.settings) this.result = suppress(this.data.cells, this.settings);
    this.show();
    this.showFound();
  }

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
    else this.part("found-text").textContent = `${counted(found.length, "detection")}.`;
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
    const left = counted(found.length, "detection");
    this.part("found-text").textContent = !walked ? `${left} at this moment of the training.`
      : `${counted(result.passed, "candidate")} above the score threshold; top-k cuts ${number(counts[FATE.topK])}, ` +
        `NMS removes ${number(counts[FATE.nms])}, the limit of ${settings.max_detections} cuts ` +
        `${number(counts[FATE.limit])}; ${left} ${found.length === 1 ? "is" : "are"} left.`;
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

"use strict";
// One detector: its controls, its picture, the walk through a cell, and what is found.

class Column extends Walk {
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

  // -- showing --------------------

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
}

"use strict";
// The page: it opens the columns, and keeps them at the same place of the image.

const page = {
  columns: [],

  // Go to the cell at a point, given as shares of the picture's sides, in every column.
  choosePoint(x, y) {
    for (const column of this.columns) column.choosePoint(x, y);
  },

  chooseObject(slot) {
    for (const column of this.columns) column.chooseObject(slot);
  },

  // Bring the other columns to the place that one column shows.
  follow(leader) {
    for (const column of this.columns) {
      if (column !== leader && column.data.cells) this.meet(column, leader);
    }
  },

  // Go to a detection of the same object, where there is one, else to the same point.
  meet(column, leader) {
    const scaled = (box) => [
      box[0] / leader.data.width, box[1] / leader.data.height, box[2] / leader.data.width, box[3] / leader.data.height];
    const box = scaled(rowBox(leader.data.cells, leader.row));
    const own = column.found().filter((one) => one.anchor >= 0).map((one) => ({
      ...one,
      overlap: iou(box, [
        one.box[0] / column.data.width, one.box[1] / column.data.height,
        one.box[2] / column.data.width, one.box[3] / column.data.height]),
    })).filter((one) => one.overlap > 0.5).sort((a, b) => b.score - a.score)[0];
    if (own) column.chooseAnchor(own.anchor, own.label);
    else column.choosePoint(...leader.point);
  },

  // Begin where there is something to see: at the best detection, or at the anchor of an object.
  begin() {
    const [first] = this.columns.filter((column) => column.data.cells);
    if (!first) return;
    const [best] = first.found().filter((one) => one.anchor >= 0);
    if (best) {
      first.chooseAnchor(best.anchor);
      if (first.row >= 0) this.follow(first);
    } else if (first.data.objects.length) {
      this.chooseObject(0);
    } else {
      this.choosePoint(0.5, 0.5);
    }
  },

  async open() {
    const numbers = JSON.parse(document.getElementById("numbers").textContent);
    const shape = document.getElementById("column");
    const main = document.querySelector("main");
    for (const [number, data] of numbers.columns.entries()) {
      await unpackColumn(data);
      const root = shape.content.firstElementChild.cloneNode(true);
      root.id = `detector-${number}`;
      main.append(root);
      const link = element("a", { href: `#${root.id}` }, data.title);
      if (numbers.columns.length > 1) document.querySelector("nav").append(link);
      const column = new Column(data, number, root, this);
      await column.open();
      this.columns.push(column);
    }
    this.begin();
    let width = 0;
    const fit = () => {
      if (window.innerWidth === width) return; // a phone's address bar comes and goes
      width = window.innerWidth;
      for (const column of this.columns) {
        column.show();
        column.showFound();
      }
    };
    fit();
    window.addEventListener("resize", fit);
    document.documentElement.dataset.ready = "yes";
  },
};

page.open().catch((error) => {
  document.querySelector("main").append(element("p", { className: "note" },
    `This page could not be opened: ${error.message}. It needs a browser of 2023 or later.`));
});

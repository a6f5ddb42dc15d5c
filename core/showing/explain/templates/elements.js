"use strict";
// Pieces of HTML.

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

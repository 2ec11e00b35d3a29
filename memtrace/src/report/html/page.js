"use strict";
(function () {
  var data = JSON.parse(document.getElementById("data").textContent);
  var flame = document.getElementById("flame"), about = document.getElementById("about");
  var unit = document.getElementById("unit"), search = document.getElementById("search");
  var part = document.getElementById("part"), reset = document.getElementById("reset");
  var HEIGHT = 19;
  var nodes = data.parents.map(function (parent, place) {
    return {
      place: place, parent: parent, name: data.names[data.labels[place]], kind: data.kinds[place],
      bytes: data.bytes[place], blocks: data.blocks[place], children: [], depth: 0
    };
  });
  nodes.forEach(function (node) {
    if (node.place > 0) {
      nodes[node.parent].children.push(node);
      node.depth = nodes[node.parent].depth + 1;
    }
  });
  if (nodes.length === 0) { return; }
  var zoomed = nodes[0];
  // The frame that Tab reaches: arrow keys lead to the others.
  var current = nodes[0];
  // Buttons of the frames that are drawn, by place.
  var buttons = {};
  function value(node) { return unit.value === "blocks" ? node.blocks : node.bytes; }
  function size(bytes) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], at = 0;
    while (bytes >= 1023.95 && at + 1 < units.length) { bytes /= 1024; at += 1; }
    return (at === 0 ? bytes : bytes.toFixed(1)) + " " + units[at];
  }
  function amount(bytes, blocks) {
    var all = value(nodes[0]), part = unit.value === "blocks" ? blocks : bytes;
    var share = all > 0 ? (part / all * 100).toFixed(1) : "0";
    return size(bytes) + " in " + blocks.toLocaleString("en") + (blocks === 1 ? " block, " : " blocks, ") + share + " %";
  }
  function words(node) { return node.name + ": " + amount(node.bytes, node.blocks); }
  function matches(node) {
    var term = search.value.trim().toLowerCase();
    return term !== "" && node.name.toLowerCase().indexOf(term) >= 0;
  }
  // What matching frames hold: a frame inside another that matches is not counted again.
  function matched(node, sums) {
    var hit = matches(node);
    if (hit) { sums.bytes += node.bytes; sums.blocks += node.blocks; }
    (hit ? [] : node.children).forEach(function (child) { matched(child, sums); });
    return sums;
  }
  function say(node) { about.textContent = words(node); }
  function summary() {
    if (search.value.trim() === "") { say(zoomed); return; }
    var frames = nodes.filter(matches).length, sums = matched(nodes[0], { bytes: 0, blocks: 0 });
    about.textContent = "Matched: " + frames.toLocaleString("en") + (frames === 1 ? " frame, " : " frames, ") + amount(sums.bytes, sums.blocks);
  }
  function draw() {
    var full = flame.clientWidth || 1000, deepest = 0, drawn = document.createDocumentFragment();
    var focused = flame.contains(document.activeElement);
    buttons = {};
    function box(node, left, width, around) {
      var button = document.createElement("button");
      button.type = "button";
      button.style.left = left / full * 100 + "%";
      button.style.width = width / full * 100 + "%";
      button.style.top = node.depth * HEIGHT + "px";
      button.style.backgroundColor = data.colours[node.kind];
      button.className = (around ? "around " : "") + (width < 20 ? "thin " : "") + (matches(node) ? "hit" : "");
      button.textContent = width < 20 ? "" : node.name;
      button.title = words(node);
      button.setAttribute("aria-label", words(node));
      button.tabIndex = -1;
      button.addEventListener("click", function () { zoom(node); });
      button.addEventListener("mouseenter", function () { say(node); });
      button.addEventListener("focus", function () { select(node); say(node); });
      buttons[node.place] = button;
      drawn.appendChild(button);
      deepest = Math.max(deepest, node.depth);
    }
    for (var at = zoomed; at.place !== 0;) {
      at = nodes[at.parent];
      box(at, 0, full, true);
    }
    var stack = [[zoomed, 0, full]];
    while (stack.length > 0) {
      var next = stack.pop(), node = next[0], left = next[1], width = next[2], total = value(node);
      box(node, left, width, false);
      var wide = [];
      node.children.forEach(function (child) {
        var share = total > 0 ? value(child) / total * width : 0;
        if (share >= 1) { wide.unshift([child, left, share]); }
        left += share;
      });
      stack = stack.concat(wide);
    }
    flame.style.height = (deepest + 1) * HEIGHT + "px";
    flame.replaceChildren(drawn);
    reset.disabled = zoomed.place === 0;
    select(buttons[current.place] ? current : zoomed);
    // The frame that had the focus has been replaced.
    if (focused) { buttons[current.place].focus({ preventScroll: true }); }
    summary();
  }
  function select(node) {
    if (buttons[current.place]) { buttons[current.place].tabIndex = -1; }
    current = node;
    buttons[node.place].tabIndex = 0;
  }
  function zoom(node) {
    zoomed = current = node;
    if (node.place === 0) { part.value = "0"; }
    draw();
    buttons[node.place].focus({ preventScroll: true });
  }
  // The frame that an arrow key leads to: below is what a frame called.
  function beside(key) {
    if (key === "ArrowUp") { return nodes[current.parent]; }
    if (key === "ArrowDown") { return current.children.filter(function (child) { return buttons[child.place]; })[0]; }
    var level = nodes.filter(function (node) { return buttons[node.place] && node.depth === current.depth; });
    function left(node) { return parseFloat(buttons[node.place].style.left); }
    level.sort(function (a, b) { return left(a) - left(b); });
    return level[level.indexOf(current) + (key === "ArrowLeft" ? -1 : 1)];
  }
  function move(event) {
    if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].indexOf(event.key) < 0) { return; }
    event.preventDefault();
    var next = beside(event.key);
    if (next) { buttons[next.place].focus(); }
  }
  nodes[0].children.forEach(function (child) {
    if (child.kind > 0) {
      var option = document.createElement("option");
      option.value = child.place;
      option.textContent = child.name;
      part.appendChild(option);
    }
  });
  part.addEventListener("change", function () { zoomed = nodes[+part.value]; draw(); });
  unit.addEventListener("change", draw);
  search.addEventListener("input", draw);
  reset.addEventListener("click", function () { zoom(nodes[0]); });
  flame.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { zoom(nodes[0]); } else { move(event); }
  });
  flame.addEventListener("mouseleave", summary);
  window.addEventListener("resize", draw);
  var closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (item) { item.open = true; });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (item) { item.open = false; });
  });
  document.getElementById("graph").hidden = false;
  var term = /^#q=(.*)$/.exec(window.location.hash);
  if (term) {
    try { search.value = decodeURIComponent(term[1]); } catch (error) { search.value = term[1]; }
  }
  draw();
})();

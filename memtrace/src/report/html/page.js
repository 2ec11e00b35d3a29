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
  function value(node) { return unit.value === "blocks" ? node.blocks : node.bytes; }
  function size(bytes) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], at = 0;
    while (bytes >= 1023.95 && at + 1 < units.length) { bytes /= 1024; at += 1; }
    return (at === 0 ? bytes : bytes.toFixed(1)) + " " + units[at];
  }
  function words(node) {
    var all = value(nodes[0]);
    var share = all > 0 ? (value(node) / all * 100).toFixed(1) : "0";
    return node.name + ": " + size(node.bytes) + " in " + node.blocks.toLocaleString("en") + (node.blocks === 1 ? " block, " : " blocks, ") + share + " %";
  }
  function matches(node) {
    var term = search.value.trim().toLowerCase();
    return term !== "" && node.name.toLowerCase().indexOf(term) >= 0;
  }
  function matched(node) {
    if (matches(node)) { return value(node); }
    return node.children.reduce(function (sum, child) { return sum + matched(child); }, 0);
  }
  function say(node) { about.textContent = words(node); }
  function draw() {
    var full = flame.clientWidth || 1000, deepest = 0, drawn = document.createDocumentFragment();
    function box(node, left, width, around) {
      var button = document.createElement("button");
      button.type = "button";
      button.style.left = left / full * 100 + "%";
      button.style.width = width / full * 100 + "%";
      button.style.top = node.depth * HEIGHT + "px";
      button.style.background = data.colours[node.kind];
      button.className = (around ? "around " : "") + (width < 20 ? "thin " : "") + (matches(node) ? "hit" : "");
      button.textContent = width < 20 ? "" : node.name;
      button.title = words(node);
      button.setAttribute("aria-label", words(node));
      button.addEventListener("click", function () { zoom(node); });
      button.addEventListener("mouseenter", function () { say(node); });
      button.addEventListener("focus", function () { say(node); });
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
      node.children.forEach(function (child) {
        var share = total > 0 ? value(child) / total * width : 0;
        if (share >= 1) { stack.push([child, left, share]); }
        left += share;
      });
    }
    flame.style.height = (deepest + 1) * HEIGHT + "px";
    flame.replaceChildren(drawn);
    reset.disabled = zoomed.place === 0;
    if (search.value.trim() !== "") {
      var all = value(nodes[0]);
      about.textContent = "Matched: " + (all > 0 ? (matched(nodes[0]) / all * 100).toFixed(1) : 0) + " %";
    } else {
      say(zoomed);
    }
  }
  function zoom(node) {
    zoomed = node;
    draw();
    flame.querySelector("button:not(.around)").focus({ preventScroll: true });
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
  reset.addEventListener("click", function () { part.value = "0"; zoom(nodes[0]); });
  flame.addEventListener("keydown", function (event) { if (event.key === "Escape") { zoom(nodes[0]); } });
  window.addEventListener("resize", draw);
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (item) { item.open = true; });
  });
  document.getElementById("graph").hidden = false;
  var term = /^#q=(.*)$/.exec(window.location.hash);
  if (term) { search.value = decodeURIComponent(term[1]); }
  draw();
})();

"use strict";
(function () {
  var svg = document.documentElement;
  var all = Array.prototype.slice.call(document.querySelectorAll("#frames > g"));
  var matched = document.getElementById("matched");
  var reset = document.getElementById("reset");
  var width = 1200, character = 7.3, row = 18;
  var frames = all.map(function (group) {
    var rect = group.querySelector("rect");
    return {
      group: group, rect: rect, text: group.querySelector("text"), name: group.getAttribute("data-n"),
      x: +rect.getAttribute("x"), width: +rect.getAttribute("width"), y: +rect.getAttribute("y"),
      at: +rect.getAttribute("x"), shown: true
    };
  });
  function show(frame, x, w) {
    frame.shown = w > 0;
    frame.group.style.display = w > 0 ? "" : "none";
    if (w <= 0) { return; }
    frame.rect.setAttribute("x", x);
    frame.rect.setAttribute("width", w);
    frame.group.classList.toggle("t", w < 2);
    frame.at = x;
    if (frame.text) {
      var room = Math.floor((w - 6) / character);
      frame.text.setAttribute("x", x + 3);
      frame.text.textContent = room < 3 ? "" : frame.name.length <= room ? frame.name : frame.name.slice(0, room - 1) + "\u2026";
    }
  }
  function zoom(to) {
    var scale = width / to.width, end = to.x + to.width;
    frames.forEach(function (frame) {
      var around = frame.x <= to.x + 1e-6 && frame.x + frame.width >= end - 1e-6 && frame.y >= to.y;
      if (around) { show(frame, 0, width); return; }
      var inside = frame.x >= to.x - 1e-6 && frame.x + frame.width <= end + 1e-6 && frame.y < to.y;
      show(frame, (frame.x - to.x) * scale, inside ? frame.width * scale : 0);
    });
    reset.style.display = to === frames[0] ? "none" : "";
    if (current.shown) { return; }
    var focused = current.group === document.activeElement;
    select(to);
    if (focused) { to.group.focus(); }
  }
  // The frame that Tab reaches: arrow keys lead to the others.
  function select(frame) {
    current.group.setAttribute("tabindex", "-1");
    current = frame;
    current.group.setAttribute("tabindex", "0");
  }
  // The frame that an arrow key leads to: above is what a frame called.
  function beside(key) {
    var side = key === "ArrowLeft" ? -1 : key === "ArrowRight" ? 1 : 0;
    var y = current.y + (key === "ArrowUp" ? -row : key === "ArrowDown" ? row : 0);
    var level = frames.filter(function (frame) { return frame.shown && Math.abs(frame.y - y) < 1; });
    level.sort(function (a, b) { return a.at - b.at; });
    if (side !== 0) { return level[level.indexOf(current) + side]; }
    return level.filter(function (frame) {
      return frame.x < current.x + current.width - 1e-6 && frame.x + frame.width > current.x + 1e-6;
    })[0];
  }
  function move(event) {
    if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"].indexOf(event.key) < 0) { return; }
    event.preventDefault();
    var next = beside(event.key);
    if (next) { next.group.focus(); }
  }
  function search(term) {
    term = term.toLowerCase();
    var spans = [], count;
    frames.forEach(function (frame) {
      var hit = term !== "" && frame.name.toLowerCase().indexOf(term) >= 0;
      frame.group.classList.toggle("hit", hit);
      if (hit) { spans.push([frame.x, frame.x + frame.width]); }
    });
    spans.sort(function (a, b) { return a[0] - b[0]; });
    count = spans.length;
    var sum = 0, end = 0;
    spans.forEach(function (span) {
      sum += Math.max(0, span[1] - Math.max(span[0], end));
      end = Math.max(end, span[1]);
    });
    matched.textContent = term === "" ? "" : "matched: " + count.toLocaleString("en") + (count === 1 ? " frame, " : " frames, ") + (sum / width * 100).toFixed(1) + " %";
  }
  function ask() {
    var term = window.prompt("Names that contain:", "");
    if (term !== null) { search(term); }
  }
  function activate(element, action) {
    element.addEventListener("click", action);
    element.addEventListener("keydown", function (event) {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); action(); }
    });
  }
  var current = frames[0];
  frames.forEach(function (frame) {
    // Without this script there is nothing to activate.
    frame.group.setAttribute("role", "button");
    frame.group.setAttribute("tabindex", "-1");
    frame.group.addEventListener("focus", function () { select(frame); });
    frame.group.addEventListener("keydown", move);
    activate(frame.group, function () { zoom(frame); });
  });
  select(current);
  activate(reset, function () { zoom(frames[0]); });
  activate(document.getElementById("search"), ask);
  svg.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { zoom(frames[0]); search(""); }
    if ((event.ctrlKey || event.metaKey) && event.key === "f") { event.preventDefault(); ask(); }
  });
  var term = /^#s=(.*)$/.exec(window.location.hash);
  if (term) {
    try { search(decodeURIComponent(term[1])); } catch (error) { search(term[1]); }
  }
})();

"use strict";
(function () {
  var svg = document.documentElement;
  var all = Array.prototype.slice.call(document.querySelectorAll("#frames > g"));
  var matched = document.getElementById("matched");
  var reset = document.getElementById("reset");
  var width = 1200, character = 7.3;
  var frames = all.map(function (group) {
    var rect = group.querySelector("rect");
    return {
      group: group, rect: rect, text: group.querySelector("text"), name: group.getAttribute("data-n"),
      x: +rect.getAttribute("x"), width: +rect.getAttribute("width"), y: +rect.getAttribute("y")
    };
  });
  function show(frame, x, w) {
    frame.group.style.display = w > 0 ? "" : "none";
    if (w <= 0) { return; }
    frame.rect.setAttribute("x", x);
    frame.rect.setAttribute("width", w);
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
  }
  function search(term) {
    term = term.toLowerCase();
    var spans = [];
    frames.forEach(function (frame) {
      var hit = term !== "" && frame.name.toLowerCase().indexOf(term) >= 0;
      frame.group.classList.toggle("hit", hit);
      if (hit) { spans.push([frame.x, frame.x + frame.width]); }
    });
    spans.sort(function (a, b) { return a[0] - b[0]; });
    var sum = 0, end = 0;
    spans.forEach(function (span) {
      sum += Math.max(0, span[1] - Math.max(span[0], end));
      end = Math.max(end, span[1]);
    });
    matched.textContent = term === "" ? "" : "matched: " + (sum / width * 100).toFixed(1) + " %";
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
  frames.forEach(function (frame) { activate(frame.group, function () { zoom(frame); }); });
  activate(reset, function () { zoom(frames[0]); });
  activate(document.getElementById("search"), ask);
  svg.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { zoom(frames[0]); search(""); }
    if ((event.ctrlKey || event.metaKey) && event.key === "f") { event.preventDefault(); ask(); }
  });
  var term = /^#s=(.*)$/.exec(window.location.hash);
  if (term) { search(decodeURIComponent(term[1])); }
})();

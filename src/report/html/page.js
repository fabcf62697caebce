"use strict";
(function () {
  var root = document.documentElement, theme = document.getElementById("theme");
  theme.addEventListener("click", function () {
    var now = root.getAttribute("data-theme");
    var dark = now ? now === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.setAttribute("data-theme", dark ? "light" : "dark");
  });
  var seek = document.getElementById("seek"), hits = document.getElementById("hits");
  if (!seek) return;
  var logs = Array.prototype.map.call(document.querySelectorAll(".log"), function (log) {
    return {box: log, pre: log.querySelector("pre"), whole: null, was: false};
  });
  var rows = Array.prototype.slice.call(document.querySelectorAll("table.find tbody tr"));
  var timer = 0, MOST = 2000;
  function clear(log) {
    if (log.whole === null) return;
    log.pre.textContent = "";
    log.whole.forEach(function (node) { log.pre.appendChild(node); });
    log.whole = null;
    log.box.open = log.was;
    log.box.classList.remove("hide");
  }
  function find(log, word) {
    if (log.whole === null) {
      log.whole = Array.prototype.slice.call(log.pre.childNodes);
      log.was = log.box.open;
    }
    var count = 0, shown = document.createDocumentFragment();
    log.whole.forEach(function (node) {
      if (node.nodeType !== 3) return;
      node.nodeValue.split("\n").forEach(function (line) {
        var at = line.toLowerCase().indexOf(word);
        if (at < 0) return;
        count += 1;
        if (count > MOST) return;
        var mark = document.createElement("mark");
        mark.textContent = line.substr(at, word.length);
        shown.appendChild(document.createTextNode(line.slice(0, at)));
        shown.appendChild(mark);
        shown.appendChild(document.createTextNode(line.slice(at + word.length) + "\n"));
      });
    });
    log.pre.textContent = "";
    log.pre.appendChild(shown);
    log.box.open = count > 0;
    log.box.classList.toggle("hide", count === 0);
    return count;
  }
  function go() {
    var word = seek.value.toLowerCase(), lines = 0, fits = 0;
    logs.forEach(function (log) { if (word) lines += find(log, word); else clear(log); });
    rows.forEach(function (row) {
      var fit = !word || row.textContent.toLowerCase().indexOf(word) >= 0;
      row.classList.toggle("hide", !fit);
      if (fit) fits += 1;
    });
    hits.textContent = word ? lines + " log lines, " + fits + " rows" : "";
  }
  seek.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(go, 120); });
}());

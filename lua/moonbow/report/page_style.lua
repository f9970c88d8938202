-- SPDX-License-Identifier: MIT
--
-- page_style.lua: the style sheet of a page, light and dark, and the script that shows values of lines when pointed at.

local M = {}

-- The colours of series on a dark page: lighter, by their number.
local DARK_SERIES = { "#5AB4E8", "#F0874A", "#2FCB9A", "#E6A3CB", "#F2C14E", "#9AD4F5", "#E8E8E8" }

local SHEET = [[
:root{--paper:#fff;--ink:#1c2026;--soft:#5b6470;--grid:#e4e7eb;--frame:#8a929c;--edge:#d5d9df;--panel:#f6f7f9;--link:#0b62a8;
--pass:#0a7a4b;--fail:#b3261e;--open:#8a5a00;--note:#3d5a80;--crest:#fff;LIGHT}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--ink:#e6e9ee;--soft:#a2abb8;--grid:#2a3038;--frame:#6b7480;
--edge:#343b45;--panel:#1c2128;--link:#7cc0ff;--pass:#4cc38a;--fail:#ff8a80;--open:#f0b429;--note:#9ec1e8;--crest:#c9d1dc;DARK}}
@media print{:root{--paper:#fff;--ink:#000;--soft:#444;--grid:#ddd;--frame:#666;--edge:#bbb;--panel:#fff;--crest:#fff;LIGHT}
nav,#tip{display:none}section,figure,tr{break-inside:avoid}body{max-width:none}.scroll{overflow:visible}
.plot{min-width:0!important;width:auto!important}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1040px;padding:1.5rem 1rem 4rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,"Segoe UI",Helvetica,Arial,"DejaVu Sans",sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .3rem}header p{color:var(--soft);margin:.2rem 0 1rem}
h2{font-size:1.25rem;margin:2.6rem 0 .8rem;padding-top:.9rem;border-top:1px solid var(--edge)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;padding:0;margin:1rem 0;font-size:.92rem}
a{color:var(--link)}p{margin:.6rem 0;max-width:78ch}li{max-width:78ch}
code{font:.88em ui-monospace,"DejaVu Sans Mono",Menlo,monospace;background:var(--panel);padding:.1em .3em;border-radius:3px}
pre{background:var(--panel);border:1px solid var(--edge);border-radius:6px;padding:.8rem;overflow:auto;max-height:28rem;
font:.82rem/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
details{margin:.6rem 0}summary{cursor:pointer;color:var(--link)}
.formula{font-family:Cambria,"STIX Two Text","DejaVu Serif",Georgia,serif;padding:.5rem .9rem;margin:.6rem 0;
background:var(--panel);border-left:3px solid var(--edge);overflow-x:auto;max-width:none}
.scroll{overflow-x:auto;max-width:100%}.scroll:focus-visible,pre:focus-visible{outline:2px solid var(--link)}
figure{margin:1.2rem 0 1.6rem}figcaption{color:var(--soft);font-size:.9rem;margin-top:.3rem;max-width:85ch}
table{border-collapse:collapse;font-size:.9rem;margin:.4rem 0 1rem;font-variant-numeric:tabular-nums}
.caption{color:var(--soft);font-size:.9rem;margin:1.4rem 0 0;max-width:85ch}td .verdict{white-space:nowrap}
th,td{padding:.32rem .6rem .32rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--edge);max-width:30rem}
th{font-weight:600;vertical-align:bottom;border-bottom:2px solid var(--edge)}.right{text-align:right;white-space:nowrap}
td.right,th.right{padding-left:.3rem}
.verdicts{max-width:none}.verdict{display:inline-block;padding:.1rem .6rem;border-radius:1rem;border:1px solid currentColor;
font-size:.88rem;background:var(--paper)}
.verdict.pass{color:var(--pass)}.verdict.fail{color:var(--fail)}.verdict.open{color:var(--open)}
.verdict.note{color:var(--note)}
.swatches{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;list-style:none;padding:0;font-size:.92rem}
.swatch{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.45rem}
.chart{display:block;width:100%;height:auto;font-family:Helvetica,Arial,"DejaVu Sans",sans-serif}
.chart text{fill:var(--ink)}.chart .rule-name{fill:var(--soft)}.chart .grid{stroke:var(--grid)}
.chart .frame{stroke:var(--frame)}.chart .rule{stroke:var(--soft)}.chart .ridge{stroke:var(--crest)}
.chart .cells{shape-rendering:crispEdges}
#tip{position:absolute;pointer-events:none;background:var(--paper);color:var(--ink);border:1px solid var(--frame);
border-radius:5px;padding:.3rem .55rem;font-size:.8rem;line-height:1.4;white-space:nowrap;z-index:2;
box-shadow:0 2px 8px #0003;display:none;
font-variant-numeric:tabular-nums}
]]

---The style sheet.
---@param colours string[] of series, on a light page
---@return string
function M.css(colours)
  local light, dark, rules = {}, {}, {}
  for i, colour in ipairs(colours) do
    light[i] = ("--s%d:%s;"):format(i, colour)
    dark[i] = ("--s%d:%s;"):format(i, DARK_SERIES[i])
    rules[i] = (".line.s%d{stroke:var(--s%d)}.fill.s%d,.band.s%d{fill:var(--s%d)}.swatch.s%d{background:var(--s%d)}\n"):format(
      i, i, i, i, i, i, i)
  end
  local sheet = SHEET:gsub("LIGHT", table.concat(light)):gsub("DARK", table.concat(dark))
  return sheet .. table.concat(rules)
end

-- For the chart below the pointer: the nearest x of its lines, marked, and their values there.
M.script = [[
(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("plots").textContent);
  var tip = document.createElement("div");
  tip.id = "tip";
  document.body.appendChild(tip);
  function show(x) { return typeof x === "number" ? String(+x.toPrecision(5)) : String(x); }
  function place(value, low, high, log) {
    return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  }
  function nearest(points, x, plot) {
    var best = null, least = Infinity;
    points.forEach(function (point) {
      if (typeof point[0] !== "number" || typeof point[1] !== "number") return;
      var d = Math.abs(place(point[0], plot.xmin, plot.xmax, plot.xlog) - x);
      if (d < least) { least = d; best = point; }
    });
    return best;
  }
  figures.forEach(function (plots, i) {
    var svg = document.querySelector("#figure-" + (i + 1) + " svg.chart");
    if (!svg || !plots.length) return;
    var mark = document.createElementNS("http://www.w3.org/2000/svg", "path");
    mark.setAttribute("class", "rule");
    mark.setAttribute("stroke", "#888");
    svg.appendChild(mark);
    function hide() { tip.style.display = "none"; mark.setAttribute("d", ""); }
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("pointermove", function (event) {
      var box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
      var x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      var plot = plots.find(function (p) { return x >= p.left && x <= p.right && y >= p.top && y <= p.bottom; });
      if (!plot) { hide(); return; }
      var share = (x - plot.left) / (plot.right - plot.left), at = null, lines = [];
      plot.series.forEach(function (series) {
        var point = nearest(series.points, share, plot);
        if (!point) return;
        if (at === null) at = point[0];
        lines.push([series, point]);
      });
      if (at === null) { hide(); return; }
      tip.textContent = "";
      var head = document.createElement("b");
      head.textContent = (plot.x || "x") + " " + show(at);
      tip.appendChild(head);
      lines.forEach(function (entry) {
        var row = document.createElement("div"), swatch = document.createElement("i");
        swatch.className = "swatch s" + entry[0].colour;
        row.appendChild(swatch);
        row.appendChild(document.createTextNode(entry[0].name + ": " + show(entry[1][1])
          + (entry[1][0] === at ? "" : " at " + show(entry[1][0]))));
        tip.appendChild(row);
      });
      tip.style.display = "block";
      var left = event.clientX + 14, most = document.documentElement.clientWidth - tip.offsetWidth - 6;
      tip.style.left = Math.max(4, Math.min(left, most)) + window.scrollX + "px";
      tip.style.top = event.clientY + 16 + window.scrollY + "px";
      var px = plot.left + (plot.right - plot.left) * place(at, plot.xmin, plot.xmax, plot.xlog);
      mark.setAttribute("d", "M" + px + " " + plot.top + "V" + plot.bottom);
    });
  });
})();
]]

return M

-- SPDX-License-Identifier: MIT
--
-- report_spec.lua: scripts/report.lua on real runs, as a user runs it, and its page in a browser without a screen: it renders
-- with a clean console, its numbers are the log's, nothing is asked from elsewhere, nothing overflows or overlaps.

local cjson = require "cjson"
local runner = require "tests.smoke.runner"
local xml = require "tests.xml"

local small = "--plain --quiet --n_layer 2 --n_head 2 --n_embd 16 --block_size 16 --batch_size 4 --sample_tokens 8 "
  .. "--warmup 2 --eval_iters 2 --eval_every 4 --threads 1 --steps 12 "

-- What a page says of itself once it is drawn: a script at the end of a copy of it, with no leave to load anything.
local probe = [[
<script>
addEventListener("load", function () {
  var said = { width: innerWidth, scroll: document.documentElement.scrollWidth, overlaps: [], outside: [], svgs: 0, labels: 0 };
  said.resources = performance.getEntriesByType("resource").map(function (entry) { return entry.name; });
  document.querySelectorAll("svg.chart").forEach(function (svg) {
    said.svgs++;
    var frame = svg.getBoundingClientRect(), boxes = [];
    svg.querySelectorAll("text").forEach(function (text) {
      var b = text.getBoundingClientRect();
      said.labels++;
      if (b.left < frame.left - 2 || b.right > frame.right + 2 || b.top < frame.top - 2 || b.bottom > frame.bottom + 2)
        said.outside.push(text.textContent);
      boxes.forEach(function (other) {
        var o = other.box, wide = Math.min(b.right, o.right) - Math.max(b.left, o.left);
        var high = Math.min(b.bottom, o.bottom) - Math.max(b.top, o.top);
        if (wide > 1 && high > 0.25 * Math.min(b.height, o.height)) said.overlaps.push(text.textContent + " / " + other.text);
      });
      boxes.push({ box: b, text: text.textContent });
    });
  });
  var chart = document.querySelector("#figure-2 svg.chart"), box = chart.getBoundingClientRect();
  chart.dispatchEvent(new PointerEvent("pointermove",
    { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true }));
  said.tip = document.getElementById("tip").textContent;
  said.shown = getComputedStyle(document.getElementById("tip")).display;
  var out = document.createElement("output");
  out.id = "probe";
  out.textContent = JSON.stringify(said);
  document.body.appendChild(out);
});
</script>
]]

describe("report.lua", function()
  local folder, names, runs, browser

  setup(function()
    folder, names, runs = runner.folder(), {}, {}
    local text = runner.corpus(folder .. "/text", 6000)
    for _, run in ipairs { { "first", "--seed 1" }, { "second", "--seed 2" }, { "by norm", "--seed 1 --clip norm" } } do
      local out = folder .. "/" .. run[1]
      local code, _, complaint = runner.script("train_gpt2", small .. ("--data '%s' --spectra_every 3 %s --out '%s'"):format(text,
        run[2], out))
      assert(code == 0, complaint)
      names[#names + 1], runs[#runs + 1] = run[1], ("'%s'"):format(out)
    end
    for _, name in ipairs { "chromium-headless-shell", "chromium", "chromium-browser" } do
      if not browser and os.execute(("command -v %s >/dev/null 2>&1"):format(name)) == 0 then browser = name end
    end
  end)
  teardown(runner.clean)

  local function report(arguments)
    return runner.script("report", table.concat(runs, " ") .. " " .. arguments)
  end

  -- The page as the browser has it, what it complained of, and what the probe said.
  local function shown(html, width)
    local path = ("%s/at_%d.html"):format(folder, width)
    local file = assert(io.open(path, "wb"))
    file:write((html:gsub("</body>", function() return probe .. "</body>" end)))
    file:close()
    local _, dom, err = runner.shell(("timeout 60 %s --headless --no-sandbox --disable-gpu --window-size=%d,900 "
      .. "--virtual-time-budget=5000 --enable-logging=stderr --v=0 --user-data-dir='%s/browser' --dump-dom 'file://%s'"):format(
      browser, width, folder, path))
    local console = {}
    for line in err:gmatch "[^\n]+" do
      if line:find "CONSOLE" then console[#console + 1] = line end
    end
    local said = dom:match '<output id="probe">(.-)</output>'
    assert(said, "the page has not run:\n" .. err:sub(-2000))
    return dom, console, cjson.decode((said:gsub("&lt;", "<"):gsub("&gt;", ">"):gsub("&amp;", "&")))
  end

  it("writes a page that a browser shows whole, with a clean console and nothing from elsewhere", function()
    if not browser then return pending "no chromium-headless-shell (./bootstrap.sh --tests installs it)" end
    local out = folder .. "/report.html"
    local code, said, complaint = report(("--target 3 --out '%s'"):format(out))
    assert.are.equal(0, code, complaint)
    assert.are.equal(out .. "\n", said)
    local html = runner.read(out)
    assert.is_truthy(html:find("default-src 'none'", 1, true))
    for _, width in ipairs { 1280, 400 } do
      local dom, console, seen = shown(html, width)
      assert.are.same({}, console)
      assert.are.same({}, seen.resources)
      assert.are.equal(width, seen.width)
      assert.is_true(seen.scroll <= width, ("%d wide at %d"):format(seen.scroll, width))
      assert.are.same({}, seen.overlaps)
      assert.are.same({}, seen.outside)
      assert.is_true(seen.svgs >= 9 and seen.labels > 150, ("%d charts, %d labels"):format(seen.svgs, seen.labels))
      assert.are.equal("block", seen.shown)
      assert.is_truthy(seen.tip:find "^step 8A: .*: %d", seen.tip)
      assert.are.equal(select(2, html:gsub("<svg ", "")), select(2, dom:gsub("<svg ", "")))
    end
  end)

  it("shows the numbers of the logs", function()
    local html
    local out = folder .. "/numbers.html"
    assert.are.equal(0, (report(("--out '%s'"):format(out))))
    html = runner.read(out)
    if browser then html = shown(html, 1280) end
    local tables = html:match "<main>.*</main>"
    for i, name in ipairs(names) do
      local loss, val, best, clipped, matrices = nil, nil, math.huge, 0, 0
      for _, record in ipairs(runner.records(folder .. "/" .. name .. "/log.jsonl")) do
        loss, val = record.loss or loss, record.val_loss or val
        best = math.min(best, record.val_loss or best)
        if record.clip then
          clipped, matrices = clipped + record.clip.clipped, matrices + record.clip.matrices
        elseif record.clipped ~= nil then
          clipped, matrices = clipped + (record.clipped and 1 or 0), matrices + 1
        end
      end
      local row = assert(tables:match("<tr><td><code>" .. name .. "</code></td>(.-)</tr>"), name)
      local values = {}
      for value in row:gmatch 'data%-value="([^"]*)"' do values[#values + 1] = tonumber(value) end
      assert.are.same({ 12, loss, val, best }, { values[1], values[2], values[3], values[4] }, "run " .. i)
      assert.is_true(math.abs(values[5] - clipped / matrices) < 1e-12)
      assert.is_truthy(row:find((">%.4f<"):format(val), 1, true))
    end
    local data = cjson.decode((html:match '<script type="application/json" id="data">(.-)</script>'))
    assert.are.same({ "A", "A", "B" }, { data.runs[1].group, data.runs[2].group, data.runs[3].group })
    for i, name in ipairs(names) do
      local losses = {}
      for _, record in ipairs(runner.records(folder .. "/" .. name .. "/log.jsonl")) do losses[#losses + 1] = record.val_loss end
      assert.are.same(losses, data.runs[i].val.loss)
      assert.are.equal("finished", data.runs[i].state)
    end
  end)

  it("writes single plots", function()
    local has_png = os.execute "command -v rsvg-convert >/dev/null 2>&1" == 0
    for _, plot in ipairs { "loss", "val", "clip", "sigma", "heat", "events", "spectra", "norm", "throughput", "lr" } do
      local out = ("%s/%s.svg"):format(folder, plot)
      local code, _, complaint = report(("--plot %s --out '%s'"):format(plot, out))
      assert.are.equal(0, code, complaint)
      assert.is_true(#xml.elements(runner.read(out)) > 20, plot)
    end
    local png = folder .. "/loss.png"
    local code, _, complaint = report(("--plot loss --out '%s'"):format(png))
    if has_png then
      assert.are.equal(0, code, complaint)
      assert.are.equal("\137PNG\r\n\26\n", runner.read(png):sub(1, 8))
    end
    code, _, complaint = runner.shell(("J=$(command -v luajit); PATH=/nonexistent $J '%s/scripts/report.lua' %s --plot loss "
      .. "--out '%s'"):format(runner.root, runs[1], png))
    assert.are.equal(1, code)
    assert.is_truthy(complaint:find("install Debian's package librsvg2-bin", 1, true), complaint)
  end)

  it("answers what it cannot do with one line", function()
    local function says(code, text, arguments)
      local got, _, complaint = runner.script("report", arguments)
      assert.is_truthy(complaint:find(text, 1, true), complaint)
      assert.are.equal(1, select(2, complaint:gsub("\n", "")))
      assert.are.equal(code, got)
    end
    says(2, "name at least one run", "")
    says(2, "did you mean --plot?", runs[1] .. " --polt loss")
    says(2, "did you mean throughput?", runs[1] .. " --plot througput")
    says(2, "a plot is .svg or .png", runs[1] .. " --plot loss --out x.pdf")
    says(2, "the page is HTML", runs[1] .. " --out x.png")
    says(1, "there is no such file or folder", "/nonexistent")
    says(1, "the folder holds no log.jsonl", folder)
    says(1, "text:1: at byte 0", ("'%s/text'"):format(folder))
    says(1, "the logs hold nothing of that; it is logged with --clip spectral", runs[3] .. " --plot heat")
    says(1, "cannot write", runs[1] .. " --out /nonexistent/x.html")
    local code, said = runner.script("report", "--help")
    assert.are.equal(0, code)
    assert.is_truthy(said:find("--step_worth", 1, true))
  end)
end)

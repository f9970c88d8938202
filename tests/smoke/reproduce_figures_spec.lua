-- SPDX-License-Identifier: MIT
--
-- reproduce_figures_spec.lua: the figures about language models at their smallest: what summary.json claims follows from the
-- numbers in results.jsonl, computed here again.

local runner = require "tests.smoke.runner"
local cjson = require "cjson"

-- Runs a script; its summary and its records.
local function run(name, arguments)
  local out = runner.folder()
  local rc, stdout, stderr = runner.script("reproduce/" .. name, ("--smoke --plain --jobs 2 --out '%s' %s"):format(out,
    arguments or ""))
  assert(rc == 0, ("exit code %s\n%s%s"):format(tostring(rc), stdout, stderr))
  return cjson.decode(runner.read(out .. "/summary.json")), runner.records(out .. "/results.jsonl"), out
end

local function claim_of(summary, start)
  for _, claim in ipairs(summary.claims) do
    if claim.claim:sub(1, #start) == start then return claim end
  end
  error("there is no claim that begins with " .. start)
end

local function mean(list)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + v end
  return sum / #list
end

local function median(list)
  table.sort(list)
  local n = #list
  return (list[math.floor((n + 1) / 2)] + list[math.ceil((n + 1) / 2)]) / 2
end

local function near(expected, found, text)
  assert(math.abs(expected - found) <= 1e-9 * math.max(1, math.abs(expected)),
    ("%s: %.12g is expected, %.12g is said"):format(text, expected, found))
end

-- The last losses of validation of the settings for which chosen(o) holds: the least mean over the seeds, and their list.
local function best(records, chosen)
  local cells = {}
  for _, r in ipairs(records) do
    local o = r.settings
    if chosen(o) then
      local key = o.lr .. " " .. tostring(o.threshold)
      cells[key] = cells[key] or {}
      cells[key][r.seed] = r.result.curve[#r.result.curve].val
    end
  end
  local least, of_seeds = math.huge, nil
  for _, finals in pairs(cells) do
    local list = {}
    for _, value in pairs(finals) do list[#list + 1] = value end
    if mean(list) < least then least, of_seeds = mean(list), finals end
  end
  return least, of_seeds
end

local function wins(a, b)
  local count, seeds = 0, 0
  for seed, value in pairs(a) do
    seeds = seeds + 1
    if value < b[seed] then count = count + 1 end
  end
  return count, seeds
end

local function verdict(holds)
  local count = 0
  for _, one in ipairs(holds) do count = count + (one and 1 or 0) end
  return count == #holds and "reproduced" or count > 0 and "partly" or "not reproduced"
end

describe("figures of language models", function()
  after_each(runner.clean)

  for name, optimizers in pairs { shakespeare = { "SGDM", "Muon" }, gpt2 = { "SGDM", "AdamW", "Muon" } } do
    it(name .. " compares the best of norm and of spectral clipping", function()
      local summary, records = run(name, "--seeds 1,2")
      for _, r in ipairs(records) do
        local curve = r.result.curve
        assert.equal(0, curve[1].step)
        assert.equal(r.settings.steps, curve[#curve].step)
        for k = 2, #curve do assert(curve[k].seconds > curve[k - 1].seconds) end
      end
      for _, optimizer in ipairs(optimizers) do
        local loss, of_seeds = {}, {}
        for _, clip in ipairs { "norm", "spectral" } do
          loss[clip], of_seeds[clip] = best(records, function(o) return o.optimizer == optimizer and o.clip == clip end)
        end
        local claim = claim_of(summary, optimizer .. ": spectral clipping ends below")
        near(loss.norm, claim.numbers.norm, optimizer .. ", norm")
        near(loss.spectral, claim.numbers.spectral, optimizer .. ", spectral")
        local won, seeds = wins(of_seeds.spectral, of_seeds.norm)
        assert.equal(won, claim.numbers.wins)
        assert.equal(2, seeds)
        assert.equal(verdict { loss.spectral < loss.norm, won == seeds }, claim.verdict)
        local timed = claim_of(summary, optimizer .. ": the same at equal time")
        assert.equal(verdict { timed.numbers.spectral_in_time < timed.numbers.norm_in_time }, timed.verdict)
      end
    end)
  end

  it("follow the authors' code in what --full has", function()
    local full = { shakespeare = { adam_lr = 0, sgd_decay = 0.1, view = "qkv", clipped = "matrices", dropout = 0.2 },
      gpt2 = { final = 0, decay = 0, muon = "torch", rest_lr = 0, dropout = 0.1 } }
    for name, options in pairs(full) do
      local _, help = runner.script("reproduce/" .. name, "--full --help")
      local words = {}
      for option, value in pairs(options) do
        local row = help:match(("\n  %%-%%-%s [^\n]*"):format(option))
        assert.equal(("[%s]"):format(tostring(value)), row:match "%S+$")
        words[#words + 1] = ("--%s %s"):format(option, tostring(value))
      end
      local _, records = run(name, table.concat(words, " "))
      local _, plain = run(name)
      for i, r in ipairs(records) do
        assert.is_false(r.result.final == plain[i].result.final, r.name .. ": the options change nothing")
        assert(r.result.final < 7 and r.result.final == r.result.final)
      end
    end
  end)

  it("svd_methods judges losses, errors and times of all methods", function()
    local summary, records = run "svd_methods"
    local of = {}
    for _, r in ipairs(records) do
      local all, last, curve = {}, {}, r.result.curve
      for k, point in ipairs(curve) do
        for _, e in ipairs(point.errors or {}) do all[#all + 1] = e end
        if k > 1 + 0.8 * (#curve - 1) then last[#last + 1] = point.train end
      end
      of[r.name] = { median = median(all), loss = mean(last), seconds = r.result.clip_seconds, count = #all }
    end
    assert(of.exact.count > 0 and of.exact.count <= 4 * 4) -- four matrices, each of four steps
    assert(of.polar.median < 1e-4 and of.exact.median < 1e-5)
    for _, name in ipairs { "rank 10, it 1", "polar" } do
      near(of[name].loss, claim_of(summary, name .. " trains").numbers.loss, name)
      near(of[name].median, claim_of(summary, "median error of " .. name).numbers.value, name)
      assert(of[name].seconds > 0)
      local timed = claim_of(summary, name .. " clips faster")
      near(of.exact.seconds / of[name].seconds, timed.numbers.times, name)
      assert.equal(verdict { of.exact.seconds > of[name].seconds }, timed.verdict)
    end
  end)

  it("svd_methods is not satisfied with nothing to clip, and knows its time where the last step has no errors", function()
    local summary, records = run("svd_methods", "--threshold 100 --steps 5 --eval_every 2")
    for _, name in ipairs { "rank 3, it 2", "rank 10, it 1", "polar" } do
      local claim = claim_of(summary, name .. " trains")
      assert(claim.measured:find("nothing was clipped", 1, true), claim.measured)
      assert.equal("not reproduced", claim.verdict)
    end
    for _, r in ipairs(records) do assert(r.result.clip_seconds > 0) end
  end)

  -- Checks what spectra_under_noise says of one batch size against its records.
  local function check_spectra(summary, records, size)
    local values, shares = {}, {}
    for _, r in ipairs(records) do
      for _, one in ipairs(r.result.sizes) do
        for _, point in ipairs(one.size == size and one.points or {}) do
          shares[point.share] = true
          for name, sigma in pairs(point.sigma) do
            local group = name:match "^h%.%d+%.(.*)%.weight$"
            values[group] = values[group] or {}
            values[group][point.share] = values[group][point.share] or {}
            table.insert(values[group][point.share], sigma)
          end
        end
      end
    end
    local ordered, holds = {}, {}
    for share in pairs(shares) do ordered[#ordered + 1] = share end
    table.sort(ordered)
    local claim = claim_of(summary, ("batches of %d:"):format(size))
    for group, by_share in pairs(values) do
      local grows = true
      for k = 2, #ordered do grows = grows and median(by_share[ordered[k]]) > median(by_share[ordered[k - 1]]) end
      holds[#holds + 1] = grows
      near(median(by_share[ordered[#ordered]]) / median(by_share[ordered[1]]), claim.numbers[group], group)
    end
    assert.equal(4, #holds)
    assert.equal(verdict(holds), claim.verdict)
    return ordered
  end

  it("spectra_under_noise counts the groups in which the median grows", function()
    local summary, records = run("spectra_under_noise", "--seeds 3,4")
    assert.same({ 0, 0.5, 1 }, check_spectra(summary, records, 4))
    assert.equal(2, #records)
    for _, r in ipairs(records) do
      local loss = {} -- random tokens cannot be foreseen
      for _, point in ipairs(r.result.sizes[1].points) do loss[point.share] = point.loss end
      assert(loss[0] < loss[0.5] and loss[0.5] < loss[1])
    end
  end)

  it("spectra_under_noise takes weights and token files", function()
    local folder = runner.folder()
    local mb = require "moonbow"
    local text = folder .. "/text.txt"
    runner.corpus(text, 4000)
    local rc, _, problem = runner.script("data/tokenize",
      ("'%s' --tokenizer bytes --out '%s/tokens' --quiet"):format(text, folder))
    assert.equal(0, rc, problem)
    mb.models.gpt2({ vocab_size = 256, block_size = 32, n_layer = 2, n_head = 2, n_embd = 16, seed = 5, device = "cpu" })
      :save_llmc(folder .. "/model.bin")
    local summary, records = run("spectra_under_noise", ("--weights '%s/model.bin' --data '%s/tokens'"):format(folder, folder))
    check_spectra(summary, records, 4)
    assert.is_nil(records[1].result.loss)
    local code, _, complaint = runner.script("reproduce/spectra_under_noise",
      ("--smoke --weights x.bin --out '%s/o'"):format(folder))
    assert.equal(2, code)
    assert(complaint:find("--data names the token files", 1, true), complaint)
  end)

  it("ggnc compares the best learning rates of both methods", function()
    local summary, records = run("ggnc", "--seeds 1,2 --lrs 2e-4,4e-4")
    assert.equal(2 * 2 * 2 * 2, #records)
    local loss, of_seeds = {}, {}
    for _, method in ipairs { "scion", "clipped_scion" } do
      for _, schedule in ipairs { "constant", "decay" } do
        local key = method .. schedule
        loss[key], of_seeds[key] = best(records, function(o) return o.method == method and o.schedule == schedule end)
      end
    end
    local claim = claim_of(summary, "constant step")
    near(loss.clipped_scionconstant, claim.numbers.clipped, "clipped")
    near(loss.scionconstant, claim.numbers.plain, "plain")
    local won, seeds = wins(of_seeds.clipped_scionconstant, of_seeds.scionconstant)
    assert.equal(verdict { claim.numbers.clipped < claim.numbers.plain, won == seeds }, claim.verdict)
    claim = claim_of(summary, "linear decay")
    near(loss.clipped_sciondecay, claim.numbers.clipped, "clipped, decay")
    local is_short = not claim.measured:find("no step is a short one", 1, true)
    assert.equal(verdict { is_short and loss.clipped_sciondecay <= 1.005 * loss.sciondecay }, claim.verdict)
    for _, r in ipairs(records) do
      for k = 2, #r.result.curve do assert(r.result.curve[k].dual > 0) end
    end
  end)

  it("ggnc reads the characters of a text of one's own, and tells a rho that clips nothing", function()
    local folder = runner.folder()
    local text = runner.corpus(folder .. "/mine.txt", 3000)
    local summary = run("ggnc", ("--data '%s' --rho 1e-6"):format(text))
    assert(table.concat(summary.notes, "\n"):find "\nCharacters of [^\n]*mine.txt", table.concat(summary.notes, "\n"))
    local claim = claim_of(summary, "linear decay")
    assert(claim.measured:find("no step is a short one", 1, true), claim.measured)
    assert.equal("not reproduced", claim.verdict)
  end)

  it("a text of one's own is encoded, and an unknown one is refused", function()
    local folder = runner.folder()
    runner.corpus(folder .. "/mine.txt", 20000)
    local summary = run("gpt2", ("--data '%s/mine.txt'"):format(folder))
    assert(table.concat(summary.notes, "\n"):find "\nTokens of [^\n]*mine.txt", table.concat(summary.notes, "\n"))
    local rc, _, problem = runner.script("reproduce/gpt2", ("--smoke --out '%s/o' --data '%s/none'"):format(folder, folder))
    assert.equal(1, rc)
    assert(problem:find("there is no", 1, true), problem)
    rc, _, problem = runner.script("reproduce/shakespeare", ("--smoke --out '%s/o' --taus 1,x"):format(folder))
    assert.equal(2, rc)
    assert(problem:find("--taus: 'x' is no number above 0", 1, true), problem)
  end)
end)

#!/usr/bin/env bash
# gpu_check.sh [--quick] [--out FOLDER]: everything that only a CUDA machine can show, in one command: the build, every
# op and kernel against the CPU's, the fixtures, determinism, compute-sanitizer, a short run, and the benchmarks beside
# PyTorch. Ends in a table, and in FOLDER/gpu_check.json and a log a row (default: docs/results/GPU).
# --quick leaves out compute-sanitizer and the benchmarks. Rows whose tool is missing are skipped, and say so.
# MOONBOW_PEER names a Python with PyTorch (python3).
set -u
cd "$(dirname "$0")/.."

quick=0
out=""
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=1 ;;
    --out) out=${2:?gpu_check.sh: --out needs a folder}; shift ;;
    -h | --help) sed -n '2,6s/^# //p' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown option $1 (known: --quick, --out FOLDER)" >&2; exit 2 ;;
  esac
  shift
done

peer=${MOONBOW_PEER:-python3}
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || { echo "gpu_check.sh: nvidia-smi shows no GPU" >&2; exit 1; }
[ -n "$out" ] || out="docs/results/$(echo "$gpu" | tr -c 'A-Za-z0-9\n' '-' | tr -s '-')"
mkdir -p "$out" || exit 1
rows="$out/rows.tsv"
: >"$rows"
failures=0

# row NAME COMMAND...: runs it with its output in a log; "skipped" if it exits 77.
row() {
  local name=$1 start seconds status=passed code
  shift
  start=$(date +%s.%N)
  printf '%-28s' "$name"
  "$@" >"$out/$name.log" 2>&1
  code=$?
  seconds=$(echo "$(date +%s.%N) $start" | awk '{ printf "%.1f", $1 - $2 }')
  if [ $code = 77 ]; then status=skipped; elif [ $code != 0 ]; then status=FAILED; failures=$((failures + 1)); fi
  printf '%-8s %8s s   %s\n' "$status" "$seconds" "$(tail -n 1 "$out/$name.log" | cut -c 1-100)"
  printf '%s\t%s\t%s\t%s\n' "$name" "$status" "$seconds" "$(tail -n 1 "$out/$name.log" | tr '\t' ' ')" >>"$rows"
}

build() {
  cmake -S . -B build ${GPU_ROOT:+-DCMAKE_PREFIX_PATH="$GPU_ROOT/usr"} -DCMAKE_BUILD_TYPE=Release &&
    cmake --build build --parallel --target moonbow moonbow_cuda
}

# spec FILE: a spec with its tensors on the GPU.
spec() {
  env MB_TEST_DEVICE=cuda MOONBOW_ROOT="$PWD" MOONBOW_LIB="$PWD/build/libmoonbow.so" \
    LUA_PATH="$PWD/lua/?.lua;$PWD/lua/?/init.lua;$PWD/?.lua;${LUA_PATH:-};" \
    luajit "$(command -v busted)" --no-auto-insulate -o TAP "$1"
}

train() { luajit scripts/train_gpt2.lua --device cuda --plain --n_layer 2 --n_head 2 --n_embd 64 --block_size 32 --eval_iters 2 "$@"; }
losses() { grep -o '"loss":[^,}]*' "$1"/log.jsonl; }

# Two runs of one seed have the same losses, and so has one that was stopped in the middle.
determinism() {
  local dtype=$1 folder
  folder=$(mktemp -d) || return 1
  train --dtype "$dtype" --steps 30 --save_every 15 --out "$folder/a" >/dev/null &&
    train --dtype "$dtype" --steps 30 --save_every 15 --out "$folder/b" >/dev/null &&
    cmp <(losses "$folder/a") <(losses "$folder/b") && echo "two runs of 30 steps in $dtype: the same bits" &&
    train --dtype "$dtype" --steps 15 --save_every 15 --out "$folder/c" >/dev/null &&
    train --resume "$folder/c" --steps 30 >/dev/null &&
    cmp <(losses "$folder/a") <(losses "$folder/c") && echo "two runs and a resumed one in $dtype: the same bits"
  local code=$?
  rm -rf "$folder"
  return $code
}

sanitizer() {
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer not found"; return 77; }
  env MB_TEST_DEVICE=cuda MOONBOW_LIB="$PWD/build/libmoonbow.so" compute-sanitizer --tool "$1" --error-exitcode 9 \
    scripts/moonbow tests/valgrind/step.lua
}

has_torch() { "$peer" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }
against_peer() {
  has_torch || { echo "$peer has no PyTorch with CUDA"; return 77; }
  "$@" --peer "$peer"
}

echo "$gpu, $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1), $(nvcc --version | tail -n 1)"
row build build
[ $failures = 0 ] || { tail -n 20 "$out/build.log" >&2; exit 1; }
row ops spec tests/ops/ops_spec.lua
for file in tests/golden/*_spec.lua tests/lua/{fuse,layers,models,optim,checkpoint,clip,clip_matrix,clip_method,clip_where,linalg,spectrum}_spec.lua \
  tests/lua/cuda_*_spec.lua; do
  [ -f "$file" ] && row "$(basename "$file" _spec.lua)" spec "$file"
done
row determinism.f32 determinism f32
row determinism.bf16 determinism bf16
row shakespeare train --steps 200
if [ $quick = 0 ]; then
  row memcheck sanitizer memcheck
  row racecheck sanitizer racecheck
  row bench.train against_peer luajit scripts/bench/train.lua --device cuda --dtype bf16 --batch_size 64 --block_size 1024 --steps 20
  row bench.train.f32 against_peer luajit scripts/bench/train.lua --device cuda --batch_size 16 --block_size 1024 --steps 10
fi

luajit - "$rows" "$out/gpu_check.json" "$gpu" <<'LUA'
local rows = {}
for line in io.lines(arg[1]) do
  local name, status, seconds, last = line:match "^([^\t]*)\t([^\t]*)\t([^\t]*)\t(.*)$"
  rows[#rows + 1] = { name = name, status = status, seconds = tonumber(seconds), last = last }
end
local file = assert(io.open(arg[2], "w"))
file:write(require "cjson".encode { gpu = arg[3], date = os.date "!%Y-%m-%dT%H:%M:%SZ", rows = rows }, "\n")
file:close()
LUA
rm -f "$rows"
echo "$failures failed; logs and gpu_check.json are in $out"
[ $failures = 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# gpu_check.sh [options]: everything that only a CUDA machine can show, in one command: the build, every op and kernel
# beside the CPU's, the fixtures, determinism, bf16 beside float32, compute-sanitizer, a run on Shakespeare, and the
# benchmarks beside PyTorch. Ends in a table and a JSON file, both written anew after every row, so that a run that was
# killed has left what it knows.
#   --only NAMES        these rows, by name or a part of it between dots: --only build,ops,determinism
#   --skip NAMES        all rows but these
#   --quick             all rows but compute-sanitizer and the benchmarks
#   --budget SECONDS    what has not begun by then is not run
#   --jobs N            rows at a time, where nothing is timed (4)
#   --out FOLDER        for gpu_check.json, table.txt and gpu_check.log (docs/results/GPU)
#   --host              rehearses all rows without a GPU, on the plugin that the tests build for the host, in small sizes;
#                       its figures say nothing about a GPU, and its JSON says so (runs/gpu_check_rehearsal)
#   --list              names the rows and their time limits in seconds
# MOONBOW_PEER names a Python with PyTorch (python3), MOONBOW_SHARED the folder of fixtures and data (../shared), MOONBOW_CMAKE
# further arguments of cmake, MOONBOW_BUILD the build folder (build); where LuaJIT, OpenBLAS and busted lie below a prefix,
# source its environment first. docs/cuda.md says more.
set -u
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$script")/.." || exit 1
export ROOT=$PWD

host=0 only="" skip="" budget=0 jobs="" out="" list=0
need() { [ $# -ge 2 ] || { echo "gpu_check.sh: $1 needs a value" >&2; exit 2; }; }
while [ $# -gt 0 ]; do
  case "$1" in
    --host) host=1 ;;
    --list) list=1 ;;
    --quick) skip="$skip,sanitizer,bench" ;;
    --only) need "$@"; only=$2; shift ;;
    --skip) need "$@"; skip="$skip,$2"; shift ;;
    --budget) need "$@"; budget=$2; shift ;;
    --jobs) need "$@"; jobs=$2; shift ;;
    --out) need "$@"; out=$2; shift ;;
    -h | --help) sed -n '4,20s/^#$//; 4,20s/^# //p' "$script"; exit 0 ;;
    *) echo "gpu_check.sh: unknown option $1 (--help lists all)" >&2; exit 2 ;;
  esac
  shift
done
for number in "$budget" "${jobs:-1}"; do
  case "$number" in '' | *[!0-9]*) echo "gpu_check.sh: '$number' is no number of seconds or jobs" >&2; exit 2 ;; esac
done

export HOST=$host PEER=${MOONBOW_PEER:-python3} BUILD=${MOONBOW_BUILD:-$ROOT/build}
export SHARED=${MOONBOW_SHARED:-$ROOT/../shared}
export MOONBOW_SHARED=$SHARED
# cuDNN as the peer has it, where the loader finds none.
if [ "$host" = 0 ] && [ -z "${MOONBOW_CUDNN+set}" ]; then
  cudnn=$("$PEER" -c 'import ctypes
try: ctypes.CDLL("libcudnn.so.9")
except OSError:
  import nvidia.cudnn as c
  print(list(c.__path__)[0] + "/lib/libcudnn.so.9")' 2>/dev/null)
  [ -f "$cudnn" ] && export MOONBOW_CUDNN=$cudnn
fi

# ----- the rows: name, seconds, "alone" where something is timed, the function that runs it and its arguments ------------

# The specs that ctest runs on the plugin for the host: the list there is the only one.
specs() { sed -n '/foreach(spec ops\/ops/,/)/p' tests/CMakeLists.txt | tr -s ' ()' '\n' | grep / | grep -v ^parity; }

# rows HOST: 1 for what a rehearsal runs, 0 for all.
rows() {
  echo "build 420 alone build"
  echo "device 180 alone device"
  echo "parity 180 together spec parity/parity"
  echo "cudnn 180 alone cudnn"
  local name
  for name in $(specs); do
    [ "$1" = 1 ] && [ "$name" != lua/linalg ] && continue # ctest runs the others on the host
    echo "spec.${name/\//.} 240 together spec $name"
  done
  echo "determinism.f32 120 together determinism f32"
  echo "determinism.bf16 120 together determinism bf16"
  echo "run.shakespeare 180 together shakespeare"
  echo "run.bf16 400 alone bf16"
  echo "bench.gpu 500 alone bench_gpu"
  echo "bench.gemm.f32 60 alone bench_gemm f32"
  echo "bench.gemm.bf16 60 alone bench_gemm bf16"
  echo "bench.train.bf16 240 alone bench_train bf16"
  echo "bench.train.f32 240 alone bench_train f32"
  echo "bench.optim 120 alone bench_optim"
  echo "bench.spectral 240 alone bench_spectral"
  echo "sanitizer.memcheck 300 together sanitizer memcheck"
  echo "sanitizer.racecheck 300 together sanitizer racecheck"
}

# ----- what the rows do: exit code 0 is passed, 77 skipped; the last line goes into the table ----------------------------

# The commands' environment: the library, and in a rehearsal the plugin for the host.
surroundings() {
  export MOONBOW_ROOT=$ROOT MOONBOW_LIB=$BUILD/libmoonbow.so
  export LUA_PATH="$ROOT/lua/?.lua;$ROOT/lua/?/init.lua;$ROOT/?.lua;${LUA_PATH:-;}"
  if [ "$HOST" = 1 ]; then
    export MOONBOW_CUDA_PLUGIN=${MOONBOW_CUDA_PLUGIN:-$BUILD/tests/libmoonbow_cuda_host.so} OMP_WAIT_POLICY=passive MB_FEWER=20
  else
    unset MOONBOW_CUDA_PLUGIN # what is checked is the plugin beside the library
  fi
}

build() {
  if [ "$HOST" = 1 ]; then # by whoever runs the tests
    ls -l "$MOONBOW_LIB" "$MOONBOW_CUDA_PLUGIN" && echo "the library and the plugin for the host are there"
    return
  fi
  local arch
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)-real
  # shellcheck disable=SC2086
  cmake -S . -B "$BUILD" ${GPU_ROOT:+-DCMAKE_PREFIX_PATH="$GPU_ROOT/usr"} -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CUDA_ARCHITECTURES="$arch" -DMB_WERROR=OFF ${MOONBOW_CMAKE:-} &&
    cmake --build "$BUILD" --parallel --target moonbow moonbow_cuda && echo "built for sm_${arch%-real}"
}

device() { luajit scripts/gpu_check/device.lua; }

# Attention by cuDNN, timed beside the own kernels; by another process, which has its plans from disk and gives the same bits; and
# where it was taken untimed the parity of it.
cudnn() {
  local scale=1 run
  [ "$HOST" = 1 ] && scale=32
  for run in made read; do
    MOONBOW_CACHE=$ROW_OUT/cache luajit scripts/gpu_check/cudnn.lua $scale "$ROW_OUT/$run" >"$ROW_OUT/said" || { run=$?; cat "$ROW_OUT/said"; return $run; }
    cat "$ROW_OUT/said"
  done
  cmp "$ROW_OUT/made" "$ROW_OUT/read" || { echo "a plan from disk gives other bits"; return 1; }
  if grep '^attention.*: cuDNN' "$ROW_OUT/said" | grep -v 'its plan is from disk$'; then echo "plans are not read from disk"; return 1; fi
  MOONBOW_TUNE=0 spec parity/parity --filter=attention
}

# spec NAME: a spec with its tensors on the device.
spec() {
  command -v busted >/dev/null || { echo "busted not found"; return 77; }
  # A part of the random cases: each program of a case is compiled for the device.
  MB_FEWER=${MB_FEWER:-4} MB_TEST_DEVICE=cuda MB_PARITY_JSON=$ROW_JSON luajit "$(command -v busted)" --no-auto-insulate -o TAP "${@:2}" \
    "tests/$1_spec.lua" \
    >"$ROW_OUT/tap" 2>&1
  local code=$?
  cat "$ROW_OUT/tap"
  awk '/^ok/ { if (/# SKIP/) skipped++; else passed++ } /^not ok/ { failed++ }
    END { printf "%d passed, %d failed, %d skipped%s\n", passed, failed, skipped, passed + failed + skipped ? "" : ": nothing ran" }' \
    "$ROW_OUT/tap"
  return $code
}

# A network that takes a second to train, on the device or with a later --device elsewhere.
train() {
  luajit scripts/train_gpt2.lua --device cuda --plain --n_layer 2 --n_head 2 --n_embd 64 --block_size 32 --eval_iters 2 \
    --warmup 2 --sample_tokens 0 "$@"
}

# Two runs of one seed have the same losses and end in the same checkpoint, and so has one that was stopped in the middle.
determinism() {
  local dtype=$1 steps=60 size="" run
  [ "$HOST" = 1 ] && steps=6 size="--n_embd 16 --block_size 8 --batch_size 2"
  for run in a b; do
    # shellcheck disable=SC2086
    train $size --dropout 0.1 --dtype "$dtype" --steps $steps --schedule const --save_every $((steps / 2)) --out "$ROW_OUT/$run" || return 1
  done
  luajit scripts/gpu_check/compare.lua same "$ROW_OUT/a" "$ROW_OUT/b" || return 1
  # shellcheck disable=SC2086
  train $size --dropout 0.1 --dtype "$dtype" --steps $((steps / 2)) --schedule const --save_every $((steps / 2)) --out "$ROW_OUT/c" &&
    luajit scripts/train_gpt2.lua --device cuda --plain --resume "$ROW_OUT/c" --steps $steps || return 1
  luajit scripts/gpu_check/compare.lua same "$ROW_OUT/a" "$ROW_OUT/c" || return 1
  echo "two runs and a resumed one of $steps steps in $dtype: the same bits"
}

# nanoGPT's small setting on both devices: the validation losses may differ by what rounding makes of a run.
shakespeare() {
  local text=$SHARED/data/tinyshakespeare/input.txt steps=500 size="" where
  [ -f "$text" ] || text=data/shakespeare/input.txt
  [ -f "$text" ] || { echo "no Tiny Shakespeare in $SHARED/data or data/ (luajit scripts/data/get.lua shakespeare)"; return 77; }
  [ "$HOST" = 1 ] && steps=15 size="--n_layer 2 --n_head 2 --n_embd 32 --block_size 16 --batch_size 4 --eval_iters 4"
  for where in cuda cpu; do
    # shellcheck disable=SC2086
    luajit scripts/train_gpt2.lua --preset shakespeare-char --data "$text" $size --steps $steps --sample_tokens 0 --plain \
      --device $where --out "$ROW_OUT/$where" || return 1
  done
  luajit scripts/gpu_check/compare.lua near "$ROW_OUT/cuda" "$ROW_OUT/cpu" 0.01 "$ROW_JSON"
}

# GPT-2 124M at 64 x 1024 in bf16 and in float32: losses and memory.
bf16() {
  if [ "$HOST" = 1 ]; then
    luajit scripts/gpu_check/bf16.lua --n_layer 2 --n_head 2 --n_embd 32 --block_size 16 --batch_size 4 --vocab_size 300 \
      --steps 20 --json "$ROW_JSON"
  else
    luajit scripts/gpu_check/bf16.lua --json "$ROW_JSON"
  fi
}

sanitizer() {
  if [ "$HOST" = 1 ]; then
    MB_TEST_DEVICE=cuda luajit tests/valgrind/step.lua || return 1
    echo "compute-sanitizer needs a GPU; the step itself runs"
    return 77
  fi
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer not found"; return 77; }
  # Libraries probe with calls that fail, and their kernels are not ours to judge.
  local flags="--report-api-errors no"
  [ "$1" = racecheck ] && compute-sanitizer --help | grep -q -- --kernel-name && flags="--kernel-name kns=run_kernel --kernel-name kns=fused"
  # shellcheck disable=SC2086
  MB_TEST_DEVICE=cuda compute-sanitizer --tool "$1" $flags --error-exitcode 9 luajit tests/valgrind/step.lua >"$ROW_OUT/log" 2>&1
  local code=$?
  cat "$ROW_OUT/log"
  grep -q "Device not supported" "$ROW_OUT/log" && { echo "compute-sanitizer does not support this device here"; return 77; }
  return $code
}

# The peer's part of a benchmark's command line: none without PyTorch. In a rehearsal it works on the CPU, and only if
# MOONBOW_PEER names it: PyTorch takes seconds to load.
peer() {
  local condition="import torch, sys; sys.exit(not torch.cuda.is_available())"
  if [ "$HOST" = 1 ]; then
    [ "${MOONBOW_PEER:-}" ] || return 0
    condition="import torch"
  fi
  if "$PEER" -c "$condition" 2>/dev/null; then
    echo "--peer $PEER"
    [ "$HOST" = 1 ] && echo "--peer_device cpu"
  else
    echo "$PEER has no PyTorch for this device: there is nothing beside these figures" >&2
  fi
}

# What the library wants to show on a GPU, each figure beside its target.
bench_gpu() {
  local size="" name
  name=$(peer | sed -n 's/^--peer //p' | head -n 1)
  [ "$HOST" = 1 ] && size="--host"
  # shellcheck disable=SC2086
  luajit scripts/bench/gpu.lua $size --peer "${name:-none}" --record "$ROW_JSON"
}

bench_gemm() {
  local size=""
  [ "$HOST" = 1 ] && size="--scale 0.02 --rounds 1"
  # shellcheck disable=SC2046,SC2086
  luajit scripts/bench/gemm.lua --device cuda --dtype "$1" $size $(peer) --record "$ROW_JSON"
}

bench_train() {
  local size="--batch_size 64 --block_size 1024 --steps 10 --warmup 5 --rounds 2 --compile"
  [ "$1" = f32 ] && size="--batch_size 16 --block_size 1024 --steps 5 --warmup 3 --rounds 1"
  [ "$HOST" = 1 ] && size="--batch_size 2 --block_size 8 --positions 8 --vocab_size 99 --n_layer 1 --n_head 2 --n_embd 32 --steps 1
    --warmup 1 --rounds 1 --quick"
  # shellcheck disable=SC2046,SC2086
  luajit scripts/bench/train.lua --device cuda --dtype "$1" $size $(peer) --record "$ROW_JSON"
}

bench_optim() {
  local size=""
  [ "$HOST" = 1 ] && size="--n_layer 1 --n_embd 32 --vocab_size 99 --steps 2 --rounds 1"
  # shellcheck disable=SC2046,SC2086
  luajit scripts/bench/optim.lua --device cuda $size $(peer) --record "$ROW_JSON"
}

bench_spectral() {
  local size="--rounds 3"
  [ "$HOST" = 1 ] && size="--quick --steps 2"
  # shellcheck disable=SC2046,SC2086
  luajit scripts/bench/spectral.lua --device cuda $size $(peer) --out "$ROW_OUT/spectral" --record "$ROW_JSON" &&
    cp "$ROW_OUT/spectral/spectral.svg" "$ROW_SVG" && echo "all parts were measured"
}

# ----- one row in a process of its own, under timeout: gpu_check.sh calls itself ------------------------------------------

if [ "${GPU_CHECK_ROW:-}" ]; then
  surroundings
  # shellcheck disable=SC2086
  $GPU_CHECK_ROW
  exit
fi

# ----- choosing rows ------------------------------------------------------------------------------------------------------

# matches NAME LIST: the list has the row's name, or a part of it.
matches() {
  local word
  for word in ${2//,/ }; do
    case ".$1." in *".$word."*) return 0 ;; esac
  done
  return 1
}

for word in ${only//,/ } ${skip//,/ }; do
  while read -r name _; do matches "$name" "$word" && continue 2; done <<<"$(rows 0)"
  echo "gpu_check.sh: there is no row '$word'; --list names them" >&2
  exit 2
done
chosen=""
while read -r name rest; do
  [ -n "$only" ] && ! matches "$name" "$only" && continue
  matches "$name" "$skip" && continue
  chosen+="$name $rest"$'\n'
done <<<"$(rows $host)"
if [ $list = 1 ]; then
  awk 'NF { printf "%-28s %4d s%s\n", $1, $2, $3 == "alone" ? "" : "   beside others" }' <<<"$chosen"
  exit 0
fi

# ----- where, and what with ------------------------------------------------------------------------------------------------

if [ $host = 1 ]; then
  kind="rehearsal on the host" gpu="none: kernels run block by block on the CPU"
  out=${out:-runs/gpu_check_rehearsal} jobs=${jobs:-2}
else
  kind="GPU" gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
  [ -n "$gpu" ] || { echo "gpu_check.sh: nvidia-smi shows no GPU; --host rehearses without one" >&2; exit 1; }
  out=${out:-docs/results/$(tr -c 'A-Za-z0-9\n' '-' <<<"$gpu" | tr -s '-')} jobs=${jobs:-4}
fi
command -v luajit >/dev/null || { echo "gpu_check.sh: luajit not found; source the prefix's environment first" >&2; exit 1; }
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
work=$(mktemp -d) || exit 1
printf '%s' "$chosen" >"$work/rows"
{
  echo "kind $kind"
  echo "gpu $gpu"
  echo "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
  echo "memory $(nvidia-smi --query-gpu=memory.total --format=csv,noheader 2>/dev/null | head -n 1)"
  echo "nvcc $(nvcc --version 2>/dev/null | sed -n 's/.*release \([^,]*\),.*/\1/p')"
  echo "cpu $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
  echo "commit ${MOONBOW_COMMIT:-$(git rev-parse HEAD 2>/dev/null)}$(git diff --quiet HEAD 2>/dev/null || echo ', with changes')"
  echo "date $(date -u +%Y-%m-%dT%H:%M:%SZ)"
} >"$work/head"

# Writes table and JSON from what there is.
report() {
  (surroundings; luajit scripts/gpu_check/report.lua "$work" "$out") || echo "gpu_check.sh: the report was not written" >&2
}
finish() {
  trap - EXIT INT TERM
  local pids
  pids=$(jobs -p)
  # shellcheck disable=SC2086
  [ -n "$pids" ] && kill $pids 2>/dev/null && wait
  report
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ----- running ------------------------------------------------------------------------------------------------------------

# run NAME SECONDS COMMAND...: one row; its result is a line "status seconds" and its log.
run() {
  local name=$1 limit=$2 code start status=passed cut=""
  shift 2
  if [ "$budget" -gt 0 ] && [ $((budget - SECONDS)) -lt "$limit" ]; then limit=$((budget - SECONDS)) cut=" of what was left"; fi
  [ "$limit" -ge 5 ] || return 0 # not run
  mkdir -p "$work/$name.files"
  start=$(date +%s.%N)
  GPU_CHECK_ROW="$*" ROW_JSON="$work/$name.json" ROW_SVG="$out/$name.svg" ROW_OUT="$work/$name.files" \
    timeout -k 5 "$limit" bash "$script" $([ $host = 1 ] && echo --host) >"$work/$name.log" 2>&1 &
  child=$!
  trap 'kill "$child"; wait "$child"; exit 143' TERM # timeout ends all that it started
  wait "$child"
  code=$?
  case $code in
    0) ;;
    77) status=skipped ;;
    124 | 137) status="timed out" ; echo "no end within $limit s$cut" >>"$work/$name.log" ;;
    *) status=FAILED ;;
  esac
  rm -rf "$work/$name.files"
  echo "$status	$(echo "$(date +%s.%N) $start" | awk '{ printf "%.1f", $1 - $2 }')	$code" >"$work/$name.tmp"
  mv "$work/$name.tmp" "$work/$name.result"
  printf '%-28s %-10s %7s s   %s\n' "$name" "$status" "$(cut -f 2 "$work/$name.result")" "$(tail -n 1 "$work/$name.log" | cut -c 1-110)"
}

echo "gpu_check.sh: $kind; $gpu"
report
while read -r name limit how command; do
  [ -n "$name" ] || continue
  if [ "$how" = alone ]; then
    while [ -n "$(jobs -rp)" ]; do wait -n; report; done
    # shellcheck disable=SC2086
    run "$name" "$limit" $command </dev/null &
    wait $!
    report
    case "$name $(cut -f 1 "$work/$name.result" 2>/dev/null)" in
      "build FAILED" | "device FAILED" | "build timed out") tail -n 20 "$work/$name.log" >&2; break ;; # nothing else can work
    esac
  else
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; report; done
    # shellcheck disable=SC2086
    OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / jobs > 0 ? $(nproc) / jobs : 1))} run "$name" "$limit" $command </dev/null &
  fi
done <"$work/rows"
while [ -n "$(jobs -rp)" ]; do wait -n; report; done
report
echo
cat "$out/table.txt"
! grep -qE '^\S+ +(FAILED|timed out) ' "$out/table.txt"

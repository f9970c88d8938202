#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh TARGET SECONDS: fuzzes one of the targets here with the address and the undefined behaviour sanitizer, from the inputs
# in corpus/TARGET. What is worth keeping goes there, and the tests replay it from then on.
#   bpe, tokens                         readers in C, with clang's libFuzzer; new inputs go to build/fuzz/TARGET, crashes too:
#     build/fuzz/TARGET.fuzzer -merge=1 tests/fuzz/corpus/TARGET build/fuzz/TARGET
#   json, jsonl, runs, safetensors, events    readers in Lua, with fuzz.lua over the engine in build-asan; an input that is wrong
#                                       goes to build/fuzz
set -eu
cd "$(dirname "$0")/../.."
target=$1
seconds=${2:-60}
if [ -f "tests/fuzz/targets/$target.lua" ]; then
  cmake -B build-asan -DCMAKE_BUILD_TYPE=Debug -DMB_SANITIZE=address,undefined >/dev/null
  cmake --build build-asan --target moonbow -j"$(nproc)" >/dev/null
  export MOONBOW_LIB="$PWD/build-asan/libmoonbow.so" MOONBOW_ROOT="$PWD" OMP_NUM_THREADS=1
  export LUA_PATH="$PWD/lua/?.lua;$PWD/lua/?/init.lua;$PWD/?.lua;;"
  exec env LD_PRELOAD="$(${CC:-cc} -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 luajit tests/fuzz/fuzz.lua "$target" "$seconds" ${3:-}
fi
mkdir -p "build/fuzz/$target"
${CLANG:-clang} -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-unknown-pragmas \
  -DMOONBOW_VERSION='"fuzz"' -Iengine -Iengine/include "tests/fuzz/$target.c" engine/text/*.c engine/core/status.c \
  engine/core/path.c -o "build/fuzz/$target.fuzzer"
exec "build/fuzz/$target.fuzzer" -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 \
  -artifact_prefix="build/fuzz/$target-" "build/fuzz/$target" "tests/fuzz/corpus/$target"

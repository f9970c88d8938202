#!/bin/sh
# SPDX-License-Identifier: MIT
#
# run.sh TARGET SECONDS: fuzzes one of the targets here (bpe, tokens) with clang's libFuzzer, the address and the undefined
# behaviour sanitizer, from the inputs in corpus/TARGET; new ones go to build/fuzz/TARGET, crashes too. What is worth keeping:
#   build/fuzz/TARGET.fuzzer -merge=1 tests/fuzz/corpus/TARGET build/fuzz/TARGET
# and the tests replay it from then on.
set -eu
cd "$(dirname "$0")/../.."
target=$1
seconds=${2:-60}
mkdir -p "build/fuzz/$target"
${CLANG:-clang} -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Wno-unknown-pragmas \
  -DMOONBOW_VERSION='"fuzz"' -Iengine -Iengine/include "tests/fuzz/$target.c" engine/text/*.c engine/core/status.c \
  engine/core/path.c -o "build/fuzz/$target.fuzzer"
exec "build/fuzz/$target.fuzzer" -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 \
  -artifact_prefix="build/fuzz/$target-" "build/fuzz/$target" "tests/fuzz/corpus/$target"

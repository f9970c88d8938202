#!/bin/sh
# bootstrap.sh [--tests] [--debug]: install what is missing, configure and build into build/.
# Debian and Ubuntu packages are installed with apt-get (as root, or through sudo); elsewhere the list is
# printed. Nothing is installed or built twice: the second run takes a second or two.
set -eu
cd "$(dirname "$0")"

packages="gcc make cmake ninja-build luajit lua-cjson libopenblas-dev liblapacke-dev libdnnl-dev libedit-dev"
test_packages="g++ lua-busted lua-check luarocks pkg-config valgrind chromium-headless-shell librsvg2-bin tmux"
build_type=Release
tests=""
[ -f build/CMakeCache.txt ] || tests="-DMB_TESTS=OFF"
for argument in "$@"; do
  case "$argument" in
    --tests) packages="$packages $test_packages"; tests="-DMB_TESTS=ON" ;;
    --debug) build_type=Debug ;;
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) echo "bootstrap.sh: unknown option $argument (known: --tests, --debug)" >&2; exit 2 ;;
  esac
done

missing=""
if command -v dpkg-query >/dev/null 2>&1; then
  for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
  done
  # gcc, make and cmake may well come from elsewhere.
  for tool in gcc make cmake; do
    command -v $tool >/dev/null 2>&1 && missing=$(echo "$missing " | sed "s/ $tool / /; s/ $//")
  done
  command -v ninja >/dev/null 2>&1 && missing=$(echo "$missing " | sed "s/ ninja-build / /; s/ $//")
  if [ -n "$(echo $missing)" ]; then
    echo "bootstrap.sh: installing$missing"
    sudo=""
    if [ "$(id -u)" != 0 ]; then
      command -v sudo >/dev/null 2>&1 || { echo "bootstrap.sh: not root and no sudo; install these packages first:$missing" >&2; exit 1; }
      sudo=sudo
    fi
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing >/dev/null 2>&1 || {
      $sudo apt-get -qq update
      # The CPU backend works without oneDNN, which some architectures lack; so do the tests without Debian's browser.
      $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $missing ||
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $(echo "$missing" | sed 's/libdnnl-dev//; s/chromium-headless-shell//')
    }
  fi
else
  for tool in gcc cmake luajit; do
    command -v $tool >/dev/null 2>&1 || missing="$missing $tool"
  done
  if [ -n "$missing" ]; then
    echo "bootstrap.sh: this is not Debian or Ubuntu; install by hand:" >&2
    echo "  a C compiler with OpenMP, CMake 3.22, LuaJIT 2.1, lua-cjson for Lua 5.1, OpenBLAS, LAPACKE," >&2
    echo "  oneDNN 2.x and libedit (both optional), and for the tests busted and luacheck. Not found:$missing" >&2
    exit 1
  fi
fi

generator=""
[ -f build/CMakeCache.txt ] || { command -v ninja >/dev/null 2>&1 && generator="-G Ninja"; }
cmake -S . -B build $generator $tests -DCMAKE_BUILD_TYPE=$build_type >build.log 2>&1 || { cat build.log >&2; rm -f build.log; exit 1; }
mv build.log build/configure.log
cmake --build build --parallel >build/build.log 2>&1 || { tail -n 40 build/build.log >&2; exit 1; }
echo "bootstrap.sh: ready, build/libmoonbow.so"

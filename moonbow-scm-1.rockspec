rockspec_format = "3.0"
package = "moonbow"
version = "scm-1"

description = {
  summary = "A training engine for research on gradient clipping and optimizers",
  detailed = [[
    Tensors, autograd, GPT-2 and spectral kernels in C; thresholds, clipping rules and optimizers in Lua.
    Needs LuaJIT 2.1 (plain Lua 5.1 has no FFI), CMake, a C compiler with OpenMP, OpenBLAS and LAPACKE; oneDNN is optional.
  ]],
  license = "MIT",
}

source = { url = "." }

dependencies = { "lua >= 5.1, < 5.2" }

build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    CMAKE_INSTALL_BINDIR = "$(BINDIR)",
    MB_ROCK_LUADIR = "$(LUADIR)",
    MB_ROCK_LIBDIR = "$(LIBDIR)",
    MB_TESTS = "OFF",
    MB_WERROR = "OFF",
  },
}

deploy = { wrap_bin_scripts = false }

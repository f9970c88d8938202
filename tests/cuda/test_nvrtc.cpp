// SPDX-License-Identifier: MIT
//
// test_nvrtc.cpp: a program is compiled once for a machine: the next process finds its code on disk, a damaged file is made again,
// another source is another file, and without a cache folder every process compiles. Where NVRTC is not there nothing is compiled.
#include "backend/cuda/nvrtc.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "say.h"

using namespace mbk;

static const char SOURCE[] = "extern \"C\" __global__ void fused(float *x) { x[threadIdx.x] += 1; }";
static const char OTHER[] = "extern \"C\" __global__ void fused(float *x) { x[threadIdx.x] += 2; }";

// What a new process compiles for a source, which it wants twice; -1 if it fails.
static int compiled_by_another(const char *source) {
  pid_t child = fork();
  if (child == 0) {
    begin();
    bool good = check_source(source) == MB_OK && check_source(source) == MB_OK;
    _exit(good ? (int)programs_compiled() : 255);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) != 255 ? WEXITSTATUS(status) : -1;
}

static int run(const std::string &command) { return system(command.c_str()); }

int main() {
  char folder[] = "/tmp/test_nvrtc_XXXXXX";
  CHECK(mkdtemp(folder), "no folder");
  setenv("MOONBOW_CACHE", folder, 1);
  int both = compiled_by_another(SOURCE); // sm_80 and sm_90
  if (both == 0) printf("no NVRTC here: nothing is compiled\n");
  else {
    CHECK(both == 2, "%d programs, not 2", both);
    CHECK(compiled_by_another(SOURCE) == 0, "what is on disk was compiled again");
    CHECK(compiled_by_another(OTHER) == 2, "another source was not compiled");
    CHECK(run(std::string("for f in ") + folder + "/*; do echo damaged >$f; done") == 0, "no files");
    CHECK(compiled_by_another(SOURCE) == 2, "damaged files were taken");
    CHECK(compiled_by_another(SOURCE) == 0, "they were not made again");
    CHECK(compiled_by_another("no source") == -1, "what does not compile passed");
    setenv("MOONBOW_CACHE", "", 1);
    CHECK(compiled_by_another(SOURCE) == 2, "without a folder something was found");
  }
  CHECK(run(std::string("rm -r ") + folder) == 0, "the folder stays");
  return finish();
}

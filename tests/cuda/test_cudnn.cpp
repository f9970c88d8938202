// SPDX-License-Identifier: MIT
//
// test_cudnn.cpp: attention by cuDNN, with a library in its place that does what a graph says
// (libraries/cudnn_on_the_host.cpp): results and gradients are those of the own kernels, either may go on from the other's
// forward; choices are made, kept and followed, with plans read from disk; whatever is refused or fails leaves the own
// kernel's bits, or what a plan that is made gives.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "backend/cuda/attention.h"
#include "backend/cuda/choices.h"
#include "say.h"

using namespace mbk;

static size_t most_bytes = SIZE_MAX; // that are given at once
static int quiet;
static mb_status tell(mb_status status, const char *format, ...) {
  if (quiet) return status;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  return status;
}
static mb_status take_some(void **out, size_t bytes) { return bytes <= most_bytes ? take(out, bytes) : tell(MB_ERR_NOMEM, "no room"); }

// Heads of one shape and everything that is done with them.
struct Arrays {
  int64_t B, T, H, D;
  bool packed; // q, k, v and their gradients in one buffer (B, T, 3, H, D), else (B, H, T, D) each
  std::vector<bf16> inputs, outputs, gradients;
  std::vector<float> lse;
  mbi_attention s;
  mbi_heads q, k, v, out, dout, dq, dk, dv;

  mbi_heads at(std::vector<bf16> &buffer, int which) {
    bf16 *base = buffer.data();
    while ((uintptr_t)base % 16) base++;
    if (packed) return {base + which * H * D, T * 3 * H * D, 3 * H * D, D};
    return {base + which * B * H * T * D, H * T * D, D, T * D};
  }
  Arrays(int64_t b, int64_t t, int64_t h, int64_t d, bool pack) : B(b), T(t), H(h), D(d), packed(pack) {
    for (auto *buffer : {&inputs, &outputs, &gradients}) buffer->assign((size_t)(3 * B * T * H * D + 16), bf16(-7.0f));
    lse.assign((size_t)(B * H * T), 0);
    s = {B, T, H, D, 1.3 / sqrt((double)D)};
    q = at(inputs, 0), k = at(inputs, 1), v = at(inputs, 2), out = at(outputs, 0), dout = at(outputs, 2);
    dq = at(gradients, 0), dk = at(gradients, 1), dv = at(gradients, 2);
    Numbers numbers((uint64_t)(T * 1000 + D));
    for (bf16 &x : inputs) x = bf16(1.5 * numbers.next());
    for (bf16 &x : outputs) x = bf16(numbers.next());
  }
  mbi_attention_gradients wanted() const { return {dout, out, dq, dk, dv}; }
  mb_status forward() { return attention_bf16(&s, &out, lse.data(), &q, &k, &v); }
  mb_status backward() {
    mbi_attention_gradients g = wanted();
    return attention_backward_bf16(&s, &g, lse.data(), &q, &k, &v);
  }
  mb_status own_forward() { return own_attention_bf16(&s, &out, lse.data(), &q, &k, &v); }
  mb_status own_backward() {
    mbi_attention_gradients g = wanted();
    return own_attention_backward_bf16(&s, &g, lse.data(), &q, &k, &v);
  }
};

static double error_of(const std::vector<bf16> &is, const std::vector<bf16> &should) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < is.size(); i++) {
    double x = (double)(float)is[i], y = (double)(float)should[i];
    error += (x - y) * (x - y), norm += y * y;
  }
  return error / norm;
}
static bool same(const std::vector<bf16> &a, const std::vector<bf16> &b) { return memcmp(a.data(), b.data(), a.size() * sizeof(bf16)) == 0; }

static std::string notes() {
  const char *text = "";
  CHECK(attention_notes(&text) == MB_OK, "notes");
  return text;
}
static bool says(const char *part) {
  std::string all = notes();
  if (all.find(part) != std::string::npos) return true;
  fprintf(stderr, "'%s' is not in:\n%s", part, all.c_str());
  return false;
}

// ----- what is computed -----------------------------------------------------------------------------------------------------

static void agrees(int64_t b, int64_t t, int64_t h, int64_t d, bool packed) {
  char name[100];
  snprintf(name, sizeof name, "(%d, %d, %d, %d)%s", (int)b, (int)t, (int)h, (int)d, packed ? " packed" : "");
  Arrays own(b, t, h, d, packed), library(b, t, h, d, packed);
  CHECK(own.own_forward() == MB_OK && own.own_backward() == MB_OK, "%s", name);
  CHECK(library.forward() == MB_OK && library.backward() == MB_OK, "%s", name);
  double out = error_of(library.outputs, own.outputs), gradients = error_of(library.gradients, own.gradients);
  CHECK(out < 3e-5 && gradients < 1e-4, "%s: errors are %g and %g", name, out, gradients);
  CHECK(!same(library.gradients, own.gradients), "%s: it was the own kernel", name);
  for (size_t i = 0; i < own.lse.size(); i++)
    CHECK(fabsf(library.lse[i] - own.lse[i]) < 1e-4f * (1 + fabsf(own.lse[i])), "%s: lse %d is %g and not %g", name, (int)i, (double)library.lse[i],
          (double)own.lse[i]);
  Arrays unkept(b, t, h, d, packed);
  CHECK(attention_bf16(&unkept.s, &unkept.out, nullptr, &unkept.q, &unkept.k, &unkept.v) == MB_OK, "%s", name);
  CHECK(same(unkept.outputs, library.outputs), "%s: another output where lse is not wanted", name);
  // Forward by one, backward by the other.
  Arrays mixed(b, t, h, d, packed), crossed(b, t, h, d, packed);
  CHECK(mixed.own_forward() == MB_OK && mixed.backward() == MB_OK, "%s", name);
  CHECK(crossed.forward() == MB_OK && crossed.own_backward() == MB_OK, "%s", name);
  CHECK((gradients = error_of(mixed.gradients, own.gradients)) < 1e-4, "%s: the error is %g", name, gradients);
  CHECK((gradients = error_of(crossed.gradients, own.gradients)) < 1e-4, "%s: the error is %g", name, gradients);
}

static void computes() {
  for (int wanted : {1, 0}) {
    keep_bits(wanted);
    agrees(2, 48, 3, 32, true);
    agrees(2, 130, 1, 16, false);
    agrees(1, 77, 2, 64, true);
    agrees(1, 96, 1, 8, false);
    agrees(3, 64, 2, 128, true);
  }
  CHECK(says("cuDNN 9.19.0\n") && says("attention (2, 48, 3, 32) forward: cuDNN 9.19.0: not timed"), "the notes");
  CHECK(says("attention (2, 48, 3, 32) backward: cuDNN") && says("attention (2, 48, 3, 32) backward in any order: cuDNN"), "the notes");
  keep_bits(1);
  agrees(16, 160, 2, 8, true); // (T, T) matrices of all heads are 1.6 MB, and 1 MiB is allowed
  CHECK(says("attention (16, 160, 2, 8) backward: cuDNN 9.19.0 in 2 slices"), "slices");
}

// What it cannot take: heads off a boundary, gradients that are not wanted, one query.
static void leaves_alone() {
  Arrays own(2, 64, 2, 32, true), other(2, 64, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.own_forward() == MB_OK, "forward");
  own.dv.data = other.dv.data = nullptr;
  CHECK(own.own_backward() == MB_OK && other.backward() == MB_OK && same(own.gradients, other.gradients), "without dv");
  Arrays few(64, 1, 20, 256, true), as_few(64, 1, 20, 256, true);
  CHECK(few.own_forward() == MB_OK && as_few.forward() == MB_OK && same(few.outputs, as_few.outputs), "one query");
  Arrays odd(2, 64, 2, 36, true), as_odd(2, 64, 2, 36, true);
  CHECK(odd.own_forward() == MB_OK && as_odd.forward() == MB_OK && same(odd.outputs, as_odd.outputs), "a width of 36");
}

// ----- choices ----------------------------------------------------------------------------------------------------------------

static void is_slower() {
  setenv("CUDNN_STAND_IN", "slow=300", 1);
  Arrays own(1, 64, 2, 32, true), other(1, 64, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("forward: own kernel, ") && says("; cuDNN 9.19.0 "), "both times");
  CHECK(choices_text().find("\nattention 1 64 2 32 0 ") != std::string::npos, "%s", choices_text().c_str());
}
// After is_slower, from disk: the library would be faster now.
static void stays() {
  setenv("CUDNN_STAND_IN", "idle=1", 1);
  Arrays own(1, 64, 2, 32, true), other(1, 64, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("forward: own kernel, "), "from disk");
}
static void is_faster() {
  setenv("CUDNN_STAND_IN", "idle=1", 1);
  Arrays a(1, 512, 4, 64, true);
  CHECK(a.forward() == MB_OK && a.own_forward() == MB_OK && a.backward() == MB_OK, "runs");
  CHECK(says("(1, 512, 4, 64) forward: cuDNN 9.19.0, ") && says("(1, 512, 4, 64) backward: cuDNN 9.19.0") && says("; own kernel "), "by time");
}
// After is_faster, from disk: another version of the library must not be taken for that one.
static void is_newer() {
  setenv("CUDNN_STAND_IN", "version=92000", 1);
  Arrays own(1, 512, 4, 64, true), other(1, 512, 4, 64, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("own kernel: cuDNN was chosen, but it was chosen for version 91900"), "says so");
}
static std::string said;
static mb_status note(mb_status status, const char *format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  said = text;
  return status;
}
// A run's text: with the library it is followed, without it refused.
static void goes_on() {
  setenv("CUDNN_STAND_IN", "idle=1", 1);
  Arrays a(1, 512, 4, 64, true);
  CHECK(a.forward() == MB_OK, "runs");
  std::string text = choices_text();
  setenv("CUDNN_STAND_IN", "slow=300", 1);
  choices_of_machine("the host, CBLAS");
  CHECK(set_all_choices(text.c_str()) == MB_OK, "taken");
  CHECK(a.forward() == MB_OK && says("forward: cuDNN 9.19.0, "), "without timing");
  CHECK(choices_text() == text, "and is its text again");
  setenv("MB_TEXT", text.c_str(), 1);
}
static void cannot_go_on() {
  std::string text = "moonbow products 2: the host, CBLAS\n";
  setenv("MOONBOW_CACHE", "", 1);
  Choice choice{{2, 91900, 0, 1, 0, 0, 0, 0}, 5};
  const char *nothing;
  CHECK(attention_notes(&nothing) == MB_OK && strstr(nothing, "no cuDNN: MOONBOW_CUDNN wants none"), "%s", nothing);
  CHECK(set_all_choices("") == MB_OK, "opens");
  use_choice("attention 1 64 2 32 0 1", choice);
  text = choices_text();
  fail = note;
  CHECK(set_all_choices(text.c_str()) == MB_ERR_STATE && strstr(said.c_str(), "attention took cuDNN 9.19.0, here is none"), "%s", said.c_str());
  fail = tell;
  Arrays own(1, 64, 2, 32, true), other(1, 64, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("own kernel: no cuDNN, MOONBOW_CUDNN wants none"), "says so");
}

// ----- plans on disk ------------------------------------------------------------------------------------------------------------

// Plans are compared by what they do: the library is taken whenever it may be, as it is timed while it does nothing.
static std::vector<std::string> plan_files() {
  std::vector<std::string> names;
  FILE *list = popen("ls $MOONBOW_CACHE/*.plan 2>/dev/null", "r");
  char text[256];
  while (list && fgets(text, sizeof text, list)) names.push_back(std::string(text, strcspn(text, "\n")));
  if (list) pclose(list);
  return names;
}
static std::string contents_of(const std::string &path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}
static void write_to(const std::string &path, const std::string &text) { std::ofstream(path) << text; }
static void wish(const char *text) {
  setenv("CUDNN_STAND_IN", text, 1);
  choices_of_machine("the host, CBLAS"); // ways are forgotten, and the disk is read
}

// The gradients of a small case by the library, of plans that are made, and by the own kernel. Leaves a plan on disk.
static std::vector<bf16> by_library, by_own;
static bool is_by_library() {
  Arrays a(1, 40, 1, 32, true);
  CHECK(a.own_forward() == MB_OK && a.backward() == MB_OK && a.backward() == MB_OK, "runs");
  bool is_library = same(a.gradients, by_library);
  CHECK(is_library || same(a.gradients, by_own), "neither one's nor the other's");
  return is_library;
}
static void keep_a_plan() {
  Arrays own(1, 40, 1, 32, true), library(1, 40, 1, 32, true);
  CHECK(own.own_forward() == MB_OK && own.own_backward() == MB_OK && library.own_forward() == MB_OK, "own");
  setenv("CUDNN_STAND_IN", "idle=1", 1);
  CHECK(library.backward() == MB_OK && says("backward: cuDNN 9.19.0, "), "by time");
  setenv("CUDNN_STAND_IN", "", 1);
  CHECK(library.backward() == MB_OK, "library");
  by_own = own.gradients, by_library = library.gradients;
  CHECK(!same(by_own, by_library), "which was which");
  CHECK(plan_files().size() == 1, "%zu plans on disk", plan_files().size());
}

static void reads_plans() {
  keep_a_plan();
  const std::string path = plan_files().at(0), kept = contents_of(path);
  CHECK(kept.find("moonbow attention plan 1: the host, CBLAS; cuDNN 9.19.0; attention_backward 1 40 1 32 1 ") == 0, "%.120s", kept.c_str());
  wish("engines=0"); // so that none can be made
  CHECK(is_by_library() && says("backward: cuDNN 9.19.0, ") && says("; its plan is from disk\n"), "read");
  wish("engines=0 workspace=512");
  CHECK(!is_by_library() && says("cuDNN was chosen, but no engine for the graph"), "work memory of another plan");

  // What is not as it was written is passed over, and written again.
  size_t line = kept.find('\n') + 1;
  std::vector<std::string> damaged = {"", kept.substr(0, 20), kept.substr(0, line), kept.substr(0, line + 5), kept.substr(0, kept.size() - 1),
                                      kept + "\n", std::string(kept.size(), '\0')};
  for (size_t at : {(size_t)19, line, line + 2, line + 10, kept.find('\n', line) - 3, kept.size() / 2, kept.size() - 2})
    damaged.push_back(kept), damaged.back()[at] ^= 1;
  for (const std::string &text : damaged) {
    write_to(path, text);
    wish("engines=0");
    CHECK(!is_by_library(), "a damaged file was taken, of %zu bytes", text.size());
    wish("");
    CHECK(is_by_library() && contents_of(path) == kept, "it was not made again");
  }
  choices_of_machine("another host");
  setenv("CUDNN_STAND_IN", "idle=1", 1);
  Arrays a(1, 40, 1, 32, true);
  CHECK(a.own_forward() == MB_OK && a.backward() == MB_OK && plan_files().size() == 2, "another machine's");
}

static void makes_what_fails() {
  keep_a_plan();
  const std::string path = plan_files().at(0), kept = contents_of(path);
  for (const char *failure : {"fail=text:1", "fail=reading:1"}) {
    wish(failure);
    CHECK(is_by_library() && contents_of(path) == kept && notes().find("own kernel:") == std::string::npos, "%s", failure);
    CHECK(notes().find("from disk") == std::string::npos, "%s", notes().c_str());
  }
  wish("");
  CHECK(is_by_library(), "read");
  wish("fail=reading:1 engines=0");
  CHECK(!is_by_library() && plan_files().empty(), "the file is of no use");
  CHECK(says("own kernel: cuDNN was chosen, but no engine for the graph"), "says so");
  setenv("MOONBOW_CACHE", "/nowhere/at/all", 1);
  wish("idle=1");
  Arrays a(1, 40, 1, 32, true);
  CHECK(a.own_forward() == MB_OK && a.backward() == MB_OK && says("backward: cuDNN 9.19.0, "), "without a folder");
}

// Each call in turn is refused while a plan is read and first run: it is made then. Nothing is left behind.
static void survives_reading() {
  keep_a_plan();
  const std::string path = plan_files().at(0), kept = contents_of(path);
  int64_t (*alive)() = nullptr;
  void *again = dlopen(CUDNN_ON_THE_HOST, RTLD_NOW);
  if (again) *(void **)&alive = dlsym(again, "cudnn_descriptors_alive");
  CHECK(alive, "%s", dlerror());
  wish("");
  CHECK(is_by_library(), "read");
  const int64_t at_rest = alive();
  for (const char *call : {"CreateDescriptor", "SetAttribute", "Finalize", "GetAttribute", "Execute"})
    for (int n = 1; n <= 5; n++) {
      char text[80];
      snprintf(text, sizeof text, "fail=%s:%d", call, n);
      wish(text);
      CHECK(is_by_library() || says("was to fail"), "%s", text);
      wish("");
      CHECK(is_by_library() && contents_of(path) == kept, "%s: later", text);
      CHECK(alive() == at_rest, "%s: %lld descriptors are left, %lld before", text, (long long)alive(), (long long)at_rest);
    }
}

// ----- failures ---------------------------------------------------------------------------------------------------------------

static void has_no_room() {
  Arrays own(2, 64, 2, 32, true), other(2, 64, 2, 32, true);
  setenv("CUDNN_STAND_IN", "workspace=50000000", 1);
  most_bytes = 40000000, quiet = 1;
  CHECK(own.own_forward() == MB_OK && other.own_forward() == MB_OK, "forward");
  CHECK(own.own_backward() == MB_OK && other.backward() == MB_OK && same(own.gradients, other.gradients), "the own kernel");
  CHECK(says("bytes of work memory are not to be had"), "says so");
}

// Each call in turn is refused: what comes out is the own kernel's or the library's, to the bit, and nothing is left behind.
static void survives() {
  int64_t (*alive)() = nullptr;
  Arrays own(1, 40, 1, 32, true), library(1, 40, 1, 32, true);
  CHECK(own.own_forward() == MB_OK && own.own_backward() == MB_OK, "own");
  CHECK(library.own_forward() == MB_OK && library.backward() == MB_OK, "library");
  void *again = dlopen(CUDNN_ON_THE_HOST, RTLD_NOW);
  if (again) *(void **)&alive = dlsym(again, "cudnn_descriptors_alive");
  CHECK(alive, "%s", dlerror());
  choices_of_machine("the host, CBLAS");
  int fallen = 0, runs = 0;
  int64_t at_rest = 0;
  for (const char *call : {"CreateDescriptor", "SetAttribute", "Finalize", "GetAttribute", "Execute", "plan"})
    for (int n = 1;; n += n < 30 ? 1 : 5) {
      char wish[80];
      snprintf(wish, sizeof wish, "engines=1 fail=%s:%d", call, n);
      setenv("CUDNN_STAND_IN", wish, 1);
      choices_of_machine("the host, CBLAS"); // what was chosen is forgotten
      Arrays trial(1, 40, 1, 32, true);
      CHECK(trial.own_forward() == MB_OK && trial.backward() == MB_OK && trial.backward() == MB_OK, "%s", wish);
      bool is_own = same(trial.gradients, own.gradients), is_library = same(trial.gradients, library.gradients);
      CHECK(is_own || is_library, "%s: neither one's nor the other's", wish);
      bool untouched = is_library && notes().find("own kernel") == std::string::npos;
      CHECK(untouched || says("was to fail"), "%s", wish);
      fallen += is_own, runs++;
      if (untouched) break; // there are not so many calls
      setenv("CUDNN_STAND_IN", "", 1);
      choices_of_machine("the host, CBLAS");
      CHECK(trial.forward() == MB_OK, "and goes on"); // forgets the way before
      if (n == 1 && !at_rest) at_rest = alive();
      CHECK(alive() <= at_rest, "%s: %lld descriptors are left, %lld before", wish, (long long)alive(), (long long)at_rest);
    }
  CHECK(fallen > 100, "%d of %d trials fell back", fallen, runs);
  printf("%d trials, %d fell back\n", runs, fallen);
}

// ----- each in a process of its own ----------------------------------------------------------------------------------------------

static int failed;
static void in_process(const char *name, void (*test)(), const char *library, const char *tune) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    setenv("MOONBOW_CUDNN", library, 1), setenv("MOONBOW_TUNE", tune, 1);
    test();
    fflush(stdout);
    _exit(finish());
  }
  int state = 0;
  waitpid(child, &state, 0);
  if (state == 0) return;
  fprintf(stderr, "%s failed\n", name);
  failed++;
}

static void has_none() {
  Arrays own(2, 64, 2, 32, true), other(2, 64, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("no cuDNN: /nowhere/libcudnn.so.9: ") && says("forward: own kernel: no cuDNN, /nowhere"), "says so");
  CHECK(choices_text().find("\nattention 2 64 2 32") != std::string::npos, "a run goes on without it: %s", choices_text().c_str());
}
static void is_old() {
  setenv("CUDNN_STAND_IN", "version=91300", 1);
  Arrays own(2, 72, 2, 32, true), other(2, 72, 2, 32, true);
  CHECK(own.own_forward() == MB_OK && other.forward() == MB_OK && same(own.outputs, other.outputs), "the own kernel");
  CHECK(says("cuDNN 9.13.0 needs sequences that are multiples of 128"), "says so");
}
static void is_no_version_9() {
  setenv("CUDNN_STAND_IN", "version=100000", 1);
  CHECK(says("no cuDNN: cuDNN 10.0.0 is not of version 9"), "says so");
}
static void has_no_handle() {
  setenv("CUDNN_STAND_IN", "fail=cudnnCreate:1", 1);
  CHECK(says("no cuDNN: cudnnCreate: CUDNN_STATUS_STAND_IN (cudnnCreate was to fail)"), "says so");
}

int main() {
  static const mbi_plugin_host host = {MBI_PLUGIN_ABI, tell, say_in, take_some, give};
  engine = &host, fail = tell;
  char folder[] = "/tmp/moonbow-cudnn-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  setenv("MOONBOW_CACHE", "", 1);
#define IN_PROCESS(test, library, tune) in_process(#test, test, library, tune)
  IN_PROCESS(computes, CUDNN_ON_THE_HOST, "0");
  IN_PROCESS(leaves_alone, CUDNN_ON_THE_HOST, "0");
  IN_PROCESS(survives, CUDNN_ON_THE_HOST, "0");
  IN_PROCESS(has_no_room, CUDNN_ON_THE_HOST, "0");
  IN_PROCESS(is_old, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(is_no_version_9, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(has_no_handle, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(has_none, "/nowhere/libcudnn.so.9", "1");
  IN_PROCESS(cannot_go_on, "", "1");
  setenv("MOONBOW_CACHE", folder, 1);
  IN_PROCESS(is_slower, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(stays, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(is_faster, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(is_newer, CUDNN_ON_THE_HOST, "1");
  IN_PROCESS(goes_on, CUDNN_ON_THE_HOST, "1");
  for (auto test : {reads_plans, makes_what_fails, survives_reading}) {
    std::string inner = std::string(folder) + "/plans";
    if (system(("rm -rf " + inner).c_str()) != 0) return 1;
    setenv("MOONBOW_CACHE", inner.c_str(), 1);
    IN_PROCESS(test, CUDNN_ON_THE_HOST, "1");
  }
  std::string command = std::string("rm -r ") + folder;
  return system(command.c_str()) != 0 || failed != 0;
}

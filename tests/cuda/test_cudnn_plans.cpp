// SPDX-License-Identifier: MIT
//
// test_cudnn_plans.cpp: whether cuDNN's engines take our graphs of attention, asked of the library itself and without a
// device: it makes plans, with compiled code, for a device that is described to it, and another process has the same plans
// from disk. The driver's library that it wants to see is libraries/no_driver.c. Skipped where there is no cuDNN.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "backend/cuda/choices.h"
#include "backend/cuda/cudnn_plans.h"
#include "say.h"

using namespace mbk;
using namespace mbk::cudnn;

struct Gpu {
  const char *name;
  int version, multiprocessors, shared;
};
constexpr Gpu GPUS[] = {{"NVIDIA H200", 900, 132, 232448}, {"NVIDIA A100-SXM4-80GB", 800, 108, 166912}};

static Descriptor described(Calls *calls, const Gpu &gpu) {
  char text[1024];
  int length = snprintf(
      text, sizeof text,
      "{\"deviceName\":\"%s\",\"deviceVer\":%d,\"multiProcessorCount\":%d,\"smCountOrigin\":0,\"maxSharedMemoryPerBlockOptin\":%d,"
      "\"driverVer\":13000,\"cudaDeviceId\":0,\"pciDeviceId\":0,\"totalGlobalMem\":80000000000,\"maxGridSize\":[2147483647,65535,65535],"
      "\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,\"maxRegistersPerSM\":65536,\"smClockRateKHz\":1410000,"
      "\"memClockRateKHz\":1593000,\"l2CacheSize\":41943040,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
      "\"oversizedSharedMemoryPerBlock\":0,\"reservedSharedMemoryPerBlock\":1024,\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,"
      "\"maxThreadsPerSM\":2048,\"isTccDriver\":0,\"supportCoopLaunch\":1}",
      gpu.name, gpu.version, gpu.multiprocessors, gpu.shared);
  Descriptor device(calls, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "device");
  device.set(calls, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, length + 1, text).finalize(calls);
  return device;
}

// q, k, v and their gradients in one buffer (B, T, 3, H, D), outputs (B, T, H, D).
static AttentionCase case_of(int64_t batch, int64_t heads, int64_t time, int64_t width, bool backward, bool deterministic) {
  AttentionCase c;
  memset(&c, 0, sizeof c);
  c.batch = batch, c.heads = heads, c.time = time, c.width = width, c.backward = backward, c.deterministic = deterministic;
  for (int role = 0; role < (backward ? HEADS : DOUT); role++) {
    int64_t row = heads * width * (role == OUT || role == DOUT ? 1 : 3);
    c.stride[role][0] = time * row, c.stride[role][1] = row, c.stride[role][2] = width;
  }
  return c;
}

using Clock = std::chrono::steady_clock;
static double since(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }

// A plan that was made, or read: what is known of it before it is run.
static void look_at(const AttentionPlan &plan, const char *name, const Gpu &gpu, const char *kernel) {
  const AttentionCase &c = plan.c;
  CHECK(!(c.deterministic && plan.may_differ), "%s: engine %d says its results differ", name, (int)plan.engine);
  CHECK(strstr(kernel, c.backward ? "flash_bprop" : "flash_fprop"), "%s: its kernel is %s", name, kernel);
  CHECK(gpu.version < 900 || strstr(kernel, "sm90"), "%s: its kernel is %s", name, kernel);
  // The deterministic backward keeps a (T, T) matrix of bf16 a head, rounded up to whole tiles.
  double square = 2.0 * (double)(c.batch * c.heads) * (double)(c.time * c.time), tiles = (double)((c.time + 63) / 64 * 64);
  if (!c.backward) CHECK(plan.bytes < 1 << 20, "%s: %zu bytes", name, plan.bytes);
  if (c.deterministic)
    CHECK((double)plan.own_bytes >= square && (double)plan.own_bytes <= 2.0 * (double)(c.batch * c.heads) * tiles * tiles + 1e6, "%s: %zu bytes",
          name, plan.own_bytes);
}

// What one process makes another reads.
static void test(const Library &library, const Target &target, const Gpu &gpu, const AttentionCase &c, bool is_compiled, bool is_read,
                 const char *(*kernel)()) {
  char name[160];
  snprintf(name, sizeof name, "%s, %s, (%lld, %lld, %lld, %lld) %s%s", library.name().c_str(), gpu.name, (long long)c.batch, (long long)c.heads,
           (long long)c.time, (long long)c.width, c.backward ? "backward" : "forward", c.deterministic ? ", deterministic" : "");
  std::string refused = refuses(library, c);
  if (!refused.empty()) return (void)printf("%s: %s\n", name, refused.c_str());
  Calls calls(&library);
  AttentionPlan plan;
  Clock::time_point begin = Clock::now();
  if (is_read) {
    bool is_kept = is_compiled && load_plan(&plan, library, target, c, 0);
    CHECK(is_kept == is_compiled, "%s: its plan is not read", name);
    if (!is_kept) return;
    look_at(plan, name, gpu, kernel());
    return (void)printf("%s: engine %d, %.1f MiB, read in %.0f ms\n", name, (int)plan.engine, (double)plan.bytes / 1048576.0, since(begin));
  }
  AttentionGraph graph(&calls, c);
  CHECK(calls.good(), "%s: %s", name, calls.problem.c_str());
  graph.find(&calls, target);
  CHECK(calls.good() && graph.count() > 0, "%s: %s", name, calls.problem.c_str());
  if (!calls.good() || !is_compiled) return;
  plan = graph.plan(&calls, target, 0);
  CHECK(calls.good(), "%s: %s", name, calls.problem.c_str());
  look_at(plan, name, gpu, kernel());
  printf("%s: engine %d of %d, %.1f MiB, made in %.0f ms, %s\n", name, (int)plan.engine, graph.count(), (double)plan.bytes / 1048576.0,
         since(begin), kernel());
  keep_plan(library, plan, 0);
}

// Where Python's package of the library is, if anywhere.
static std::string of_python() {
  std::string path;
  FILE *answer = popen("python3 -c 'import importlib.util as u; print(list(u.find_spec(\"nvidia.cudnn\").submodule_search_locations)[0])' 2>/dev/null", "r");
  char text[512] = "";
  if (answer && fgets(text, sizeof text, answer)) path = std::string(text, strcspn(text, "\n")) + "/lib/libcudnn.so.9";
  if (answer) pclose(answer);
  return path;
}

// In a process of its own: libraries of two versions do not go together. 2: there is none at the path.
static int examine(const std::string &path, bool is_read) {
  void *driver = dlopen(NO_DRIVER, RTLD_NOW | RTLD_GLOBAL); // by its name, libcuda.so.1, for who asks later
  const char *(*kernel)() = driver ? reinterpret_cast<const char *(*)()>(dlsym(driver, "no_driver_last_kernel")) : nullptr;
  CHECK(kernel, "%s", dlerror());
  Library library;
  std::string why;
  if (!kernel || !open_library(&library, &why, path.c_str())) return failures ? 1 : 2;
  if (library.version < 90800) return 2; // knows no devices that are not there
  constexpr int64_t SHAPES[][4] = {{64, 12, 1024, 64}, {64, 6, 1024, 128}, {64, 6, 256, 64}, {2, 3, 200, 64}, {1, 1, 33, 32}, {1, 1, 2, 64}};
  for (const Gpu &gpu : GPUS) {
    Calls calls(&library);
    Descriptor device = described(&calls, gpu);
    CHECK(calls.good(), "%s: %s", gpu.name, calls.problem.c_str());
    Target target;
    target.device = &device;
    choices_of_machine(gpu.name);
    for (const auto &s : SHAPES)
      for (int kind = 0; kind < 3; kind++) {
        bool is_compiled = &s == SHAPES || (gpu.version == 900 && s[2] == 200); // which takes tenths of a second
        test(library, target, gpu, case_of(s[0], s[1], s[2], s[3], kind > 0, kind == 2), is_compiled, is_read, kernel);
      }
    // A plan that says it is of this device, and is of another: the library itself refuses it.
    const Gpu &other = GPUS[&gpu == GPUS ? 1 : 0];
    AttentionPlan plan;
    choices_of_machine(other.name);
    if (is_read)
      CHECK(!load_plan(&plan, library, target, case_of(64, 12, 1024, 64, false, false), 0), "a plan for %s was taken for %s", other.name, gpu.name);
  }
  return finish();
}

int main() {
  begin();
  char folder[] = "/tmp/moonbow-plans-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  setenv("MOONBOW_CACHE", folder, 1);
  int libraries = 0, failed = 0;
  const char *wish = getenv("MOONBOW_CUDNN");
  for (const std::string &path : {std::string(wish ? wish : ""), std::string("libcudnn.so.9"), of_python()}) {
    fflush(stdout);
    bool found = !path.empty();
    for (bool is_read : {false, true}) {
      pid_t child = found ? fork() : -1;
      if (child == 0) {
        int code = examine(path, is_read);
        fflush(stdout);
        _exit(code);
      }
      int state = 2 << 8;
      if (child > 0) waitpid(child, &state, 0);
      found = !(WIFEXITED(state) && WEXITSTATUS(state) == 2);
      libraries += found, failed += found && state != 0;
    }
  }
  std::string command = std::string("rm -r ") + folder;
  if (system(command.c_str()) != 0) return 1;
  if (!libraries) printf("no cuDNN here: MOONBOW_CUDNN or the loader's path would find one\n");
  return failed != 0;
}

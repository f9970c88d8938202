// SPDX-License-Identifier: MIT
//
// nvrtc.cu: from source to a loaded kernel. Machine code of earlier runs is read from the cache on disk (cache.h), by a hash
// of the source, the compiler's version and the architecture. The driver's library is opened by hand: linking it would keep
// the plugin from loading where there is no driver.
#include "backend/cuda/nvrtc.h"

#include <dlfcn.h>

#include <set>
#include <vector>

#include "backend/cuda/cache.h"

#if defined __CUDACC__ || defined MB_HAVE_NVRTC
#include <nvrtc.h>
#endif
#ifdef __CUDACC__
#include <cuda.h>
#endif

namespace mbk {

#if defined __CUDACC__ || defined MB_HAVE_NVRTC

// The text has room for what the compiler complained of.
static mb_status failed(nvrtcProgram program, nvrtcResult result, const char *call, int line) {
  size_t bytes = 0;
  std::string log;
  if (program && nvrtcGetProgramLogSize(program, &bytes) == NVRTC_SUCCESS && bytes > 1) {
    log.resize(bytes);
    nvrtcGetProgramLog(program, &log[0]);
  }
  for (char &c : log) c = c == '\n' || c == '\0' ? ' ' : c;
  if (program) nvrtcDestroyProgram(&program);
  mb_status status = result == NVRTC_ERROR_OUT_OF_MEMORY ? MB_ERR_NOMEM : MB_ERR_DEVICE;
  return fail(status, "%s, at nvrtc.cu:%d in %s; %.700s", nvrtcGetErrorString(result), line, call, log.c_str());
}

static mb_status compile(std::vector<char> *code, const std::string &source, int architecture) {
  std::string target = "--gpu-architecture=sm_" + std::to_string(architecture);
  // Without contraction, so that bits do not depend on how a program is cut into passes.
  const char *options[] = {target.c_str(), "--std=c++17", "--fmad=false"};
  nvrtcProgram program = nullptr;
  nvrtcResult result = nvrtcCreateProgram(&program, source.c_str(), "moonbow.cu", 0, nullptr, nullptr);
  if (result != NVRTC_SUCCESS) return failed(program, result, "nvrtcCreateProgram", __LINE__);
  result = nvrtcCompileProgram(program, sizeof options / sizeof *options, options);
  if (result != NVRTC_SUCCESS) return failed(program, result, "nvrtcCompileProgram", __LINE__);
  size_t bytes = 0;
  result = nvrtcGetCUBINSize(program, &bytes);
  if (result == NVRTC_SUCCESS) code->resize(bytes), result = nvrtcGetCUBIN(program, code->data());
  if (result != NVRTC_SUCCESS) return failed(program, result, "nvrtcGetCUBIN", __LINE__);
  nvrtcDestroyProgram(&program);
  return MB_OK;
}

// ----- the cache on disk ------------------------------------------------------------------------------------------

static std::string file_of(const std::string &source, int architecture) {
  int major = 0, minor = 0;
  nvrtcVersion(&major, &minor);
  return cache_name(source) + "-" + std::to_string(major) + "." + std::to_string(minor) + "-sm" + std::to_string(architecture) + ".cubin";
}

static int64_t compiled; // programs, by this process
int64_t programs_compiled() { return compiled; }

// Machine code, from the cache unless `anew`; what had to be compiled is kept there.
static mb_status code_of(std::vector<char> *code, bool *was_kept, const std::string &source, int architecture, bool anew) {
  std::string file = file_of(source, architecture), kept = anew ? "" : read_cached(file);
  *was_kept = kept.compare(0, 4, "\177ELF") == 0;
  if (*was_kept) return code->assign(kept.begin(), kept.end()), MB_OK;
  MB_TRY(compile(code, source, architecture));
  compiled++;
  write_cached(file, std::string(code->begin(), code->end()));
  return MB_OK;
}

#endif

#ifdef __CUDACC__

// ----- the driver ---------------------------------------------------------------------------------------------------

struct Driver {
  decltype(&cuModuleLoadData) load;
  decltype(&cuModuleGetFunction) find;
  decltype(&cuLaunchKernel) launch;
  decltype(&cuGetErrorString) text;
  decltype(&cuGetErrorName) name;
};

static mb_status driver_of(const Driver **out) {
  static Driver driver;
  *out = &driver;
  if (driver.load) return MB_OK;
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return fail(MB_ERR_DEVICE, "the driver's library cannot be opened: %s", dlerror());
  driver.find = (decltype(driver.find))dlsym(library, "cuModuleGetFunction");
  driver.launch = (decltype(driver.launch))dlsym(library, "cuLaunchKernel");
  driver.text = (decltype(driver.text))dlsym(library, "cuGetErrorString");
  driver.name = (decltype(driver.name))dlsym(library, "cuGetErrorName");
  driver.load = (decltype(driver.load))dlsym(library, "cuModuleLoadData");
  if (driver.find && driver.launch && driver.text && driver.name && driver.load) return MB_OK;
  driver.load = nullptr;
  return fail(MB_ERR_DEVICE, "the driver's library lacks functions of CUDA 12");
}

// The driver's errors have the numbers of the runtime's.
static mb_status check(const Driver *driver, CUresult result, const char *call, int line) {
  if (result == CUDA_SUCCESS) return MB_OK;
  Answer answer = answer_of((cudaError_t)result);
  driver->name(result, &answer.name);
  driver->text(result, &answer.text);
  return report(answer, call, __FILE__, line);
}

mb_status compile_for_device(Module *out, const std::string &source, const char *name) {
  const Driver *driver;
  int major = 0, minor = 0;
  MB_TRY(driver_of(&driver));
  MBK_CUDA(cudaSetDevice(0)); // the driver's functions want the context current in the thread that calls
  MBK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  MBK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  std::vector<char> code;
  bool was_kept;
  CUmodule module = nullptr;
  MB_TRY(code_of(&code, &was_kept, source, 10 * major + minor, false));
  CUresult loaded = driver->load(&module, code.data());
  if (loaded != CUDA_SUCCESS && was_kept) { // the file was damaged: it is made again
    MB_TRY(code_of(&code, &was_kept, source, 10 * major + minor, true));
    loaded = driver->load(&module, code.data());
  }
  MB_TRY(check(driver, loaded, "cuModuleLoadData", __LINE__));
  CUfunction function = nullptr;
  MB_TRY(check(driver, driver->find(&function, module, name), "cuModuleGetFunction", __LINE__));
  out->function = function;
  return MB_OK;
}

mb_status launch_module(const Module &module, int64_t blocks, int threads, void **arguments, const char *name) {
  const Driver *driver;
  MB_TRY(driver_of(&driver));
  if (blocks > INT32_MAX) return fail(MB_ERR_SHAPE, "%s: %lld blocks are more than a launch can have", name, (long long)blocks);
  MBK_CUDA(cudaSetDevice(0));
  launches++;
  CUresult result = driver->launch((CUfunction)module.function, (unsigned)blocks, 1, 1, (unsigned)threads, 1, 1, 0, stream(), arguments, nullptr);
  return check(driver, result, name, __LINE__);
}

#elif defined MB_HAVE_NVRTC

mb_status check_source(const std::string &source) {
  static std::set<std::string> checked;
  if (!checked.insert(source).second) return MB_OK;
  for (int architecture : {80, 90}) {
    std::vector<char> code;
    bool was_kept;
    MB_TRY(code_of(&code, &was_kept, source, architecture, false));
  }
  return MB_OK;
}

#else

int64_t programs_compiled() { return 0; }

mb_status check_source(const std::string &) { return MB_OK; }

#endif

} // namespace mbk

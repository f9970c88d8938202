// SPDX-License-Identifier: MIT
//
// cudnn.cu: see cudnn.h.
#include "backend/cuda/cudnn.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>

namespace mbk {
namespace cudnn {

std::string Library::name() const {
  return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

bool open_library(Library *out, std::string *why, const char *path) {
  Library library;
  library.opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library.opened) {
    const char *text = dlerror();
    *why = text ? text : path;
    return false;
  }
#define MBK_CUDNN_FUNCTION(result, name, parameters)                                    \
  library.name = reinterpret_cast<result(*) parameters>(dlsym(library.opened, #name)); \
  if (!library.name) *why = std::string(path) + " has no " #name;
  MBK_CUDNN_FUNCTIONS(MBK_CUDNN_FUNCTION)
#undef MBK_CUDNN_FUNCTION
  if (why->empty()) {
    library.version = library.cudnnGetVersion();
    if (library.version / 10000 != 9) *why = library.name() + " is not of version 9";
  }
  if (!why->empty()) {
    dlclose(library.opened);
    return false;
  }
  *out = library;
  return true;
}

void Calls::check(int status, const char *what) {
  if (status == CUDNN_STATUS_SUCCESS || !good()) return;
  char more[256] = "";
  library->cudnnGetLastErrorString(more, sizeof more);
  more[sizeof more - 1] = 0;
  const char *text = library->cudnnGetErrorString(status);
  problem = std::string(what) + ": " + (text ? text : "?");
  if (*more) problem += std::string(" (") + more + ")";
  for (char &c : problem) c = c == '\n' ? ' ' : c;
}

Descriptor::Descriptor(Calls *calls, int kind, const char *named) : library(calls->library), what(named) {
  if (calls->good()) calls->check(library->cudnnBackendCreateDescriptor(kind, &raw), what);
  if (!raw) calls->fail(std::string(what) + ": no descriptor");
}

Descriptor &Descriptor::operator=(Descriptor &&other) noexcept {
  std::swap(raw, other.raw), std::swap(library, other.library), std::swap(what, other.what);
  return *this;
}

Descriptor::~Descriptor() {
  if (raw) library->cudnnBackendDestroyDescriptor(raw);
}

Descriptor &Descriptor::set(Calls *calls, int name, int type, int64_t count, const void *values) {
  if (!calls->good()) return *this;
  int status = library->cudnnBackendSetAttribute(raw, name, type, count, values);
  if (status != CUDNN_STATUS_SUCCESS) calls->check(status, (std::string(what) + ", attribute " + std::to_string(name)).c_str());
  return *this;
}

void Descriptor::finalize(Calls *calls) {
  if (calls->good()) calls->check(library->cudnnBackendFinalize(raw), what);
}

int64_t Descriptor::get(Calls *calls, int name, int type, int64_t room, void *values) const {
  int64_t count = 0;
  if (!calls->good()) return 0;
  int status = library->cudnnBackendGetAttribute(raw, name, type, room, &count, values);
  if (status != CUDNN_STATUS_SUCCESS) calls->check(status, (std::string(what) + ", attribute " + std::to_string(name)).c_str());
  return calls->good() ? count : 0;
}

} // namespace cudnn
} // namespace mbk

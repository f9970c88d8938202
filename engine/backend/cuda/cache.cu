// SPDX-License-Identifier: MIT
//
// cache.cu: see cache.h.
#include "backend/cuda/cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace mbk {

std::string cache_folder() {
  const char *wish = getenv("MOONBOW_CACHE"), *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  std::string folder = wish ? wish : base && *base ? base : home && *home ? std::string(home) + "/.cache" : "";
  if (folder.empty()) return folder;
  mkdir(folder.c_str(), 0777);
  if (wish) return folder;
  folder += "/moonbow";
  mkdir(folder.c_str(), 0777);
  return folder;
}

uint64_t hash_of(const char *text, size_t length) {
  uint64_t hash = 1469598103934665603u; // FNV-1a
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
  return hash;
}

std::string cache_name(const std::string &text) {
  uint64_t second = 0x9E3779B97F4A7C15u;
  for (unsigned char c : text) second = (second ^ c) * 6364136223846793005u + 1442695040888963407u;
  char name[40];
  snprintf(name, sizeof name, "%016llx%016llx", (unsigned long long)hash_of(text.data(), text.size()), (unsigned long long)second);
  return name;
}

static std::string path_of(const std::string &name) {
  std::string folder = cache_folder();
  return folder.empty() ? folder : folder + "/" + name;
}

std::string read_cached(const std::string &name) {
  std::string path = path_of(name), text;
  FILE *file = path.empty() ? nullptr : fopen(path.c_str(), "rb");
  char part[16384];
  for (size_t n; file && (n = fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
  if (file) fclose(file);
  return text;
}

// Through a file of another name: no reader sees half of it.
void write_cached(const std::string &name, const std::string &contents) {
  std::string path = path_of(name), draft = path + "." + std::to_string(getpid());
  FILE *file = path.empty() ? nullptr : fopen(draft.c_str(), "wb");
  if (!file) return;
  bool whole = fwrite(contents.data(), 1, contents.size(), file) == contents.size();
  if (fclose(file) != 0 || !whole || rename(draft.c_str(), path.c_str()) != 0) remove(draft.c_str());
}

void drop_cached(const std::string &name) {
  std::string path = path_of(name);
  if (!path.empty()) remove(path.c_str());
}

} // namespace mbk

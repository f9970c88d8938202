// SPDX-License-Identifier: MIT
//
// cudnn_plans.cu: see cudnn_plans.h. A file is a line that says what it is for, a line of numbers, and the library's text:
//
//   moonbow attention plan 1: NVIDIA H200, driver 13000, cublasLt 130100; cuDNN 9.19.0; attention 64 1024 12 ...; 0
//   ENGINE MAY_DIFFER OWN_BYTES LENGTH HASH        HASH: of the first line, the numbers before it and the text
#include "backend/cuda/cudnn_plans.h"

#include <cinttypes>
#include <cstdio>

#include "backend/cuda/cache.h"
#include "backend/cuda/choices.h"

namespace mbk {
namespace cudnn {
namespace {

std::string title_of(const Library &library, const AttentionCase &c, int candidate) {
  return "moonbow attention plan 1: " + machine_of_choices() + "; " + library.name() + "; " + name_of(c) + "; " + std::to_string(candidate) + "\n";
}
std::string file_of(const std::string &title) { return cache_name(title) + ".plan"; }

uint64_t seal_of(const std::string &title, const std::string &numbers, const std::string &text) {
  std::string all = title + numbers + text;
  return hash_of(all.data(), all.size());
}

} // namespace

bool load_plan(AttentionPlan *out, const Library &library, const Target &target, const AttentionCase &c, int candidate) {
  const std::string title = title_of(library, c, candidate), all = read_cached(file_of(title));
  size_t end = all.find('\n', title.size());
  if (all.compare(0, title.size(), title) != 0 || end == std::string::npos) return false;
  std::string numbers = all.substr(title.size(), end - title.size()), text = all.substr(end + 1);
  size_t stop = numbers.rfind(' ');
  int64_t engine = 0;
  int may_differ = 0;
  size_t own_bytes = 0, length = 0;
  uint64_t seal = 0;
  if (sscanf(numbers.c_str(), "%" SCNd64 " %d %zu %zu %" SCNx64, &engine, &may_differ, &own_bytes, &length, &seal) != 5) return false;
  if (length != text.size() || seal != seal_of(title, numbers.substr(0, stop), text)) return false;
  Calls calls(&library);
  AttentionPlan plan = plan_of_text(&calls, target, c, text);
  if (!calls.good() || plan.own_bytes != own_bytes) return false;
  plan.engine = engine, plan.may_differ = may_differ != 0;
  *out = static_cast<AttentionPlan &&>(plan);
  return true;
}

void keep_plan(const Library &library, const AttentionPlan &plan, int candidate) {
  if (cache_folder().empty()) return;
  Calls calls(&library);
  const std::string title = title_of(library, plan.c, candidate), text = text_of(&calls, plan);
  if (text.empty()) return;
  std::string numbers = std::to_string(plan.engine) + (plan.may_differ ? " 1 " : " 0 ") + std::to_string(plan.own_bytes) + " " +
                        std::to_string(text.size());
  char seal[32];
  snprintf(seal, sizeof seal, " %016" PRIx64 "\n", seal_of(title, numbers, text));
  write_cached(file_of(title), title + numbers + seal + text);
}

void drop_plan(const Library &library, const AttentionCase &c, int candidate) { drop_cached(file_of(title_of(library, c, candidate))); }

} // namespace cudnn
} // namespace mbk

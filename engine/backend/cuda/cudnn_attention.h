// SPDX-License-Identifier: MIT
//
// cudnn_attention.h: causal attention of bf16 heads as operation graphs of cuDNN, and the plans that its engines make of
// them. attention_choice.cu decides whether one is used.
#ifndef MBK_CUDA_CUDNN_ATTENTION_H
#define MBK_CUDA_CUDNN_ATTENTION_H
#include "backend/cuda/cudnn.h"

namespace mbk {
namespace cudnn {

// What a graph depends on; compared byte by byte, so it is filled from zeros. Strides are those of mbi_heads: batch, time, head.
enum Role { Q, K, V, OUT, DOUT, DQ, DK, DV, HEADS };
struct AttentionCase {
  int64_t batch, time, heads, width;
  int64_t stride[HEADS][3]; // of the forward's four, or of all
  int64_t backward, deterministic;
};

// Where a run finds its arrays.
struct AttentionArrays {
  void *heads[HEADS];
  void *lse;       // (B, H, T) float32: written by the forward, read by the backward
  float scale;
  char *workspace; // `bytes` of AttentionPlan, on a boundary of 256
};

// What plans are made for: the device of a handle, or one described by properties, which needs no device at hand.
struct Target {
  void *handle = nullptr;
  const Descriptor *device = nullptr;
};

// A case as a text, by which choices and plans of it are found.
std::string name_of(const AttentionCase &c);

// "" or why the library is not asked: what its versions are known not to do, or to do wrong.
std::string refuses(const Library &library, const AttentionCase &c);

struct AttentionPlan {
  AttentionCase c;
  Descriptor plan;
  int64_t engine = -1;     // its number among those of the graph
  bool may_differ = false; // from one run to the next
  size_t own_bytes = 0;    // of the plan itself
  size_t bytes = 0;        // of that and of the arrays between the graph's parts
};

void run(Calls *calls, void *handle, const AttentionPlan &plan, const AttentionArrays &arrays);
// The library's text of a plan, with its code, "" if it has none; and the plan of such a text but for `engine` and `may_differ`.
std::string text_of(Calls *calls, const AttentionPlan &plan);
AttentionPlan plan_of_text(Calls *calls, const Target &target, const AttentionCase &c, const std::string &text);

class AttentionGraph {
 public:
  AttentionGraph(Calls *calls, const AttentionCase &c);
  // Finds what may run the graph, best first.
  void find(Calls *calls, const Target &target);
  int count() const { return (int)configs.size(); }
  // Makes candidate i ready; `good` of calls says whether it is.
  AttentionPlan plan(Calls *calls, const Target &target, int i) const;

 private:
  using Four = int64_t[4];
  enum class Kind { GIVEN, BETWEEN, NUMBER }; // in memory, virtual, a number of the host
  int tensor(const Four &size, const Four &stride, int type, Kind kind, int64_t id);
  int heads(Role role, bool transposed = false);
  int number(int64_t id);
  int square(int type);
  int column(Kind kind, int64_t id);
  void multiply(int c, int a, int b);
  int point(int y, int mode, int x, int b = -1, int t = -1, int axis = -1);
  void reduce(int y, int op, int x);
  int reshape(int y, int x);
  int masked(int scores);
  void forward();
  void backward();
  void query(std::vector<Descriptor> *out, int mode, const Target &target);

  const AttentionCase c;
  Calls *calls;
  std::vector<Descriptor> tensors, details, operations;
  int64_t next_id;
  Descriptor graph;
  std::vector<Descriptor> configs;
};

} // namespace cudnn
} // namespace mbk
#endif

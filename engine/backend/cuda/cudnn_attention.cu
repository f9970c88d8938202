// SPDX-License-Identifier: MIT
//
// cudnn_attention.cu: the graphs of causal attention in the form that cuDNN's fused engines recognise: products, pointwise
// operations, reductions and reshapes over tensors of sizes (B, H, T, D), of which only the inputs and outputs lie in memory.
//
//   forward    S = scale Q K^T, -inf where column > row; m = max S; P = exp(S - m) / sum; O = P V; lse = m + log(sum)
//   backward   s = sum_d dO O;  P = exp(S - lse);  dV = P^T dO;  dS = scale P (dO V^T - s);  dK = dS^T Q;  dQ = dS K
//
// The form is NVIDIA's own for these engines (cudnn-frontend, CompositeSDPANode and CompositeSDPABackwardNode, of which the
// order, the shapes and the types of what lies between are kept: engines are found by pattern). What is transposed is the
// same memory with two sizes and strides exchanged. With `deterministic` dQ is one product's result; otherwise it is summed
// up in float32, in no fixed order.
#include "backend/cuda/cudnn_attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#ifdef __CUDACC__
#include "backend/cuda/host.h"
#endif

namespace mbk {
namespace cudnn {
namespace {

// Numbers by which a run names the tensors that lie in memory; heads have their role's + 1.
enum Id : int64_t { LSE_ID = 20, SCALE_ID, MASK_ID, ONE_ID, SUMS_ID, DQ_SUMS_ID, FIRST_BETWEEN = 100 };

constexpr int64_t BOUNDARY = 256;
int64_t rounded_up(int64_t bytes) { return (bytes + BOUNDARY - 1) / BOUNDARY * BOUNDARY; }
int64_t sums_bytes(const AttentionCase &c) { return rounded_up(c.batch * c.heads * c.time * 4); }
int64_t dq_sums_bytes(const AttentionCase &c) { return rounded_up(c.batch * c.heads * c.time * c.width * 4); }

} // namespace

std::string name_of(const AttentionCase &c) {
  std::string name = c.backward ? "attention_backward" : "attention";
  for (int64_t number : {c.batch, c.time, c.heads, c.width, c.deterministic}) name += " " + std::to_string(number);
  for (int role = 0; role < (c.backward ? HEADS : DOUT); role++)
    for (int64_t stride : c.stride[role]) name += " " + std::to_string(stride);
  return name;
}

std::string refuses(const Library &library, const AttentionCase &c) {
  size_t version = library.version;
  if (c.time == 1) return "one query and one key";
  if (c.width % 8 != 0 || c.width > 256) return "heads of width " + std::to_string(c.width) + ": multiples of 8 up to 256 are taken";
  if (c.backward && (version == 91000 || version == 91001)) return library.name() + " is known to make wrong gradients";
  if (c.time % 128 != 0 && version <= 91500) return library.name() + " needs sequences that are multiples of 128";
  return "";
}

// ----- tensors ------------------------------------------------------------------------------------------------------

int AttentionGraph::tensor(const Four &size, const Four &stride, int type, Kind kind, int64_t id) {
  Descriptor t(calls, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor");
  t.set_number(calls, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  t.set(calls, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size);
  t.set(calls, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
  t.set_int64(calls, CUDNN_ATTR_TENSOR_UNIQUE_ID, {id});
  t.set_int64(calls, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, {16});
  if (kind == Kind::BETWEEN) t.set_flag(calls, CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  if (kind == Kind::NUMBER) t.set_flag(calls, CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  t.finalize(calls);
  tensors.push_back(static_cast<Descriptor &&>(t));
  return (int)tensors.size() - 1;
}

// (B, H, T, D), or (B, H, D, T).
int AttentionGraph::heads(Role role, bool transposed) {
  const int64_t(&s)[3] = c.stride[role];
  Four size = {c.batch, c.heads, c.time, c.width}, stride = {s[0], s[2], s[1], 1};
  if (transposed) std::swap(size[2], size[3]), std::swap(stride[2], stride[3]);
  return tensor(size, stride, CUDNN_DATA_BFLOAT16, Kind::GIVEN, role + 1);
}

int AttentionGraph::number(int64_t id) { return tensor({1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_FLOAT, Kind::NUMBER, id); }

// (B, H, T, T) between operations.
int AttentionGraph::square(int type) {
  int64_t T = c.time;
  return tensor({c.batch, c.heads, T, T}, {c.heads * T * T, T * T, T, 1}, type, Kind::BETWEEN, next_id++);
}

// (B, H, T, 1).
int AttentionGraph::column(Kind kind, int64_t id) {
  int64_t T = c.time;
  return tensor({c.batch, c.heads, T, 1}, {c.heads * T, T, 1, 1}, CUDNN_DATA_FLOAT, kind, kind == Kind::BETWEEN ? next_id++ : id);
}

// ----- operations -----------------------------------------------------------------------------------------------------

// c = a b
void AttentionGraph::multiply(int result, int a, int b) {
  Descriptor detail(calls, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "matmul"), op(calls, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "matmul operation");
  detail.set_number(calls, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize(calls);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensors[(size_t)a]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_MATMUL_BDESC, tensors[(size_t)b]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_MATMUL_CDESC, tensors[(size_t)result]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_MATMUL_DESC, detail).finalize(calls);
  details.push_back(static_cast<Descriptor &&>(detail)), operations.push_back(static_cast<Descriptor &&>(op));
}

// y = mode(x), mode(x, b) or, of BINARY_SELECT, t ? x : b
int AttentionGraph::point(int y, int mode, int x, int b, int t, int axis) {
  Descriptor detail(calls, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise");
  Descriptor op(calls, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "pointwise operation");
  int precision = mode == CUDNN_POINTWISE_CMP_GE ? CUDNN_DATA_BOOLEAN : CUDNN_DATA_FLOAT;
  detail.set_number(calls, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  detail.set_number(calls, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, precision);
  if (axis >= 0) detail.set_int64(calls, CUDNN_ATTR_POINTWISE_AXIS, {axis});
  detail.finalize(calls);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, detail);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors[(size_t)x]);
  if (b >= 0) op.set_descriptor(calls, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors[(size_t)b]);
  if (t >= 0) op.set_descriptor(calls, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, tensors[(size_t)t]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors[(size_t)y]);
  op.set_float(calls, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, 1.0f);
  op.set_float(calls, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, 1.0f).finalize(calls);
  details.push_back(static_cast<Descriptor &&>(detail)), operations.push_back(static_cast<Descriptor &&>(op));
  return y;
}

// y = the sum or the largest of x along what y has one of
void AttentionGraph::reduce(int y, int operation, int x) {
  Descriptor detail(calls, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction");
  Descriptor op(calls, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "reduction operation");
  detail.set_number(calls, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, operation);
  detail.set_number(calls, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT).finalize(calls);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, tensors[(size_t)x]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, tensors[(size_t)y]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_REDUCTION_DESC, detail).finalize(calls);
  details.push_back(static_cast<Descriptor &&>(detail)), operations.push_back(static_cast<Descriptor &&>(op));
}

// y = x as y has it described
int AttentionGraph::reshape(int y, int x) {
  Descriptor op(calls, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "reshape operation");
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, tensors[(size_t)x]);
  op.set_descriptor(calls, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, tensors[(size_t)y]).finalize(calls);
  operations.push_back(static_cast<Descriptor &&>(op));
  return y;
}

// Scores of keys after the query's place become -infinity.
int AttentionGraph::masked(int scores) {
  int row = point(square(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, scores, -1, -1, 2);
  int key = point(square(CUDNN_DATA_INT32), CUDNN_POINTWISE_GEN_INDEX, scores, -1, -1, 3);
  int is_seen = point(square(CUDNN_DATA_BOOLEAN), CUDNN_POINTWISE_CMP_GE, row, key);
  return point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_BINARY_SELECT, scores, number(MASK_ID), is_seen);
}

// ----- the graphs -------------------------------------------------------------------------------------------------------

void AttentionGraph::forward() {
  int q = heads(Q), k = heads(K, true), v = heads(V), out = heads(OUT);
  int products = square(CUDNN_DATA_FLOAT), most = column(Kind::BETWEEN, 0), sum = column(Kind::BETWEEN, 0);
  multiply(products, q, k);
  int scores = masked(point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_MUL, products, number(SCALE_ID)));
  reduce(most, CUDNN_REDUCE_TENSOR_MAX, scores);
  int less = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_SUB, scores, most);
  int weights = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_EXP, less);
  reduce(sum, CUDNN_REDUCE_TENSOR_ADD, weights);
  int log = point(column(Kind::BETWEEN, 0), CUDNN_POINTWISE_LOG, sum);
  point(column(Kind::GIVEN, LSE_ID), CUDNN_POINTWISE_ADD, most, log);
  int p = point(square(CUDNN_DATA_BFLOAT16), CUDNN_POINTWISE_DIV, weights, sum);
  multiply(out, p, v);
}

void AttentionGraph::backward() {
  int64_t B = c.batch, H = c.heads, T = c.time, D = c.width;
  const Four turned_size = {B, H, T, T}, turned_stride = {H * T * T, T * T, 1, T};
  auto turned = [&](int x) {
    return reshape(tensor(turned_size, turned_stride, CUDNN_DATA_BFLOAT16, Kind::BETWEEN, next_id++), x);
  };
  int q = heads(Q), k = heads(K, true), v = heads(V, true), out = heads(OUT), dout = heads(DOUT);
  int dq = heads(DQ), dk = heads(DK), dv = heads(DV), lse = column(Kind::GIVEN, LSE_ID), scale = number(SCALE_ID);

  int both = tensor({B, H, T, D}, {H * T * D, T * D, H * D, 1}, CUDNN_DATA_FLOAT, Kind::BETWEEN, next_id++);
  point(both, CUDNN_POINTWISE_MUL, dout, out);
  int sum = column(Kind::BETWEEN, 0);
  reduce(sum, CUDNN_REDUCE_TENSOR_ADD, both);
  int sums = point(column(Kind::GIVEN, SUMS_ID), CUDNN_POINTWISE_MUL, sum, number(ONE_ID));

  int products = square(CUDNN_DATA_FLOAT);
  multiply(products, q, k);
  int scores = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_MUL, products, scale);
  int less = masked(point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_SUB, scores, lse));
  int p = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_EXP, less);
  multiply(dv, turned(p), dout);

  int dp = square(CUDNN_DATA_FLOAT);
  multiply(dp, dout, v);
  int rest = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_SUB, dp, sums);
  int weighted = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_MUL, rest, p);
  int ds = point(square(CUDNN_DATA_FLOAT), CUDNN_POINTWISE_MUL, weighted, scale);
  multiply(dk, turned(ds), q);

  const int64_t(&s)[3] = c.stride[K];
  int keys = reshape(tensor({B, H, T, D}, {s[0], s[2], s[1], 1}, CUDNN_DATA_BFLOAT16, Kind::BETWEEN, next_id++), k);
  if (c.deterministic) return multiply(dq, ds, keys);
  int dq_sums = tensor({B, H, T, D}, {H * T * D, T * D, D, 1}, CUDNN_DATA_FLOAT, Kind::GIVEN, DQ_SUMS_ID);
  multiply(dq_sums, ds, keys);
  point(dq, CUDNN_POINTWISE_IDENTITY, dq_sums);
}

AttentionGraph::AttentionGraph(Calls *calls_, const AttentionCase &of) : c(of), calls(calls_), next_id(FIRST_BETWEEN) {
  if (c.backward) backward();
  else forward();
}

// ----- plans --------------------------------------------------------------------------------------------------------------

void AttentionGraph::query(std::vector<Descriptor> *out, int mode, const Target &target) {
  Descriptor heuristics(calls, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristics");
  heuristics.set_descriptor(calls, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set_number(calls, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  if (target.device) heuristics.set_descriptor(calls, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.device);
  heuristics.finalize(calls);
  int64_t count = heuristics.get(calls, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, nullptr);
  std::vector<void *> raw;
  std::vector<Descriptor> found;
  for (int64_t i = 0; i < count; i++) {
    found.emplace_back(calls, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "engine configuration");
    raw.push_back(found.back().raw);
  }
  if (count > 0) count = heuristics.get(calls, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, raw.data());
  for (int64_t i = 0; i < count; i++) out->push_back(static_cast<Descriptor &&>(found[(size_t)i]));
}

void AttentionGraph::find(Calls *with, const Target &target) {
  calls = with;
  std::vector<void *> raw;
  for (const Descriptor &op : operations) raw.push_back(op.raw);
  graph = Descriptor(calls, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "operation graph");
  if (target.handle) graph.set(calls, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  graph.set(calls, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, (int64_t)raw.size(), raw.data()).finalize(calls);
  configs.clear();
  query(&configs, CUDNN_HEUR_MODE_A, target);
  if (calls->good() && configs.empty()) query(&configs, CUDNN_HEUR_MODE_FALLBACK, target);
  if (configs.empty()) calls->fail("no engine for the graph");
}

// A plan for a target, before what it is made of is set.
static AttentionPlan new_plan(Calls *with, const Target &target, const AttentionCase &c) {
  AttentionPlan out;
  out.c = c;
  out.plan = Descriptor(with, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "execution plan");
  if (target.handle) out.plan.set(with, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target.handle);
  if (target.device) out.plan.set_descriptor(with, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.device);
  return out;
}

static void finalize(Calls *with, AttentionPlan *out) {
  const AttentionCase &c = out->c;
  int64_t bytes = 0;
  out->plan.finalize(with);
  out->plan.get(with, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &bytes);
  out->own_bytes = (size_t)rounded_up(bytes);
  out->bytes = out->own_bytes + (size_t)(c.backward ? sums_bytes(c) + (c.deterministic ? 0 : dq_sums_bytes(c)) : 0);
}

AttentionPlan AttentionGraph::plan(Calls *with, const Target &target, int i) const {
  AttentionPlan out = new_plan(with, target, c);
  const Descriptor &config = configs[(size_t)i];
  Descriptor engine(with, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
  config.get(with, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine.raw);
  engine.get(with, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &out.engine);
  int notes[32];
  int64_t count = engine.get(with, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 32, notes);
  for (int64_t n = 0; n < count && n < 32; n++) out.may_differ |= notes[n] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
  out.plan.set_descriptor(with, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  finalize(with, &out);
  return out;
}

AttentionPlan plan_of_text(Calls *with, const Target &target, const AttentionCase &c, const std::string &text) {
  AttentionPlan out = new_plan(with, target, c);
  out.plan.set(with, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)text.size(), text.data());
  finalize(with, &out);
  return out;
}

std::string text_of(Calls *with, const AttentionPlan &plan) {
  std::string text;
  int64_t count = plan.plan.get(with, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, nullptr);
  if (count > 0) text.resize((size_t)count);
  if (count > 0) count = plan.plan.get(with, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, count, &text[0]);
  return with->good() && count == (int64_t)text.size() ? text : "";
}

void run(Calls *with, void *handle, const AttentionPlan &plan, const AttentionArrays &arrays) {
  const AttentionCase &c = plan.c;
  float scale = arrays.scale, one = 1.0f;
  float masked_value = with->library->version < 91000 ? std::numeric_limits<float>::lowest() : -INFINITY;
  std::vector<int64_t> ids;
  std::vector<void *> data;
  auto give = [&](int64_t id, void *at) { ids.push_back(id), data.push_back(at); };
  for (int role = 0; role < (c.backward ? HEADS : DOUT); role++) give(role + 1, arrays.heads[role]);
  give(LSE_ID, arrays.lse), give(SCALE_ID, &scale), give(MASK_ID, &masked_value);
  char *between = arrays.workspace + plan.own_bytes;
  if (c.backward) give(ONE_ID, &one), give(SUMS_ID, between);
  if (c.backward && !c.deterministic) give(DQ_SUMS_ID, between + sums_bytes(c));
#ifdef __CUDACC__
  // Before 9.6 the library adds to what is there.
  if (c.backward && !c.deterministic && with->library->version < 90600 &&
      cudaMemsetAsync(between + sums_bytes(c), 0, (size_t)dq_sums_bytes(c), stream()) != cudaSuccess)
    with->fail("cudaMemsetAsync of dQ's sums");
#endif
  Descriptor pack(with, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variant pack");
  pack.set(with, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, (int64_t)ids.size(), ids.data());
  pack.set(with, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, (int64_t)data.size(), data.data());
  void *workspace = arrays.workspace;
  pack.set(with, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace).finalize(with);
  if (with->good()) with->check(with->library->cudnnBackendExecute(handle, plan.plan.raw, pack.raw), "execution");
}

} // namespace cudnn
} // namespace mbk

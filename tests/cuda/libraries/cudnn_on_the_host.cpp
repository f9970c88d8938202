// SPDX-License-Identifier: MIT
//
// cudnn_on_the_host.cpp: a library that stands for cuDNN where there is no device. It takes the same calls, holds callers to
// the rules of descriptors (cudnn_graph.h), and runs a graph by doing its operations one after another as they say, in
// float32 with what is stored rounded to its type. So a graph means what it says, and not what an engine takes it for.
// A plan's text is its graph, descriptor by descriptor.
//
// CUDNN_STAND_IN: words that change what it does, apart by blanks.
//   fail=NAME:N    the N-th call whose name contains NAME is refused (counted anew when the text changes); beside the
//                  calls' own names: plan, of a plan that is made; text, of one from a text; reading, a run of that one
//   version=N      its version, 91900 otherwise
//   workspace=N    bytes that a plan wants, 0 otherwise
//   slow=N         a run takes N milliseconds more
//   engines=N      of a graph, 2 otherwise
//   idle=1         a run does nothing, and fast
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "backend/cuda/bf16.h"
#include "backend/cuda/cudnn.h"

using namespace mbk::cudnn;

namespace {

constexpr int BAD_PARAM = 2000, NOT_FINALIZED = 2004, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000;

struct Attribute {
  int type;
  int64_t count;
  std::vector<char> bytes;
};
struct Thing {
  int kind;
  bool final = false;
  std::map<int, Attribute> attributes;
  int number = 0;                              // of an engine
  std::vector<std::unique_ptr<Thing>> read;    // of a plan from a text: what it is made of
};

std::string last_error;
int64_t alive;
int handle_of;

int refuse(int status, const std::string &why) {
  last_error = why;
  return status;
}

// The value of a word "name=value" of CUDNN_STAND_IN, or "".
std::string wish(const char *name) {
  const char *all = getenv("CUDNN_STAND_IN");
  std::string text = std::string(" ") + (all ? all : ""), start = std::string(" ") + name + "=";
  size_t at = text.find(start);
  if (at == std::string::npos) return "";
  at += start.size();
  return text.substr(at, text.find(' ', at) - at);
}
int64_t number_of(const char *name, int64_t otherwise) {
  std::string text = wish(name);
  return text.empty() ? otherwise : strtoll(text.c_str(), nullptr, 10);
}

bool is_to_fail(const char *call) {
  static std::string before;
  static int64_t calls;
  std::string text = wish("fail");
  if (text != before) before = text, calls = 0;
  size_t colon = text.find(':');
  if (colon == std::string::npos || !strstr(call, text.substr(0, colon).c_str())) return false;
  return ++calls == strtoll(text.c_str() + colon + 1, nullptr, 10);
}
#define MAY_FAIL(call) \
  if (is_to_fail(call)) return refuse(NOT_SUPPORTED, std::string(call) + " was to fail")

// ----- reading descriptors ------------------------------------------------------------------------------------------------

template <class T> std::vector<T> values(const Thing *thing, int name) {
  auto found = thing->attributes.find(name);
  if (found == thing->attributes.end()) return {};
  std::vector<T> out(found->second.bytes.size() / sizeof(T));
  memcpy(out.data(), found->second.bytes.data(), found->second.bytes.size());
  return out;
}
template <class T> T value(const Thing *thing, int name, T otherwise = T()) {
  std::vector<T> all = values<T>(thing, name);
  return all.empty() ? otherwise : all[0];
}
const Thing *descriptor(const Thing *thing, int name) { return (const Thing *)value<void *>(thing, name, nullptr); }

// ----- plans as texts ------------------------------------------------------------------------------------------------------

// Appends what a descriptor is made of and it itself, a line each: kind, number, then name, type, count and values in
// hexadecimal of each attribute, a descriptor as the number of its line. Gives its own.
int64_t write(std::string *text, std::map<const Thing *, int64_t> *lines, const Thing *thing) {
  if (lines->count(thing)) return (*lines)[thing];
  std::ostringstream line;
  line << thing->kind << ' ' << thing->number << std::hex;
  for (const auto &[name, attribute] : thing->attributes) {
    if (attribute.type == CUDNN_TYPE_HANDLE) continue;
    line << ' ' << name << ' ' << attribute.type << ' ' << attribute.bytes.size();
    if (attribute.type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
      for (void *other : values<void *>(thing, name)) line << ' ' << write(text, lines, (const Thing *)other);
    else
      for (char c : attribute.bytes) line << ' ' << (int)(unsigned char)c;
  }
  *text += line.str() + '\n';
  int64_t number = (int64_t)lines->size();
  return (*lines)[thing] = number;
}

// The other way; the last descriptor is the plan's configuration.
bool read(std::vector<std::unique_ptr<Thing>> *out, const std::string &text) {
  std::istringstream all(text);
  for (std::string line; std::getline(all, line);) {
    std::istringstream words(line);
    std::unique_ptr<Thing> thing(new Thing);
    if (!(words >> thing->kind >> thing->number)) return false;
    thing->final = true;
    words >> std::hex;
    for (int name, type; words >> name >> type;) {
      size_t bytes = 0;
      words >> bytes;
      Attribute attribute{type, 0, {}};
      bool is_link = type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
      for (size_t i = 0; i < (is_link ? bytes / sizeof(void *) : bytes); i++) {
        size_t word = 0;
        if (!(words >> word) || (is_link && word >= out->size())) return false;
        const void *other = is_link ? (*out)[word].get() : nullptr;
        const char *from = is_link ? (const char *)&other : nullptr;
        if (is_link) attribute.bytes.insert(attribute.bytes.end(), from, from + sizeof other);
        else attribute.bytes.push_back((char)word);
      }
      thing->attributes[name] = attribute;
    }
    out->push_back(std::move(thing));
  }
  return !out->empty() && out->back()->kind == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
}

std::string text_of(const Thing *plan) {
  std::map<const Thing *, int64_t> lines;
  std::string text;
  write(&text, &lines, descriptor(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
  return text;
}

// ----- the rules ------------------------------------------------------------------------------------------------------------

struct Rule {
  int kind, name, type, least, most; // of elements; least 0: may be left out
};
constexpr int MANY = 1 << 20;
const Rule RULES[] = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, 4},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, 4},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, 1},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, 1},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 0, 1},
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 0, 1},
    {CUDNN_BACKEND_MATMUL_DESCRIPTOR, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, CUDNN_ATTR_OPERATION_MATMUL_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, 1},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, 1},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 0, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, CUDNN_TYPE_FLOAT, 0, 1},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, CUDNN_TYPE_FLOAT, 0, 1},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, 1},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, 1},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, CUDNN_ATTR_OPERATION_REDUCTION_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, 1},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, MANY},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, 1},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, 1},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, 1},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, 1},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, MANY},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 1, MANY},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 1, MANY},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 0, 1},
};
size_t size_of(int type) {
  switch (type) {
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN: return 1;
    case CUDNN_TYPE_FLOAT:
    case CUDNN_TYPE_DATA_TYPE:
    case CUDNN_TYPE_HEUR_MODE:
    case CUDNN_TYPE_POINTWISE_MODE:
    case CUDNN_TYPE_REDUCTION_OPERATOR_TYPE: return 4;
    default: return 8;
  }
}

// ----- running a graph ------------------------------------------------------------------------------------------------------

struct Tensor {
  std::vector<int64_t> size, stride;
  int type;
  char *memory = nullptr;     // of a tensor that is given
  std::vector<float> between; // of a virtual one, in the order of its indices
  int64_t count() const { return size[0] * size[1] * size[2] * size[3]; }
  int64_t offset(int64_t i) const {
    int64_t at = 0;
    for (int d = 3; d >= 0; d--) at += i % size[(size_t)d] * stride[(size_t)d], i /= size[(size_t)d];
    return at;
  }
  float get(int64_t i) const {
    if (!memory) return between[(size_t)i];
    if (type == CUDNN_DATA_BFLOAT16) return (float)((mbk::bf16 *)memory)[offset(i)];
    return ((float *)memory)[offset(i)];
  }
  void set(int64_t i, float x) {
    if (!memory) between[(size_t)i] = type == CUDNN_DATA_BFLOAT16 ? (float)mbk::bf16(x) : x;
    else if (type == CUDNN_DATA_BFLOAT16) ((mbk::bf16 *)memory)[offset(i)] = mbk::bf16(x);
    else ((float *)memory)[offset(i)] = x;
  }
};
using Tensors = std::map<const Thing *, Tensor>;

int64_t index_of(const Tensor &t, int64_t b, int64_t h, int64_t i, int64_t j) { return ((b * t.size[1] + h) * t.size[2] + i) * t.size[3] + j; }

// The element of `from` that stands for element i of `of`: sizes of 1 are stretched.
int64_t stretched(const Tensor &from, const Tensor &of, int64_t i) {
  int64_t at[4];
  for (int d = 3; d >= 0; d--) at[d] = i % of.size[(size_t)d] % from.size[(size_t)d], i /= of.size[(size_t)d];
  return index_of(from, at[0], at[1], at[2], at[3]);
}

void multiply(Tensor &c, const Tensor &a, const Tensor &b) {
  for (int64_t n = 0; n < c.size[0]; n++)
    for (int64_t h = 0; h < c.size[1]; h++)
      for (int64_t i = 0; i < c.size[2]; i++)
        for (int64_t j = 0; j < c.size[3]; j++) {
          float sum = 0;
          for (int64_t k = 0; k < a.size[3]; k++) sum += a.get(index_of(a, n, h, i, k)) * b.get(index_of(b, n, h, k, j));
          c.set(index_of(c, n, h, i, j), sum);
        }
}

float pointwise(int mode, float x, float b, bool t, int64_t index) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD: return x + b;
    case CUDNN_POINTWISE_MUL: return x * b;
    case CUDNN_POINTWISE_DIV: return x / b;
    case CUDNN_POINTWISE_SUB: return x - b;
    case CUDNN_POINTWISE_EXP: return expf(x);
    case CUDNN_POINTWISE_LOG: return logf(x);
    case CUDNN_POINTWISE_CMP_GE: return x >= b;
    case CUDNN_POINTWISE_GEN_INDEX: return (float)index;
    case CUDNN_POINTWISE_BINARY_SELECT: return t ? x : b;
    default: return x; // IDENTITY
  }
}

bool perform(const Thing *op, Tensors &tensors) {
  auto at = [&](int name) -> Tensor & { return tensors.at(descriptor(op, name)); };
  if (op->kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
    Tensor &a = at(CUDNN_ATTR_OPERATION_MATMUL_ADESC), &b = at(CUDNN_ATTR_OPERATION_MATMUL_BDESC), &c = at(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    bool fits = a.size[3] == b.size[2] && c.size[2] == a.size[2] && c.size[3] == b.size[3] && a.size[0] == c.size[0] && b.size[1] == c.size[1];
    if (fits) multiply(c, a, b);
    return fits;
  }
  if (op->kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
    Tensor &x = at(CUDNN_ATTR_OPERATION_REDUCTION_XDESC), &y = at(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
    bool is_sum = value<int>(descriptor(op, CUDNN_ATTR_OPERATION_REDUCTION_DESC), CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_ADD;
    for (int64_t i = 0; i < y.count(); i++) y.set(i, is_sum ? 0.0f : -INFINITY);
    for (int64_t i = 0; i < x.count(); i++) {
      int64_t to = stretched(y, x, i);
      y.set(to, is_sum ? y.get(to) + x.get(i) : fmaxf(y.get(to), x.get(i)));
    }
    return true;
  }
  if (op->kind == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) {
    Tensor &x = at(CUDNN_ATTR_OPERATION_RESHAPE_XDESC), &y = at(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
    std::map<int64_t, int64_t> by_place;
    for (int64_t i = 0; i < x.count(); i++) by_place[x.offset(i)] = i;
    if (x.count() != y.count() || (int64_t)by_place.size() != x.count()) return false;
    for (int64_t i = 0; i < y.count(); i++) {
      auto found = by_place.find(y.offset(i));
      if (found == by_place.end()) return false;
      y.set(i, x.get(found->second));
    }
    return true;
  }
  const Thing *detail = descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
  int mode = value<int>(detail, CUDNN_ATTR_POINTWISE_MODE);
  Tensor &x = at(CUDNN_ATTR_OPERATION_POINTWISE_XDESC), &y = at(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
  const Thing *b = descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC), *t = descriptor(op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
  int64_t axis = value<int64_t>(detail, CUDNN_ATTR_POINTWISE_AXIS, 0), inner = 1;
  for (size_t d = 3; (int64_t)d > axis; d--) inner *= y.size[d];
  for (int64_t i = 0; i < y.count(); i++) {
    float other = b ? tensors.at(b).get(stretched(tensors.at(b), y, i)) : 0;
    bool is_wanted = t && tensors.at(t).get(stretched(tensors.at(t), y, i)) != 0;
    y.set(i, pointwise(mode, x.get(stretched(x, y, i)), other, is_wanted, i / inner % y.size[(size_t)axis]));
  }
  return true;
}

constexpr int TENSOR_PORTS[] = {CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_ATTR_OPERATION_MATMUL_CDESC,
                                CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_ATTR_OPERATION_POINTWISE_TDESC,
                                CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
                                CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_ATTR_OPERATION_RESHAPE_YDESC};

int run(const Thing *graph, const Thing *pack) {
  std::vector<int64_t> ids = values<int64_t>(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  std::vector<char *> data = values<char *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  if (ids.size() != data.size()) return refuse(BAD_PARAM, "as many ids as pointers");
  std::map<int64_t, char *> given;
  for (size_t i = 0; i < ids.size(); i++)
    if (!given.emplace(ids[i], data[i]).second) return refuse(BAD_PARAM, "id " + std::to_string(ids[i]) + " twice");
  Tensors tensors;
  for (void *op : values<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS))
    for (int port : TENSOR_PORTS) {
      const Thing *t = descriptor((const Thing *)op, port);
      if (!t || tensors.count(t)) continue;
      Tensor made;
      made.size = values<int64_t>(t, CUDNN_ATTR_TENSOR_DIMENSIONS), made.stride = values<int64_t>(t, CUDNN_ATTR_TENSOR_STRIDES);
      made.type = value<int>(t, CUDNN_ATTR_TENSOR_DATA_TYPE);
      int64_t id = value<int64_t>(t, CUDNN_ATTR_TENSOR_UNIQUE_ID);
      if (value<char>(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL) != 0) {
        if (given.count(id)) return refuse(BAD_PARAM, "a pointer for what is virtual");
        made.between.assign((size_t)made.count(), NAN);
      } else {
        if (!given.count(id) || !given[id]) return refuse(BAD_PARAM, "no pointer for id " + std::to_string(id));
        made.memory = given[id];
        bool by_value = value<char>(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE) != 0;
        if (!by_value && (uintptr_t)made.memory % 16) return refuse(2003, "id " + std::to_string(id) + " is off its boundary");
      }
      tensors[t] = made;
    }
  for (void *op : values<void *>(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS))
    if (!perform((const Thing *)op, tensors)) return refuse(EXECUTION_FAILED, "operands of an operation do not fit");
  return CUDNN_STATUS_SUCCESS;
}

} // namespace

// ----- what it exports --------------------------------------------------------------------------------------------------------

extern "C" {
#pragma GCC visibility push(default)

extern const int runs_on_the_host;
const int runs_on_the_host = 1;
int64_t cudnn_descriptors_alive() { return alive; }

size_t cudnnGetVersion() { return (size_t)number_of("version", 91900); }
const char *cudnnGetErrorString(int status) { return status == 0 ? "CUDNN_STATUS_SUCCESS" : "CUDNN_STATUS_STAND_IN"; }
void cudnnGetLastErrorString(char *message, size_t room) { snprintf(message, room, "%s", last_error.c_str()); }

int cudnnCreate(void **handle) {
  MAY_FAIL("cudnnCreate");
  *handle = &handle_of;
  return CUDNN_STATUS_SUCCESS;
}
int cudnnDestroy(void *) { return CUDNN_STATUS_SUCCESS; }
int cudnnSetStream(void *, void *) { return CUDNN_STATUS_SUCCESS; }

int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
  MAY_FAIL("cudnnBackendCreateDescriptor");
  Thing *thing = new Thing;
  thing->kind = kind;
  alive++;
  *descriptor = thing;
  return CUDNN_STATUS_SUCCESS;
}
int cudnnBackendDestroyDescriptor(void *descriptor) {
  delete (Thing *)descriptor;
  alive--;
  return CUDNN_STATUS_SUCCESS;
}

int cudnnBackendSetAttribute(void *descriptor, int name, int type, int64_t count, const void *given) {
  MAY_FAIL("cudnnBackendSetAttribute");
  Thing *thing = (Thing *)descriptor;
  if (thing->final) return refuse(BAD_PARAM, "the descriptor is final");
  for (const Rule &rule : RULES) {
    if (rule.kind != thing->kind || rule.name != name) continue;
    if (rule.type != type) return refuse(2010, "attribute " + std::to_string(name) + " of type " + std::to_string(type));
    if (count < 1 || count > rule.most) return refuse(BAD_PARAM, "attribute " + std::to_string(name) + ": " + std::to_string(count) + " values");
    Attribute attribute{type, count, {}};
    attribute.bytes.resize((size_t)count * size_of(type));
    memcpy(attribute.bytes.data(), given, attribute.bytes.size());
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
      for (int64_t i = 0; i < count; i++)
        if (Thing *other = ((Thing *const *)given)[i]; !other || !other->final) return refuse(NOT_FINALIZED, "what is set is not final");
    thing->attributes[name] = attribute;
    return CUDNN_STATUS_SUCCESS;
  }
  return refuse(NOT_SUPPORTED, "descriptor " + std::to_string(thing->kind) + " has no attribute " + std::to_string(name));
}

int cudnnBackendFinalize(void *descriptor) {
  MAY_FAIL("cudnnBackendFinalize");
  Thing *thing = (Thing *)descriptor;
  for (const Rule &rule : RULES)
    if (rule.kind == thing->kind && rule.least > 0) {
      auto found = thing->attributes.find(rule.name);
      if (found == thing->attributes.end() || found->second.count < rule.least)
        return refuse(BAD_PARAM, "attribute " + std::to_string(rule.name) + " is missing");
    }
  if (thing->kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    std::vector<char> text = values<char>(thing, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    bool is_made = ::descriptor(thing, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) != nullptr;
    if (is_made == !text.empty()) return refuse(BAD_PARAM, "a configuration or a text");
    if (is_made) {
      MAY_FAIL("plan");
    } else {
      MAY_FAIL("text");
      if (!read(&thing->read, std::string(text.begin(), text.end()))) return refuse(BAD_PARAM, "no text of a plan");
    }
  }
  thing->final = true;
  return CUDNN_STATUS_SUCCESS;
}

int cudnnBackendGetAttribute(void *descriptor, int name, int, int64_t room, int64_t *count, void *out) {
  MAY_FAIL("cudnnBackendGetAttribute");
  Thing *thing = (Thing *)descriptor;
  if (!thing->final) return refuse(NOT_FINALIZED, "not final");
  int64_t number = 0;
  *count = 1;
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
      *count = number_of("engines", 2);
      for (int64_t i = 0; i < *count && i < room; i++) {
        Thing *config = ((Thing **)out)[i];
        config->number = (int)i, config->final = true;
        config->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] = thing->attributes[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH];
      }
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE: {
      Thing *engine = *(Thing **)out;
      engine->number = thing->number, engine->final = true;
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: *count = 0; return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: number = thing->number; break;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION: {
      if (!thing->read.empty()) return refuse(NOT_SUPPORTED, "the text of a plan from a text");
      std::string text = text_of(thing);
      *count = (int64_t)text.size();
      if (room > 0) memcpy(out, text.data(), (size_t)(room < *count ? room : *count));
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: number = number_of("workspace", 0); break;
    default: return refuse(NOT_SUPPORTED, "attribute " + std::to_string(name) + " cannot be asked for");
  }
  memcpy(out, &number, sizeof number);
  return CUDNN_STATUS_SUCCESS;
}

int cudnnBackendExecute(void *handle, void *plan, void *pack) {
  MAY_FAIL("cudnnBackendExecute");
  const std::vector<std::unique_ptr<Thing>> &read = ((Thing *)plan)->read;
  const Thing *config = read.empty() ? descriptor((Thing *)plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) : read.back().get();
  if (!read.empty()) MAY_FAIL("reading");
  if (handle != &handle_of || !((Thing *)plan)->final || !((Thing *)pack)->final) return refuse(BAD_PARAM, "not final");
  std::this_thread::sleep_for(std::chrono::milliseconds(number_of("slow", 0)));
  if (number_of("idle", 0)) return CUDNN_STATUS_SUCCESS;
  return run(descriptor(config, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), (const Thing *)pack);
}

#pragma GCC visibility pop
}

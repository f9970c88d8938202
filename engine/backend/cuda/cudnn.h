// SPDX-License-Identifier: MIT
//
// cudnn.h: cuDNN's backend interface, opened by hand: the project neither links the library nor needs its headers. What is
// used of them is here, by their own names: numbers that have not changed since version 9.0 (cudnn_graph.h; a test compares
// them with the header where there is one), and the functions.
//
// Nothing here fails an operation of the engine: what the library refuses is a text, and the caller does without it.
#ifndef MBK_CUDA_CUDNN_H
#define MBK_CUDA_CUDNN_H
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace mbk {
namespace cudnn {

enum Number : int {
  CUDNN_STATUS_SUCCESS = 0,
  // cudnnBackendDescriptorType_t
  CUDNN_BACKEND_POINTWISE_DESCRIPTOR = 0,
  CUDNN_BACKEND_ENGINE_DESCRIPTOR = 2,
  CUDNN_BACKEND_ENGINECFG_DESCRIPTOR = 3,
  CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR = 4,
  CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR = 5,
  CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR = 13,
  CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR = 15,
  CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR = 16,
  CUDNN_BACKEND_TENSOR_DESCRIPTOR = 17,
  CUDNN_BACKEND_MATMUL_DESCRIPTOR = 18,
  CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR = 19,
  CUDNN_BACKEND_REDUCTION_DESCRIPTOR = 21,
  CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR = 22,
  CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR = 31,
  CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR = 38,
  // cudnnBackendAttributeType_t
  CUDNN_TYPE_HANDLE = 0,
  CUDNN_TYPE_DATA_TYPE = 1,
  CUDNN_TYPE_BOOLEAN = 2,
  CUDNN_TYPE_INT64 = 3,
  CUDNN_TYPE_FLOAT = 4,
  CUDNN_TYPE_VOID_PTR = 6,
  CUDNN_TYPE_HEUR_MODE = 8,
  CUDNN_TYPE_NUMERICAL_NOTE = 11,
  CUDNN_TYPE_POINTWISE_MODE = 14,
  CUDNN_TYPE_BACKEND_DESCRIPTOR = 15,
  CUDNN_TYPE_REDUCTION_OPERATOR_TYPE = 18,
  CUDNN_TYPE_CHAR = 24,
  // cudnnBackendAttributeName_t
  CUDNN_ATTR_POINTWISE_MODE = 0,
  CUDNN_ATTR_POINTWISE_MATH_PREC = 1,
  CUDNN_ATTR_POINTWISE_AXIS = 9,
  CUDNN_ATTR_ENGINEHEUR_MODE = 200,
  CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH = 201,
  CUDNN_ATTR_ENGINEHEUR_RESULTS = 202,
  CUDNN_ATTR_ENGINEHEUR_DEVICEPROP = 204,
  CUDNN_ATTR_ENGINECFG_ENGINE = 300,
  CUDNN_ATTR_EXECUTION_PLAN_HANDLE = 400,
  CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG = 401,
  CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE = 402,
  CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION = 405,
  CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP = 407,
  CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR = 750,
  CUDNN_ATTR_OPERATION_POINTWISE_XDESC = 751,
  CUDNN_ATTR_OPERATION_POINTWISE_BDESC = 752,
  CUDNN_ATTR_OPERATION_POINTWISE_YDESC = 753,
  CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1 = 754,
  CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2 = 755,
  CUDNN_ATTR_OPERATION_POINTWISE_TDESC = 758,
  CUDNN_ATTR_OPERATIONGRAPH_HANDLE = 800,
  CUDNN_ATTR_OPERATIONGRAPH_OPS = 801,
  CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT = 900,
  CUDNN_ATTR_TENSOR_DATA_TYPE = 901,
  CUDNN_ATTR_TENSOR_DIMENSIONS = 902,
  CUDNN_ATTR_TENSOR_STRIDES = 903,
  CUDNN_ATTR_TENSOR_UNIQUE_ID = 906,
  CUDNN_ATTR_TENSOR_IS_VIRTUAL = 907,
  CUDNN_ATTR_TENSOR_IS_BY_VALUE = 908,
  CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS = 1000,
  CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS = 1001,
  CUDNN_ATTR_VARIANT_PACK_WORKSPACE = 1003,
  CUDNN_ATTR_ENGINE_GLOBAL_INDEX = 1301,
  CUDNN_ATTR_ENGINE_NUMERICAL_NOTE = 1303,
  CUDNN_ATTR_MATMUL_COMP_TYPE = 1500,
  CUDNN_ATTR_OPERATION_MATMUL_ADESC = 1520,
  CUDNN_ATTR_OPERATION_MATMUL_BDESC = 1521,
  CUDNN_ATTR_OPERATION_MATMUL_CDESC = 1522,
  CUDNN_ATTR_OPERATION_MATMUL_DESC = 1523,
  CUDNN_ATTR_REDUCTION_OPERATOR = 1600,
  CUDNN_ATTR_REDUCTION_COMP_TYPE = 1601,
  CUDNN_ATTR_OPERATION_REDUCTION_XDESC = 1610,
  CUDNN_ATTR_OPERATION_REDUCTION_YDESC = 1611,
  CUDNN_ATTR_OPERATION_REDUCTION_DESC = 1612,
  CUDNN_ATTR_OPERATION_RESHAPE_XDESC = 2200,
  CUDNN_ATTR_OPERATION_RESHAPE_YDESC = 2201,
  CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION = 2702,
  // cudnnDataType_t
  CUDNN_DATA_FLOAT = 0,
  CUDNN_DATA_INT32 = 4,
  CUDNN_DATA_BFLOAT16 = 9,
  CUDNN_DATA_BOOLEAN = 11,
  // cudnnPointwiseMode_t
  CUDNN_POINTWISE_ADD = 0,
  CUDNN_POINTWISE_MUL = 1,
  CUDNN_POINTWISE_DIV = 6,
  CUDNN_POINTWISE_SUB = 9,
  CUDNN_POINTWISE_EXP = 13,
  CUDNN_POINTWISE_LOG = 15,
  CUDNN_POINTWISE_IDENTITY = 21,
  CUDNN_POINTWISE_CMP_GE = 303,
  CUDNN_POINTWISE_GEN_INDEX = 501,
  CUDNN_POINTWISE_BINARY_SELECT = 601,
  // cudnnReduceTensorOp_t, cudnnBackendHeurMode_t, cudnnBackendNumericalNote_t
  CUDNN_REDUCE_TENSOR_ADD = 0,
  CUDNN_REDUCE_TENSOR_MAX = 3,
  CUDNN_HEUR_MODE_FALLBACK = 2,
  CUDNN_HEUR_MODE_A = 3,
  CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC = 4,
};

// What is called of the library. Descriptors and handles are pointers, enumerations ints.
#define MBK_CUDNN_FUNCTIONS(F)                                                                              \
  F(size_t, cudnnGetVersion, (void))                                                                        \
  F(const char *, cudnnGetErrorString, (int status))                                                        \
  F(void, cudnnGetLastErrorString, (char *message, size_t room))                                            \
  F(int, cudnnCreate, (void **handle))                                                                      \
  F(int, cudnnDestroy, (void *handle))                                                                      \
  F(int, cudnnSetStream, (void *handle, void *stream))                                                      \
  F(int, cudnnBackendCreateDescriptor, (int kind, void **descriptor))                                       \
  F(int, cudnnBackendDestroyDescriptor, (void *descriptor))                                                 \
  F(int, cudnnBackendSetAttribute, (void *descriptor, int name, int type, int64_t count, const void *values)) \
  F(int, cudnnBackendGetAttribute, (void *descriptor, int name, int type, int64_t room, int64_t *count, void *values)) \
  F(int, cudnnBackendFinalize, (void *descriptor))                                                          \
  F(int, cudnnBackendExecute, (void *handle, void *plan, void *pack))

struct Library {
#define MBK_CUDNN_FUNCTION(result, name, parameters) result(*name) parameters = nullptr;
  MBK_CUDNN_FUNCTIONS(MBK_CUDNN_FUNCTION)
#undef MBK_CUDNN_FUNCTION
  size_t version = 0;  // 91900
  void *opened = nullptr; // of dlopen
  std::string name() const; // "cuDNN 9.19.0"
};

// Opens the library at a path, or by name where the loader looks. False with the reason.
bool open_library(Library *out, std::string *why, const char *path);

// What a chain of calls has come to: after the first failure the others are not made. A failure's text has the call, the
// status and what the library says of it.
class Calls {
 public:
  explicit Calls(const Library *of) : library(of) {}
  bool good() const { return problem.empty(); }
  void fail(const std::string &why) {
    if (good()) problem = why;
  }
  // Takes a status; `what` names the call and its object.
  void check(int status, const char *what);
  const Library *const library;
  std::string problem;
};

// One descriptor, destroyed with its owner.
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(Calls *calls, int kind, const char *what);
  Descriptor(Descriptor &&other) noexcept { *this = static_cast<Descriptor &&>(other); }
  Descriptor &operator=(Descriptor &&other) noexcept;
  ~Descriptor();
  Descriptor &set(Calls *calls, int name, int type, int64_t count, const void *values);
  Descriptor &set_int64(Calls *calls, int name, std::initializer_list<int64_t> values) {
    return set(calls, name, CUDNN_TYPE_INT64, (int64_t)values.size(), values.begin());
  }
  Descriptor &set_number(Calls *calls, int name, int type, int number) { return set(calls, name, type, 1, &number); }
  Descriptor &set_flag(Calls *calls, int name, bool flag) { return set(calls, name, CUDNN_TYPE_BOOLEAN, 1, &flag); }
  Descriptor &set_float(Calls *calls, int name, float value) { return set(calls, name, CUDNN_TYPE_FLOAT, 1, &value); }
  Descriptor &set_descriptor(Calls *calls, int name, const Descriptor &other) {
    return set(calls, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &other.raw);
  }
  void finalize(Calls *calls);
  // How many values an attribute has, of which up to `room` go to `values`.
  int64_t get(Calls *calls, int name, int type, int64_t room, void *values) const;
  void *raw = nullptr;

 private:
  const Library *library = nullptr;
  const char *what = "";
};

} // namespace cudnn
} // namespace mbk
#endif

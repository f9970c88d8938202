// SPDX-License-Identifier: MIT
//
// moonbow.h: the whole public C API of the Moonbow engine, and the cdef of its Lua bindings.
//
// Ownership, in three sentences. A handle written through `out` carries one reference, to be given
// back with the type's release function. Every other argument is borrowed for the call. Nothing here
// is thread-safe: one thread drives the engine, which runs its own threads inside a call.
//
// Errors. A function that can fail returns mb_status and writes its result through its first
// argument, which is NULL (or untouched, for numbers) on failure; mb_last_error() then holds one line
// that names the function, the argument and the values found. The engine never exits, prints or
// longjmps, and calls nothing back.
//
// Conventions. Shapes are row-major and written (B, T, C); dimensions and indices count from 0;
// negative dimensions count from the end. Tensors of size zero are refused. Gradients add up.
//
// The bindings read this file itself: they drop lines that begin with '#', the words MB_API and
// MB_CALL, and hand the rest to the FFI. So no declaration may depend on a macro.
#ifndef MOONBOW_H
#define MOONBOW_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define MB_API __attribute__((visibility("default")))
#define MB_CALL __attribute__((visibility("default"), warn_unused_result))

enum { MB_ABI_VERSION = 1, MB_MAX_DIMS = 6 };

// ----- status -------------------------------------------------------------------------------------

typedef enum mb_status { /* ORDER STATUS: core/status.c holds the names */
  MB_OK = 0,
  MB_ERR_ARG,         // an argument has a value that makes no sense
  MB_ERR_SHAPE,       // shapes do not fit each other
  MB_ERR_DTYPE,       // an element type is not supported here, or two differ
  MB_ERR_DEVICE,      // no such device, or tensors on different devices
  MB_ERR_NOMEM,       // out of memory, or over the budget
  MB_ERR_IO,          // the operating system refused a file operation
  MB_ERR_STATE,       // right call, wrong moment: released tensor, second backward, ...
  MB_ERR_NONFINITE,   // NaN or Inf where numbers are needed
  MB_ERR_NUMERIC,     // a factorisation did not converge
  MB_ERR_INTERNAL     // a bug in the engine
} mb_status;

MB_API const char *mb_last_error(void);              // text of the last failure of this thread, "" if none
MB_API const char *mb_status_name(mb_status status); // "MB_ERR_SHAPE"
// For models and other code on top of this header: writes the text as printf does and returns `status`.
MB_API mb_status mb_fail(mb_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
MB_API int mb_abi_version(void);                     // MB_ABI_VERSION the library was built with
MB_API const char *mb_version(void);                 // "0.1.0"
MB_API const char *mb_build_info(void);              // one line: compiler, BLAS, SIMD level, threads

// ----- types --------------------------------------------------------------------------------------

// bf16 (the upper half of a float32) is computed with on cuda; the CPU keeps and converts it.
typedef enum mb_dtype { MB_F32 = 0, MB_F64, MB_I32, MB_U16, MB_U8, MB_BF16, MB_DTYPE_COUNT } mb_dtype; /* ORDER DTYPE */
typedef enum mb_device { MB_CPU = 0, MB_CUDA } mb_device;

typedef struct mb_tensor mb_tensor;
typedef struct mb_model mb_model;
typedef struct mb_spectral mb_spectral;
typedef struct mb_program mb_program;
typedef struct mb_bpe mb_bpe;
typedef struct mb_tokens mb_tokens;

// ----- devices and threads --------------------------------------------------------------------------

MB_CALL mb_status mb_device_check(mb_device device);  // MB_ERR_DEVICE, and why, if it cannot be used
// Waits until the device has done what it was given: calls return before that on cuda. For timing.
MB_CALL mb_status mb_device_synchronize(mb_device device);
// How many times the host has waited for the device so far, for results or to the end; -1 without such a device. Calls that are said
// to wait for nothing leave it as it is.
MB_API int64_t mb_device_waits(mb_device device);
// What a device is: sizes that the best possible rates follow from. Numbers that are not known are 0, as all are of the CPU.
typedef struct mb_device_facts {
  char name[96];
  int32_t capability;       // 10 times the compute capability: 90
  int32_t multiprocessors;
  double clock;             // Hz, the highest that the cores may run at
  double memory_clock;      // Hz
  int64_t memory_bus;       // bits
  int64_t bytes, cache;     // of memory, of the level-2 cache
} mb_device_facts;
MB_CALL mb_status mb_device_info(mb_device_facts *out, mb_device device);
MB_CALL mb_status mb_threads_set(int threads);        // threads of the CPU backend, >= 1
MB_API int mb_threads(void);
// Whether products of float32 matrices on CUDA may round their factors to TF32 (10 bits of fraction) for speed. Off at first,
// unless MOONBOW_TF32 is 1. Attention, norms and all spectral work stay float32.
MB_API void mb_tf32_set(int allowed);
MB_API int mb_tf32(void);
// Whether the same build, seed, device and choices must give the same bits. On at first, unless MOONBOW_DETERMINISTIC is 0. Without,
// the gradient of attention on CUDA may be summed in no fixed order, which can be faster; nothing else changes.
MB_API void mb_deterministic_set(int wanted);
MB_API int mb_deterministic(void);
// Which of a library's algorithms the products and the attention of this process take. CUDA times those of large ones once and
// keeps the answer on disk for this machine; a run that is to go on with the same bits keeps this text too. "" where nothing was
// chosen. The text is valid until the next product. MB_ERR_STATE if the text is another machine's.
MB_CALL mb_status mb_choices(const char **out, mb_device device);
MB_CALL mb_status mb_choices_set(mb_device device, const char *text);
// For reports, a line each: on cuda which cuDNN there is, or why none is, then what computes the attention of each shape so far,
// and why. "" where there is nothing to say, as of a device that was not used. The text is valid until the next call.
MB_CALL mb_status mb_device_notes(const char **out, mb_device device);

// ----- profile ----------------------------------------------------------------------------------
// What the devices are asked to do between begin and end: each kernel, copy and fill, with its time there and what it costs at
// least. Nothing waits for the device until the end, or until 16384 calls have been noted. Calls that work is recorded by, for a
// later replay, have no time.

typedef struct mb_profile_row {
  const char *name, *shape; // of the kernel, of its sizes; valid until the next profile
  mb_device device;
  mb_dtype dtype;           // of the elements; u8 where bytes are moved
  int is_product;           // its operations are those of matrix products
  int64_t calls, launches;  // launches: kernels started in the device's queue, a library's product counting as one
  double seconds;
  double bytes, flops;      // least bytes moved in the device's memory, operations; of all calls
} mb_profile_row;
MB_CALL mb_status mb_profile_begin(void);        // MB_ERR_STATE if a profile is on
MB_CALL mb_status mb_profile_end(void);          // waits for the devices; rows are sorted, the slowest first
MB_API int64_t mb_profile_count(void);           // rows of the last profile; 0 while one is on
MB_CALL mb_status mb_profile_row_at(mb_profile_row *row, int64_t index);
// A moment in a device's queue, behind the work given so far; nothing waits for it. -1 while work is recorded. The seconds
// between two are known when the device has come so far, which asking for them waits for.
MB_CALL mb_status mb_stamp(int64_t *stamp, mb_device device);
MB_CALL mb_status mb_stamp_seconds(double *seconds, mb_device device, int64_t from, int64_t to);
MB_API void mb_stamp_release(mb_device device, int64_t stamp); // -1 is allowed

// ----- memory -----------------------------------------------------------------------------------

typedef struct mb_memory_stats {
  int64_t bytes_live;      // in tensors now
  int64_t bytes_peak;      // most ever in tensors at once
  int64_t bytes_cached;    // freed, kept for reuse
  int64_t bytes_budget;    // limit on bytes_live, 0 = none
  int64_t bytes_allocated; // sum of all requests since start: grows only
  int64_t live_tensors;    // tensor handles alive
  int64_t allocations;     // allocation requests since start, the counter of mb_debug_fail_allocation
} mb_memory_stats;

// Of one device. bytes_free is what it could still give to tensors: its free memory and what is cached, within the limit
// that the environment sets for every device with MOONBOW_MEMORY_LIMIT (a number of bytes, K, M or G after it).
typedef struct mb_device_memory {
  int64_t bytes_live;      // in tensors now
  int64_t bytes_cached;    // freed, kept for reuse
  int64_t bytes_scratch;   // work memory that operations keep from call to call
  int64_t bytes_peak;      // most of bytes_live + bytes_scratch + bytes_graphs at once
  int64_t bytes_free;
  int64_t bytes_total;     // what the device has
  int64_t bytes_limit;     // 0 = none
  int64_t requests;        // times the device itself was asked for memory: stands still when the cache serves all
  int64_t bytes_graphs;    // free, but kept for graphs, which write it at every launch
} mb_device_memory;

MB_API void mb_memory(mb_memory_stats *stats);
MB_CALL mb_status mb_memory_of(mb_device_memory *memory, mb_device device);
MB_API void mb_memory_reset_peak(void);
MB_API void mb_memory_set_budget(int64_t bytes);      // 0 = no limit; over it MB_ERR_NOMEM
MB_API void mb_memory_trim(void);                     // gives cached blocks back to the system
MB_API const char *mb_memory_report(void);            // the largest live storages, one a line
MB_API void mb_debug_fail_allocation(int64_t n);      // the n-th allocation from now fails (1 = next); 0 = off

// ----- tensors ----------------------------------------------------------------------------------

MB_CALL mb_status mb_empty(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device);
MB_CALL mb_status mb_full(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, double value);
// Copies numel elements of `dtype` from host memory.
MB_CALL mb_status mb_from_host(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, const void *data);
MB_CALL mb_status mb_arange(mb_tensor **out, mb_dtype dtype, mb_device device, double start, double step, int64_t count);
// Random fills take the generator's next stream (see "random numbers").
MB_CALL mb_status mb_randn(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device);
MB_CALL mb_status mb_uniform(mb_tensor **out, mb_dtype dtype, int ndim, const int64_t *shape, mb_device device, double low, double high);

MB_API void mb_tensor_retain(mb_tensor *t);
MB_API void mb_tensor_release(mb_tensor *t);          // NULL is allowed
// Gives the handle's memory back now, though handles remain: any later use is MB_ERR_STATE with `why`
// in its text (a string that outlives the handle). What the tape saved of it stays.
MB_API void mb_tensor_discard(mb_tensor *t, const char *why);
MB_API int mb_tensor_refs(const mb_tensor *t);               // references held, by whomever
MB_API int mb_tensor_ndim(const mb_tensor *t);
MB_API int64_t mb_tensor_numel(const mb_tensor *t);
MB_API const int64_t *mb_tensor_shape(const mb_tensor *t);   // ndim values, borrowed
MB_API const int64_t *mb_tensor_stride(const mb_tensor *t);  // in elements
MB_API mb_dtype mb_tensor_dtype(const mb_tensor *t);
MB_API mb_device mb_tensor_device(const mb_tensor *t);
MB_API int64_t mb_tensor_id(const mb_tensor *t);             // unique for the life of the process
MB_API int mb_tensor_is_contiguous(const mb_tensor *t);
MB_API int mb_tensor_is_live(const mb_tensor *t);            // 0 after mb_tensor_discard
MB_CALL mb_status mb_tensor_data(void **out, mb_tensor *t);  // CPU address of element 0, borrowed
MB_API uint64_t mb_tensor_address(const mb_tensor *t);       // of element 0 in its device's memory, to compare; 0 after a discard
MB_CALL mb_status mb_tensor_item(double *out, mb_tensor *t); // the value of a one-element tensor; any NaN as NAN
MB_CALL mb_status mb_tensor_to_host(void *dst, mb_tensor *t);         // numel elements, row-major
MB_CALL mb_status mb_tensor_from_host(mb_tensor *t, const void *src); // in place

// These two give `a` itself, with one more reference, when there is nothing to do. To an integer, numbers
// are cut towards zero and held within its range; NaN becomes 0.
MB_CALL mb_status mb_cast(mb_tensor **out, mb_tensor *a, mb_dtype dtype);     // differentiable between floats
// To bf16, each element to one of its two neighbours, at random, so that the mean is the element itself: what is exact stays. Takes
// one random stream; the gradient is that of mb_cast. A bf16 tensor comes back itself and takes none.
MB_CALL mb_status mb_round_stochastic(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_to_device(mb_tensor **out, mb_tensor *a, mb_device device);
MB_CALL mb_status mb_clone(mb_tensor **out, mb_tensor *a);                    // contiguous copy, differentiable
MB_CALL mb_status mb_contiguous(mb_tensor **out, mb_tensor *a);               // `a` itself if it is so already
MB_CALL mb_status mb_detach(mb_tensor **out, mb_tensor *a);                   // same memory, no history

// Views share memory and are differentiable.
MB_CALL mb_status mb_reshape(mb_tensor **out, mb_tensor *a, int ndim, const int64_t *shape); // one size may be -1; copies if it must
MB_CALL mb_status mb_transpose(mb_tensor **out, mb_tensor *a, int dim0, int dim1);
MB_CALL mb_status mb_permute(mb_tensor **out, mb_tensor *a, int ndim, const int *dims);
MB_CALL mb_status mb_slice(mb_tensor **out, mb_tensor *a, int dim, int64_t start, int64_t stop, int64_t step); // [start, stop), step >= 1
MB_CALL mb_status mb_expand(mb_tensor **out, mb_tensor *a, int ndim, const int64_t *shape);  // broadcast to shape
MB_CALL mb_status mb_concat(mb_tensor **out, mb_tensor *const *tensors, int64_t count, int dim);
// out[i][j] = a[index[i][j]][j] for dim 0, and so on; index is MB_I32 of a's rank, and in the other dimensions
// at most a's sizes. An index outside a is MB_ERR_ARG.
MB_CALL mb_status mb_gather(mb_tensor **out, mb_tensor *a, int dim, mb_tensor *index);

// In place, not recorded. An error if the tape still needs the old values of `t`, or if `t` has history or
// is an expanded view. `a` broadcasts to `t`; where it overlaps `t`, its values before the call count.
MB_CALL mb_status mb_fill_(mb_tensor *t, double value);
MB_CALL mb_status mb_copy_(mb_tensor *t, mb_tensor *source);                  // broadcasts, converts dtype and device
MB_CALL mb_status mb_add_(mb_tensor *t, mb_tensor *a, double alpha);          // t += alpha * a
MB_CALL mb_status mb_mul_(mb_tensor *t, mb_tensor *a);                        // t *= a, a broadcasts
MB_CALL mb_status mb_affine_(mb_tensor *t, double scale, double shift);       // t = scale * t + shift
MB_CALL mb_status mb_lerp_(mb_tensor *t, mb_tensor *a, double weight);        // t += weight * (a - t)
MB_CALL mb_status mb_randn_(mb_tensor *t, double mean, double std);
MB_CALL mb_status mb_uniform_(mb_tensor *t, double low, double high);

// ----- random numbers ---------------------------------------------------------------------------
// Philox4x32-10 (Salmon et al. 2011), keyed by (seed, step, stream); each random call takes the next
// stream, and setting the step starts again at stream 0. (seed, step, stream) is the whole state.

MB_API void mb_rng_seed(uint64_t seed);                          // step = 0, stream = 0
MB_API void mb_rng_set_step(uint64_t step);                      // stream = 0
MB_API void mb_rng_get(uint64_t *seed, uint64_t *step, uint64_t *stream);
MB_API void mb_rng_set(uint64_t seed, uint64_t step, uint64_t stream);
// out[i] = word i of the stream, a pure function of its arguments.
MB_API void mb_rng_words(uint32_t *out, int64_t count, uint64_t seed, uint64_t step, uint64_t stream);

// ----- operations -------------------------------------------------------------------------------
// Element-wise operations broadcast as NumPy does and keep the dtype, which must be the same for all
// floating arguments. All are differentiable but comparisons, sign and argmax (gradient zero or none).

MB_CALL mb_status mb_add(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_sub(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_mul(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_div(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_pow(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_minimum(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_maximum(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_less(mb_tensor **out, mb_tensor *a, mb_tensor *b);       // 1 or 0, in a's dtype
MB_CALL mb_status mb_less_equal(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_equal(mb_tensor **out, mb_tensor *a, mb_tensor *b);
MB_CALL mb_status mb_where(mb_tensor **out, mb_tensor *condition, mb_tensor *a, mb_tensor *b); // condition (any dtype) != 0 ? a : b
MB_CALL mb_status mb_affine(mb_tensor **out, mb_tensor *a, double scale, double shift);       // scale * a + shift
MB_CALL mb_status mb_pow_scalar(mb_tensor **out, mb_tensor *a, double exponent);

MB_CALL mb_status mb_neg(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_abs(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_sign(mb_tensor **out, mb_tensor *a);                     // -1, 0, 1
MB_CALL mb_status mb_exp(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_log(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_sqrt(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_square(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_reciprocal(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_tanh(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_sigmoid(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_silu(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_relu(mb_tensor **out, mb_tensor *a);
MB_CALL mb_status mb_gelu_tanh(mb_tensor **out, mb_tensor *a); // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
MB_CALL mb_status mb_gelu_erf(mb_tensor **out, mb_tensor *a);  // x/2 (1 + erf(x / sqrt 2))

// Reductions over `n_dims` dimensions (all of them when n_dims is 0); keep_dims leaves size 1 behind.
// max and min send the gradient to the first extreme element.
MB_CALL mb_status mb_sum(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims);
MB_CALL mb_status mb_mean(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims);
MB_CALL mb_status mb_max(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims);
MB_CALL mb_status mb_min(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims);
MB_CALL mb_status mb_argmax(mb_tensor **out, mb_tensor *a, int dim, int keep_dims); // MB_I32, counts from 0

// op(A) op(B) over the last two dimensions; leading dimensions broadcast. (..., m, k) (..., k, n) -> (..., m, n)
MB_CALL mb_status mb_matmul(mb_tensor **out, mb_tensor *a, mb_tensor *b, int transpose_a, int transpose_b);
// x (..., in), weight (out, in), bias (out) or NULL -> (..., out)
MB_CALL mb_status mb_linear(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias);
// The same, where rows of the result begin at multiples of 128 bytes (16 if they are short): a view, unless they do anyway. For what
// products read and write, whose rows would begin anywhere: logits of 50257.
MB_CALL mb_status mb_linear_aligned(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias);
// The same of gelu(x), its tanh form. Keeps x alone for the backward, which computes gelu(x) again.
MB_CALL mb_status mb_gelu_linear(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias);
// mb_linear and mb_gelu_linear, x (..., in), weight (hidden, in), weight_out (out, hidden) -> (..., out); biases or NULL. gelu is made
// where the first product is; `keep` not 0: and kept for the backward, which makes it again otherwise.
MB_CALL mb_status mb_gelu_mlp(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, mb_tensor *weight_out, mb_tensor *bias_out,
                              int keep);
// table (V, C), ids any shape, MB_I32 | MB_U16 | MB_U8 -> ids' shape x (C). An id outside 0..V-1 is MB_ERR_ARG.
MB_CALL mb_status mb_embedding(mb_tensor **out, mb_tensor *table, mb_tensor *ids);
// Over the last dimension C; weight (C), bias (C) or NULL. epsilon is added to the variance.
MB_CALL mb_status mb_layernorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, double epsilon);
MB_CALL mb_status mb_rmsnorm(mb_tensor **out, mb_tensor *x, mb_tensor *weight, double epsilon);   // weight or NULL
// The same of sum = x + added, two tensors of one shape, in one pass over memory: out is the norm, and sum is handed out too.
MB_CALL mb_status mb_add_layernorm(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, mb_tensor *bias,
                                   double epsilon);
MB_CALL mb_status mb_add_rmsnorm(mb_tensor **out, mb_tensor **sum, mb_tensor *x, mb_tensor *added, mb_tensor *weight, double epsilon);
// x (B, T, H, D), D even: rotates pairs (x[i], x[i + D/2]) by position * base^(-2i/D); positions first_position + t.
MB_CALL mb_status mb_rotary(mb_tensor **out, mb_tensor *x, double base, int64_t first_position);
MB_CALL mb_status mb_softmax(mb_tensor **out, mb_tensor *a, int dim);
MB_CALL mb_status mb_log_softmax(mb_tensor **out, mb_tensor *a, int dim);
// Causal attention, softmax(scale q k^T) v with keys up to the query's own position; q, k, v (B, T, H, D)
// -> (B, T, H, D). scale 0 means 1/sqrt(D). Memory: O(B H T), never a (T, T) matrix.
MB_CALL mb_status mb_attention(mb_tensor **out, mb_tensor *q, mb_tensor *k, mb_tensor *v, double scale);
// The same over q, k, v side by side: qkv (B, T, 3 C), C = n_head D -> (B, T, C).
MB_CALL mb_status mb_attention_packed(mb_tensor **out, mb_tensor *qkv, int64_t n_head, double scale);
// The same for T new positions first .. first + T - 1 whose past is in a cache (2, B, H, N, D), contiguous: keys, then values,
// of up to N positions. Writes the new ones into it. qkv (B, T, 3 H D) -> (B, T, H D). Not recorded: MB_ERR_STATE where the
// tape would.
MB_CALL mb_status mb_attention_cached(mb_tensor **out, mb_tensor *qkv, mb_tensor *cache, int64_t first, double scale);
// Zeroes with probability p and scales the rest by 1/(1-p). Takes one random stream. p = 0 returns a itself.
MB_CALL mb_status mb_dropout(mb_tensor **out, mb_tensor *a, double p);

typedef enum mb_reduction { MB_MEAN = 0, MB_SUM } mb_reduction;
typedef struct mb_cross_entropy_options {
  double label_smoothing;   // in [0, 1): target (1 - s) one-hot + s / V, as PyTorch
  int64_t ignore_index;     // targets with this id count for nothing; -1 = none is ignored
  mb_reduction reduction;   // MB_MEAN divides by the number of targets not ignored
  double scale;             // the loss is multiplied by it; 0 = 1
  int overwrites;           // not 0: the caller will not read the logits again, see below
} mb_cross_entropy_options;
// logits (..., V), targets (...) of integers -> scalar. options NULL = no smoothing, none ignored, mean.
// The mean over no target at all is NaN, as in PyTorch. Backward writes over the logits when nobody else holds them. With `overwrites`
// the loss itself does, if it is recorded, and the caller alone holds them: they become d loss / d logits while they are read. Backward
// then passes over them only to multiply by a dL/d loss that is not 1: what is known beforehand goes into `scale`.
MB_CALL mb_status mb_cross_entropy(mb_tensor **out, mb_tensor *logits, mb_tensor *targets, const mb_cross_entropy_options *options);
// The same of the logits x W^T, x (..., C), weight (V, C), which go through in `chunks` of rows, one after another in one buffer: at most
// as many as there are rows. While recording, a chunk's share of the gradients is found at once, and waits for the backward: of x's
// size, and of the weight's (float32 where it is bf16). `overwrites` says nothing here. The loss' bits depend on the chunks only by what
// a product's do on the number of its rows.
MB_CALL mb_status mb_linear_cross_entropy(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *targets, int64_t chunks,
                                          const mb_cross_entropy_options *options);

// ----- autograd ---------------------------------------------------------------------------------

MB_CALL mb_status mb_set_requires_grad(mb_tensor *t, int on);  // leaves only
MB_API int mb_requires_grad(const mb_tensor *t);
MB_API int mb_grad_mode(int enabled);                          // 0 records nothing; returns the mode before
// Adds dL/dx into the grad of every leaf x that `loss` was made from, and frees the graph as it goes.
// `seed` is dL/dloss, of loss's shape, or NULL for 1 (loss must then have one element). When it fails on the
// way the graph is gone and gradients are incomplete: zero them, and compute the loss again.
MB_CALL mb_status mb_backward(mb_tensor *loss, mb_tensor *seed);
MB_CALL mb_status mb_grad(mb_tensor **out, mb_tensor *t);      // the gradient of a leaf; *out = NULL if it has none
MB_CALL mb_status mb_zero_grad(mb_tensor *t);

// ----- models -----------------------------------------------------------------------------------
// A model is a list of named parameters in one flat buffer, the arena; gradients, and every state an
// optimizer asks for, lie in flat buffers of the same layout. Equal-shaped matrices of one role are
// neighbours, so that a group of L of them is one (L, out, in) view.

typedef enum mb_role { MB_ROLE_MATRIX = 0, MB_ROLE_EMBEDDING, MB_ROLE_HEAD, MB_ROLE_VECTOR, MB_ROLE_CONV } mb_role; /* ORDER ROLE */
typedef enum mb_init { MB_INIT_ZEROS = 0, MB_INIT_ONES, MB_INIT_NORMAL, MB_INIT_UNIFORM } mb_init;

MB_CALL mb_status mb_model_new(mb_model **out, const char *name);
// scale: standard deviation of NORMAL, half width of UNIFORM. Names are unique, at most 127 bytes.
MB_CALL mb_status mb_model_add(mb_model *model, const char *name, int ndim, const int64_t *shape, mb_role role, mb_init init, double scale);
// Lays out the arena and initialises it from `seed` (parameter i takes stream i). No parameter can be added after.
// dtype is what the network computes with. With bf16 the parameters and their gradients are float32, and the network
// casts each weight when it uses it.
MB_CALL mb_status mb_model_build(mb_model *model, mb_dtype dtype, mb_device device, uint64_t seed);
MB_API void mb_model_retain(mb_model *model);
MB_API void mb_model_release(mb_model *model);
MB_API int64_t mb_model_count(const mb_model *model);              // parameters, in the order they were added
MB_API int64_t mb_model_find(const mb_model *model, const char *name); // index, or -1
MB_API const char *mb_model_name(const mb_model *model, int64_t index);
MB_API mb_role mb_model_role(const mb_model *model, int64_t index);
MB_API mb_tensor *mb_model_weight(const mb_model *model, int64_t index); // borrowed; NULL before build
MB_CALL mb_status mb_model_parameter(mb_tensor **out, mb_model *model, int64_t index);
MB_CALL mb_status mb_model_gradient(mb_tensor **out, mb_model *model, int64_t index);
MB_CALL mb_status mb_model_values(mb_tensor **out, mb_model *model);     // the arena, (N)
// Its gradients, (N). Clears what zero_grad only marked: ask once a step, after backward, rather than keep a handle.
MB_CALL mb_status mb_model_gradients(mb_tensor **out, mb_model *model);
MB_CALL mb_status mb_model_range(int64_t *begin, int64_t *end, const mb_model *model, int64_t index); // of the arena, in elements
MB_CALL mb_status mb_model_state(mb_tensor **out, mb_model *model);      // a new flat buffer (N) of zeros
MB_CALL mb_status mb_model_view(mb_tensor **out, mb_model *model, mb_tensor *flat, int64_t index); // parameter index of a flat buffer
MB_API int64_t mb_model_group_count(const mb_model *model);        // groups of equal-shaped parameters of one role
MB_API int64_t mb_model_group_of(const mb_model *model, int64_t index);
MB_CALL mb_status mb_model_group_view(mb_tensor **out, mb_model *model, mb_tensor *flat, int64_t group); // (L, shape...)
MB_CALL mb_status mb_model_zero_grad(mb_model *model);
// For who zeroes gradients one by one with mb_zero_grad, and keeps others: what mb_spectral_policy_guard stops, it stops no more.
MB_CALL mb_status mb_model_forgive(mb_model *model);
// Writes the zeros that mb_model_zero_grad only noted, for who holds a buffer of mb_model_gradients.
MB_CALL mb_status mb_model_settle_gradients(mb_model *model);
MB_API void mb_model_set_training(mb_model *model, int training);  // dropout acts only in training; on at first
MB_API int mb_model_training(const mb_model *model);
MB_API mb_dtype mb_model_compute(const mb_model *model);
// How a model that computes with bf16 rounds its weights, once a forward: to nearest (at first), or in training by
// mb_round_stochastic over the arena. MB_ERR_ARG where there is nothing to round.
typedef enum mb_rounding { MB_ROUND_NEAREST = 0, MB_ROUND_STOCHASTIC } mb_rounding;
MB_CALL mb_status mb_model_set_rounding(mb_model *model, mb_rounding rounding);
MB_API mb_rounding mb_model_rounding(const mb_model *model);
// The arena as the network computes with it, by mb_model_rounding: a new flat buffer, (N), made in one pass. A forward begins with it,
// so that what its backward reads stays what the weights were. NULL where the parameters are of that dtype themselves.
MB_CALL mb_status mb_model_cast(mb_tensor **out, mb_model *model);
// Parameter index of such a buffer, whose gradient is the parameter's; the parameter itself where `cast` is NULL.
MB_CALL mb_status mb_model_computed(mb_tensor **out, mb_model *model, mb_tensor *cast, int64_t index);
// Index of the first parameter, in order, whose flat[range] holds NaN or Inf; -1 if all are finite.
MB_CALL mb_status mb_model_find_nonfinite(int64_t *index, mb_model *model, mb_tensor *flat);
// A model's own constants (a plain struct), copied in once and read by its forward functions.
MB_CALL mb_status mb_model_set_config(mb_model *model, const void *config, size_t bytes);
MB_CALL mb_status mb_model_config(const void **out, const mb_model *model, const char *name); // error if the model's name differs

typedef struct mb_gpt2_config {
  int64_t vocab_size, block_size, n_layer, n_head, n_embd;
  double dropout;  // after the embedding and on what each half block adds; attention probabilities have none
  int untied_head; // 0: the head is the token embedding; else a matrix of its own, lm_head.weight, the last parameter
  int recompute;   // not 0: the backward computes each GELU again, which keeps 12 instead of 16 B T C numbers a block
  int head_chunks; // above 1: the loss is mb_linear_cross_entropy's in so many chunks, so that its logits never exist as a whole
} mb_gpt2_config;
// GPT-2 (Radford et al. 2019) as in Hugging Face's GPT2LMHeadModel: tanh GELU, layernorm eps 1e-5.
MB_CALL mb_status mb_gpt2_new(mb_model **out, const mb_gpt2_config *config, mb_dtype dtype, mb_device device, uint64_t seed);
MB_CALL mb_status mb_gpt2_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs);  // (B, T) ids -> (B, T, V)
MB_CALL mb_status mb_gpt2_loss(mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets, const mb_cross_entropy_options *options);
// Generation. A cache of keys and values for `batch` sequences, (n_layer, 2, batch, n_head, block_size, D), and what comes after
// T more tokens at positions first .. first + T - 1: inputs (B, T) -> logits of the token after the last, (B, V). Positions below
// `first` are read from the cache, the new ones are written into it. Without dropout, and not recorded.
MB_CALL mb_status mb_gpt2_cache(mb_tensor **out, mb_model *model, int64_t batch);
MB_CALL mb_status mb_gpt2_next(mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs);

typedef struct mb_gpt_modern_config {
  int64_t vocab_size, block_size, n_layer, n_head, n_embd; // n_embd / n_head is even
  double dropout;     // as in mb_gpt2_config
  double rotary_base; // 10000 in Su et al. 2021
  int untied_head;    // as in mb_gpt2_config
  int plain_qk;       // not 0: queries and keys are not normed
  int head_chunks;    // as in mb_gpt2_config
} mb_gpt_modern_config;
// A GPT with rotary positions, RMS norms without weights, squared ReLU and no biases (modded-nanogpt, 2024). Its functions
// are as GPT-2's.
MB_CALL mb_status mb_gpt_modern_new(mb_model **out, const mb_gpt_modern_config *config, mb_dtype dtype, mb_device device, uint64_t seed);
MB_CALL mb_status mb_gpt_modern_logits(mb_tensor **out, mb_model *model, mb_tensor *inputs);
MB_CALL mb_status mb_gpt_modern_loss(mb_tensor **out, mb_model *model, mb_tensor *inputs, mb_tensor *targets, const mb_cross_entropy_options *options);
MB_CALL mb_status mb_gpt_modern_cache(mb_tensor **out, mb_model *model, int64_t batch);
MB_CALL mb_status mb_gpt_modern_next(mb_tensor **out, mb_model *model, mb_tensor *cache, int64_t first, mb_tensor *inputs);

typedef enum mb_activation { MB_ACT_RELU = 0, MB_ACT_TANH, MB_ACT_GELU, MB_ACT_SILU } mb_activation; // gelu: its tanh form /* ORDER ACTIVATION */
typedef struct mb_mlp_config {
  int64_t n_input, n_hidden, n_layer, n_output; // n_layer hidden layers of n_hidden
  int bias;
  mb_activation activation;
} mb_mlp_config;
MB_CALL mb_status mb_mlp_new(mb_model **out, const mb_mlp_config *config, mb_dtype dtype, mb_device device, uint64_t seed);
MB_CALL mb_status mb_mlp_forward(mb_tensor **out, mb_model *model, mb_tensor *x);       // (B, n_input) -> (B, n_output)

// ----- spectra ----------------------------------------------------------------------------------
// Probe, policy, clamp: mb_spectral_probe computes the largest singular values of many matrices and keeps
// the factors; the caller decides; mb_spectral_clamp changes the matrices in place. A matrix is any
// contiguous floating tensor seen as (shape[0], rest); a vector is n x 1. Source: arXiv 2605.11838,
// Halko, Martinsson, Tropp 2011.

//   EXACT       all singular values, from the eigenvalues of the smaller Gram matrix
//   RANDOMIZED  the `rank` largest, from a sketch
//   POLAR       no decomposition: the probe finds sigma_1 alone (width 1), the clamp lowers all values above tau through
//               polar factors: matrix products only. In float32 the result is good to 1e-5 sigma_1
//   SOFT        the same probe; sigma -> sigma / sqrt(1 + sigma^2 / tau^2) for all values (SPECTRA, arXiv 2603.14315)
//   NORM        every matrix as one vector, whose length is its only value: clipping by norms, see mb_spectral_step
typedef enum mb_spectral_method {
  MB_SPECTRAL_EXACT = 0, MB_SPECTRAL_RANDOMIZED, MB_SPECTRAL_POLAR, MB_SPECTRAL_SOFT, MB_SPECTRAL_NORM
} mb_spectral_method;
typedef struct mb_spectral_options {
  mb_spectral_method method;
  int64_t rank;         // r: singular values computed by MB_SPECTRAL_RANDOMIZED
  int64_t oversample;   // p: sketch of r + p columns; where that is half of min(m, n) or more, the exact values are cheaper
  int64_t power_iters;  // rounds of subspace iteration
  int warm_start;       // RANDOMIZED: a sketch starts from the directions that the last one found; see mb_spectral_basis
  int compute_f64;      // float32 matrices are computed on in float64, as copies that a probe makes and the change gives back
} mb_spectral_options;
// A plan over `count` matrices (handles are retained); equal shapes are computed together.
MB_CALL mb_status mb_spectral_new(mb_spectral **out, mb_tensor *const *matrices, int64_t count, const mb_spectral_options *options);
MB_API void mb_spectral_release(mb_spectral *plan);
MB_API int64_t mb_spectral_width(const mb_spectral *plan);   // singular values kept a matrix: the most any matrix has
// sigma (count, width), descending, NaN where a matrix has fewer. Takes one random stream when randomized.
// A non-finite matrix is MB_ERR_NONFINITE and names its index; nothing is computed then.
MB_CALL mb_status mb_spectral_probe(mb_spectral *plan, double *sigma);
MB_API int64_t mb_spectral_nonfinite(const mb_spectral *plan); // index of the matrix that the last probe refused, or -1
// Hard clip to tau[i] (NaN = leave alone): sigma -> min(sigma, tau), or SOFT's. clipped[i] = number of computed values lowered;
// saturated[i] = 1 if the smallest value computed still exceeds tau and more may lie behind it. A change uses
// up the probe: matrices must not change between the two, and the next change needs a new probe. Where the result has numbers
// beyond the matrix's dtype, as only one with singular values beyond it can have, MB_ERR_NUMERIC and no matrix is changed.
MB_CALL mb_status mb_spectral_clamp(mb_spectral *plan, const double *tau, int32_t *clipped, unsigned char *saturated);
// Replaces the computed singular values by target (count, width), as probed; NaN = keep. A value that is 0, or
// rounding noise beside the largest, has no direction and is not raised. A target that raises a value beyond the matrix's dtype is
// MB_ERR_NUMERIC, and no matrix is changed. Not for POLAR and SOFT, which see sigma_1 alone.
MB_CALL mb_status mb_spectral_apply(mb_spectral *plan, const double *target);
// after (count): the largest singular value of every matrix that the last change altered, measured on what it has become
// (see mb_sigma_max), NaN for the others.
MB_CALL mb_status mb_spectral_verify(mb_spectral *plan, double *after);
// What warm_start remembers of a matrix: (r, n) of the dtype computed in, a copy; *out = NULL if there is nothing yet, or never will
// be because the matrix needs no sketch. Waits for the device where it alone knows, after mb_spectral_step. A new plan that is given the bases of an old one goes on as that would.
MB_CALL mb_status mb_spectral_basis(mb_tensor **out, mb_spectral *plan, int64_t matrix);
// A basis on another device is copied; one of another shape or dtype, or with NaN or Inf, is refused.
MB_CALL mb_status mb_spectral_basis_set(mb_spectral *plan, int64_t matrix, mb_tensor *basis);
// Probe, policy and clamp in one call that waits for nothing: the device asks a built-in policy itself. The policies are those of
// mb.threshold, with their state in float64 on the device.
typedef enum mb_policy_kind {
  MB_POLICY_CONST = 0, MB_POLICY_EMA, MB_POLICY_QUANTILE, MB_POLICY_ZSCORE,
  MB_POLICY_MAX_NORM // of NORM alone: tau is what PyTorch's clip_grad_norm_ has for max_norm
} mb_policy_kind;
typedef enum mb_zscore_to { MB_ZSCORE_RECIPROCAL = 0, MB_ZSCORE_BOUND, MB_ZSCORE_MEAN } mb_zscore_to;
typedef struct mb_policy_options {
  mb_policy_kind kind;
  double tau;                // CONST, MAX_NORM (which may be infinite: it only measures)
  double beta;               // EMA
  double q;                  // QUANTILE, of the last `window`
  int64_t window;
  double z, alpha, epsilon;  // ZSCORE
  int64_t warmup;
  mb_zscore_to to;
} mb_policy_options;
// Gives a plan of EXACT, RANDOMIZED or NORM a policy with an empty state. threshold (count): matrices of one number, 0 to
// thresholds - 1, share a tau, asked with the largest of their values.
MB_CALL mb_status mb_spectral_policy(mb_spectral *plan, const mb_policy_options *policy, const int64_t *threshold, int64_t thresholds);
MB_API int64_t mb_spectral_policy_width(const mb_spectral *plan); // numbers of a threshold's state; 0 without a policy
// state (thresholds, width): CONST nothing; EMA m, k; ZSCORE n, mean, variance; QUANTILE n and the last n values, oldest first. calls, or
// NULL: those that were not refused since the policy was given or its state set. Waits for the device.
MB_CALL mb_status mb_spectral_policy_state(mb_spectral *plan, double *state, int64_t *calls);
MB_CALL mb_status mb_spectral_policy_state_set(mb_spectral *plan, const double *state);
// The gradients of this model are what the plan changes: where a step is refused, what is run with the model as its guard
// (mb_program_run_sets) stores nothing, until the gradients are zeroed or clipped anew. To be called again after another policy.
MB_CALL mb_status mb_spectral_policy_guard(mb_spectral *plan, mb_model *model);
// Another tau of CONST or MAX_NORM, from the next step on; of a step in a graph see mb_graph_set_tau.
MB_CALL mb_status mb_spectral_policy_tau_set(mb_spectral *plan, double tau);
// One call, numbered from 0. Takes one random stream when randomized. A matrix with NaN or Inf, or, where it is no vector, with singular
// values above 2^100 (float64: 2^900), is refused: then no matrix changes and nothing is learned, nor remembered by warm_start, and the
// caller hears of it from mb_spectral_outcome, or from the next mb_spectral_step, which fails once for it, before it does anything.
// With NORM, of the length |G|, found in float64: G *= tau / (|G| + 1e-6) where |G| > tau, of MAX_NORM where that factor is below 1;
// a matrix whose squares float64 cannot hold is refused too.
MB_CALL mb_status mb_spectral_step(mb_spectral *plan, int64_t *call);
// In a graph (mb_graph_begin) a step has no number, call is -1, and its results stay on the device. Around each launch, the one behind
// the capture included: before it, `replaying` says of the calls but the last one whether they were refused; after it, `replayed`
// sends the results and numbers the call, as a step does.
MB_CALL mb_status mb_spectral_replaying(mb_spectral *plan);
MB_CALL mb_status mb_spectral_replayed(mb_spectral *plan, int64_t *call);
// What came of one of the last 8 calls: (count) each or NULL; the largest singular value before, tau (NaN: left alone), and as from
// mb_spectral_clamp. Waits for that call alone. MB_ERR_NONFINITE or MB_ERR_NUMERIC if it was refused, MB_ERR_STATE if it is too old.
MB_CALL mb_status mb_spectral_outcome(mb_spectral *plan, int64_t call, double *sigma, double *tau, int32_t *clipped,
                                      unsigned char *saturated);
// Of such a call of a plan of NORM, the length of all its matrices as one vector.
MB_CALL mb_status mb_spectral_outcome_total(mb_spectral *plan, int64_t call, double *total);
// Squared Frobenius norms of `count` tensors, in float64: norms of gradients, one call for a whole model.
MB_CALL mb_status mb_sum_squares(double *out, mb_tensor *const *tensors, int64_t count);

// ----- factorisations ---------------------------------------------------------------------------
// Of one matrix (m, n) or of each of (L, m, n), any strides; k = min(m, n). Results have a's dtype and no
// history: these are not differentiable. NaN or Inf in `a` is MB_ERR_NONFINITE, before any work.

MB_CALL mb_status mb_svdvals(mb_tensor **out, mb_tensor *a);                           // (..., k), descending
MB_CALL mb_status mb_svd(mb_tensor **u, mb_tensor **s, mb_tensor **v, mb_tensor *a);   // a = U diag(s) V^T: u (..., m, k), v (..., n, k)
// The min(rank, k) largest of them, from a sketch of rank + oversample random directions and power_iters rounds
// of subspace iteration (Halko, Martinsson, Tropp 2011); where such a sketch would cost more than all values do, from
// those. Columns of u and v are orthonormal whatever the rank of `a`. Takes one random stream.
MB_CALL mb_status mb_svd_lowrank(mb_tensor **u, mb_tensor **s, mb_tensor **v, mb_tensor *a, int64_t rank, int64_t oversample,
                                 int64_t power_iters);
// a = Q R: q (..., m, k) with orthonormal columns, r (..., k, n) upper triangular with a diagonal >= 0, which makes
// both unique where a's first k columns are independent.
MB_CALL mb_status mb_qr(mb_tensor **q, mb_tensor **r, mb_tensor *a);
// a = V diag(values) V^T for symmetric `a`: values (..., n) ascending, vectors (..., n, n) in columns. Only the lower
// triangle is read, as in NumPy and PyTorch: the upper one counts as its mirror image.
MB_CALL mb_status mb_eigh(mb_tensor **values, mb_tensor **vectors, mb_tensor *a);
MB_CALL mb_status mb_eigvalsh(mb_tensor **values, mb_tensor *a);
// a = L L^T with a lower triangular L, for symmetric positive definite `a`, of which only the lower triangle is read.
// Otherwise MB_ERR_NUMERIC, which names the matrix and the leading minor that is not positive.
MB_CALL mb_status mb_cholesky(mb_tensor **l, mb_tensor *a);

typedef enum mb_msign_method { MB_MSIGN_NS5 = 0, MB_MSIGN_POLAR_EXPRESS, MB_MSIGN_EXACT } mb_msign_method;
// U V^T of a = U diag(s) V^T, of one matrix (m, n) or a batch (L, m, n): `steps` of an iteration, 0 for 5.
//   NS5            a / (|a|_F + 1e-7), then Muon's polynomial: singular values end between 0.7 and 1.2
//   POLAR_EXPRESS  a / |a|_F, then the polynomials of arXiv 2505.16932 for values from 1e-3: 5 steps take those to
//                  0.88 to 1.12, 8 to 1
//   EXACT          by decomposition; directions of singular values below rounding, max(m, n) epsilon s_1, are dropped
// Both iterations take what is zero to zero, and tiny values nearly so.
MB_CALL mb_status mb_msign(mb_tensor **out, mb_tensor *a, mb_msign_method method, int64_t steps);
// What the products of an iteration are computed in, their sums being float32; the norm is found in float64.
//   FULL   the matrices' dtype
//   TF32   float32 with factors rounded to 10 bits of fraction, on devices that have such products; elsewhere the same as FULL
//   BF16   as Muon is known: x and the polynomials are bf16 from step to step, and the last x is rounded. On cuda alone
//   F16    binary16 (10 bits of fraction, where bf16 has 7), scaled so that nothing leaves its range, and a float32 result, an eighth
//          to a half as far off as BF16's. Steps on matrices twice as long as wide are made on their Gram matrices. On cuda alone
typedef enum mb_msign_precision { MB_MSIGN_FULL = 0, MB_MSIGN_TF32, MB_MSIGN_BF16, MB_MSIGN_F16 } mb_msign_precision;
typedef struct mb_msign_options {
  mb_msign_method method;
  int64_t steps;                // 0 for 5
  mb_msign_precision precision; // EXACT is computed in FULL
  double scale;                 // of the result
  int unchecked;                // a is known to be finite: the host need not wait. What is not gives what is not
} mb_msign_options;
// scale U V^T.
MB_CALL mb_status mb_msign_with(mb_tensor **out, mb_tensor *a, const mb_msign_options *options);
// out[i] = scale[i] U V^T of a[i] for i < count, all on one device; options->scale is not read. In F16 products of matrices that have
// become alike, (k, k) for the smaller side k, are one product for all tensors, whatever their shapes; else as one by one. On
// failure no out[i] is left.
MB_CALL mb_status mb_msign_many(mb_tensor **out, mb_tensor *const *a, const double *scale, int64_t count,
                                const mb_msign_options *options);
// a^(-1/2) of symmetric positive definite a (k, k) or (L, k, k), by products alone (coupled Newton-Schulz). `steps` decides
// how far the smallest eigenvalue may lie below the Frobenius norm: 8 reach 4e-6 of it, each one more a sixteenth of that; 0
// for 12. Below that, values come out too small. An `a` with |a - a^T|_F above 1e-4 (float64: 1e-10) of |a|_F is refused as not
// symmetric, MB_ERR_ARG; of less, (a + a^T) / 2 is what counts. MB_ERR_NUMERIC, which names the matrix, if that is not positive
// definite to float64's rounding (by a Cholesky factorisation), or if the result is not finite.
MB_CALL mb_status mb_inverse_sqrt(mb_tensor **out, mb_tensor *a, int64_t steps);
// The largest singular value of a (m, n), or of each of (L, m, n) -> (L), by Lanczos' method: to 1e-6 of it and from
// below. Always the same start, no random stream is taken.
MB_CALL mb_status mb_sigma_max(mb_tensor **out, mb_tensor *a);

// ----- fused programs ---------------------------------------------------------------------------
// An expression graph over flat buffers of equal length and run-time scalars, evaluated in one pass.
// Values are numbered in the order they are added. Built by mb.fuse from a traced Lua function.

typedef enum mb_fuse_op { /* ORDER FUSE */
  MB_FUSE_ADD = 0, MB_FUSE_SUB, MB_FUSE_MUL, MB_FUSE_DIV, MB_FUSE_MIN, MB_FUSE_MAX, MB_FUSE_POW,
  MB_FUSE_LT, MB_FUSE_LE, MB_FUSE_EQ, MB_FUSE_NEG, MB_FUSE_ABS, MB_FUSE_SIGN, MB_FUSE_SQRT, MB_FUSE_RSQRT,
  MB_FUSE_RECIPROCAL, MB_FUSE_SQUARE, MB_FUSE_EXP, MB_FUSE_LOG, MB_FUSE_TANH, MB_FUSE_SIGMOID, MB_FUSE_NORMAL_CDF, MB_FUSE_WHERE,
  MB_FUSE_OP_COUNT
} mb_fuse_op;
MB_CALL mb_status mb_program_new(mb_program **out);
MB_API void mb_program_release(mb_program *program);
MB_CALL mb_status mb_program_array(int *value, mb_program *program, int slot);      // element of buffer `slot`
MB_CALL mb_status mb_program_scalar(int *value, mb_program *program, int slot);     // scalars[slot] of the run
MB_CALL mb_status mb_program_constant(int *value, mb_program *program, double number);
MB_CALL mb_status mb_program_apply(int *value, mb_program *program, mb_fuse_op op, int a, int b, int c); // unused arguments -1
MB_CALL mb_status mb_program_store(mb_program *program, int slot, int value);       // buffer `slot` = value, after all loads
// Operations an element costs: without common subexpressions, constants, dead code and what scalars alone decide.
MB_API int mb_program_size(const mb_program *program);
// Runs over elements [begin[i], end[i]) of every array, i < n_ranges. Arrays are contiguous, of one dtype and length;
// one that is stored to shares no memory with another. Ranges are not empty and do not overlap. In a program that reduces,
// each range is a part of one row, and all are of the group.
MB_CALL mb_status mb_program_run(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars,
                                 int n_scalars, const int64_t *begin, const int64_t *end, int64_t n_ranges);

// Reductions. The elements of a run are divided into parts (parameters), each a matrix of contiguous rows; a value then is
// a number of the run, or differs from group to group, part to part, row to row, column to column or element to element.
// Smaller values are stretched where they meet larger ones. Sums run in float64, in an order that does not depend on the
// number of threads.
typedef enum mb_fuse_extent {
  MB_FUSE_NUMBER = 0, MB_FUSE_PER_GROUP, MB_FUSE_PER_PART, MB_FUSE_PER_ROW, MB_FUSE_PER_COLUMN, MB_FUSE_PER_ELEMENT
} mb_fuse_extent;
typedef enum mb_fuse_reduce { MB_FUSE_SUM = 0, MB_FUSE_MEAN, MB_FUSE_NORM, MB_FUSE_GREATEST, MB_FUSE_LEAST } mb_fuse_reduce;
// One result a row, a column, a part; one of the parts of the group; one of all parts.
typedef enum mb_fuse_over { MB_FUSE_ROWS = 0, MB_FUSE_COLUMNS, MB_FUSE_PART, MB_FUSE_GROUP, MB_FUSE_ALL } mb_fuse_over;
typedef struct mb_fuse_part {
  int64_t begin, rows, columns; // elements begin to begin + rows columns of every array
  int32_t is_group;             // counts in MB_FUSE_GROUP, and has its place in buffers of one number a row, column or part
  int32_t is_stored;            // stores reach it; only where is_group
  int64_t set;                  // which numbers it takes (mb_program_run_sets); 0 elsewhere
} mb_fuse_part;
// The kind of buffer that `slot` is, PER_PART to PER_ELEMENT (the default), before its first use: one of the others has as
// many elements as the parts of the group have rows or columns, or as there are such parts, in the order of the parts.
MB_CALL mb_status mb_program_declare(mb_program *program, int slot, mb_fuse_extent extent);
MB_CALL mb_status mb_program_reduce(int *value, mb_program *program, mb_fuse_reduce reduce, mb_fuse_over over, int a);
// Rows, columns or elements (MB_FUSE_PART) of a part, as a value PER_PART.
MB_CALL mb_status mb_program_count(int *value, mb_program *program, mb_fuse_over of);
// A random number for each element, uniform in [0, 1) or normal: other calls, other numbers. See mb_program_set_key.
MB_CALL mb_status mb_program_random(int *value, mb_program *program, int is_normal);
MB_API mb_fuse_extent mb_program_extent(const mb_program *program, int value);
// Where the random numbers of later runs come from: element i of call c is word i of the Philox stream
// (seed, step, stream + 2^32 c), whatever the parts are; normal numbers as mb_randn makes them.
MB_API void mb_program_set_key(mb_program *program, uint64_t seed, uint64_t step, uint64_t stream);
// Runs over parts. `phases`: 1 computes the reductions, which the program keeps, 2 all stores by those last computed, 3 both.
// Parts do not overlap.
MB_CALL mb_status mb_program_run_parts(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars,
                                       int n_scalars, const mb_fuse_part *parts, int64_t n_parts, int phases);
// The same for parts that differ in their numbers: part k takes scalars[parts[k].set n_scalars] and those behind it, of `n_sets`
// such rows. A program that reduces over the group or over all parts takes one set. What comes out is, to the bit, what a run for
// each set gives, and it is one pass over them all. Nothing is stored where the gradients of `guard`, which may be NULL, were refused
// by a plan (mb_spectral_policy_guard).
MB_CALL mb_status mb_program_run_sets(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars,
                                      int64_t n_sets, const mb_fuse_part *parts, int64_t n_parts, int phases, const mb_model *guard);
// Whether both compute the same from arrays and scalars of the same slots. Programs that were built by the same calls do.
MB_API int mb_program_same(const mb_program *a, const mb_program *b);
MB_API int mb_program_passes(const mb_program *program); // over elements or reduced values in a run; 0 before the first

// ----- tokens -----------------------------------------------------------------------------------
// GPT-2's byte-pair encoding, from its merges alone (the file vocab.bpe, or Hugging Face's merges.txt). Ids are GPT-2's: 0..255
// the bytes, 256 + i the i-th merge, the last one <|endoftext|>; they fit 16 bits. Text is split by GPT-2's pattern with
// Unicode 16.0. Text that is not UTF-8 is encoded byte by byte, so decoding gives back any bytes. A handle is only read by
// encoding and decoding: several threads may use one at once.

// `merges` are the contents of the file, `name` what errors call it. A line that does not fit is MB_ERR_IO and named.
MB_CALL mb_status mb_bpe_new(mb_bpe **out, const void *merges, int64_t bytes, const char *name);
MB_API void mb_bpe_release(mb_bpe *bpe);                  // NULL is allowed
MB_API int64_t mb_bpe_vocab_size(const mb_bpe *bpe);      // 50257 for GPT-2's merges
// What "<|endoftext|>" in a text is: plain text, the token, or an error that says where it stands.
typedef enum mb_bpe_special { MB_BPE_SPECIAL_TEXT = 0, MB_BPE_SPECIAL_TOKEN, MB_BPE_SPECIAL_REFUSE } mb_bpe_special;
// `ids` has room for `bytes` of them: a token has at least one byte. More threads give the same ids.
MB_CALL mb_status mb_bpe_encode(int64_t *count, uint16_t *ids, const mb_bpe *bpe, const void *text, int64_t bytes,
                                mb_bpe_special special, int threads);
// Bytes of the text of these ids, and that text, without a NUL behind it. An id that there is not is MB_ERR_ARG.
MB_CALL mb_status mb_bpe_decoded_size(int64_t *bytes, const mb_bpe *bpe, const uint16_t *ids, int64_t count);
MB_CALL mb_status mb_bpe_decode(void *text, const mb_bpe *bpe, const uint16_t *ids, int64_t count);

// Files of tokens, mapped into memory: llm.c's (20240520: uint16, 20240801: uint32) and nanoGPT's (uint16 without a header), told
// apart by their beginning. They are read as windows of `window` tokens and the one behind them, in the order of the paths; each
// file has a whole number of groups of `group` windows, and what is left at its end is not used. vocab_size bounds the ids, 0 for
// no bound. A file that is cut short while it is mapped ends the process (SIGBUS): write under another name and rename.
MB_CALL mb_status mb_tokens_open(mb_tokens **out, const char *const *paths, int64_t n_paths, int64_t window, int64_t group, int64_t vocab_size);
MB_API void mb_tokens_release(mb_tokens *tokens);            // NULL is allowed
MB_API int64_t mb_tokens_count(const mb_tokens *tokens);     // in all files
MB_API int64_t mb_tokens_windows(const mb_tokens *tokens);
// Samples first, first + 1, ... as inputs (rows, window) and targets, one token ahead. Sample s is window s mod windows, or with
// `shuffle` window mb_shuffled_index(s mod windows, windows, seed, s / windows): each window once an epoch.
MB_CALL mb_status mb_tokens_batch(int32_t *inputs, int32_t *targets, const mb_tokens *tokens, int64_t first, int64_t rows, int shuffle, uint64_t seed);
// Place `index` of a permutation of 0 .. count - 1 that (seed, epoch) choose, computed and not stored; -1 if index is not one of these.
MB_API int64_t mb_shuffled_index(int64_t index, int64_t count, uint64_t seed, uint64_t epoch);

// ----- graphs -----------------------------------------------------------------------------------
// Work that calls give to a device, noted once and given to it again as a whole by each launch. From begin to end nothing is
// done: results are there after a launch, in the same tensors every time. What a call does on the host is not repeated: reading
// a value, copying one from the host, checking for NaN. What would need that fails between begin and end. Numbers are those of
// the capture, but for the scalars of fused programs (mb_graph_set_numbers) and for random numbers, which go on as if the
// calls had been made again. Tensors that the calls use must live as long as the graph, where they are.
typedef struct mb_graph mb_graph;
// `sharing`, or NULL: a graph whose memory this one may use too; results of either are lost when the other is launched.
MB_CALL mb_status mb_graph_begin(mb_graph **out, mb_device device, mb_graph *sharing);
MB_CALL mb_status mb_graph_end(mb_graph *graph);              // after a failure the graph can only be released
MB_API void mb_graph_release(mb_graph *graph);                // NULL is allowed; gives up a capture that has not ended
MB_API int64_t mb_graph_sites(const mb_graph *graph);         // runs of fused programs, and steps of NORM, so far, numbered from 0
// The scalars and the random key of run `site` from the next launch on; `program` is the one that was run. Of a run with several
// sets, `scalars` are as many rows of n_scalars.
MB_CALL mb_status mb_graph_set_numbers(mb_graph *graph, int64_t site, const mb_program *program, const double *scalars, int n_scalars);
// Of run `site`, which was an mb_spectral_step of this plan of NORM: the plan's tau as it is now, from the next launch on.
MB_CALL mb_status mb_graph_set_tau(mb_graph *graph, int64_t site, const mb_spectral *plan);
// Whether the gradients that count as zero now are those that did when the graph was captured. Where they are not, another graph
// is needed: one that adds to gradients is not one that writes them.
MB_API int mb_graph_fits(const mb_graph *graph);
MB_CALL mb_status mb_graph_launch(mb_graph *graph);
// From now on tensors of the graph's device are made in its memory, where that is free, until NULL: for work between launches,
// whose tensors must be gone, or of no more use, at the next launch.
MB_CALL mb_status mb_graph_lend(mb_graph *graph);

// ----- the system -------------------------------------------------------------------------------
// What scripts need of the operating system and Lua's library lacks. Paths are bytes; errors name the path.

MB_API double mb_time(void);                        // seconds of a monotonic clock
MB_API int64_t mb_peak_rss(void);                   // bytes of memory the process has had at most
MB_API int64_t mb_process_id(void);
MB_API int mb_is_terminal(int fd);
MB_API int mb_terminal_width(int fd);               // columns, 80 if unknown
// SIGINT, SIGTERM and SIGHUP (unless it is ignored, as under nohup) set a flag; a SIGINT while it is set ends the process
// with status 130. Writing past a file size limit becomes an error of the write (SIGXFSZ is ignored).
MB_API void mb_interrupt_install(void);
MB_API void mb_interrupt_patient(int on);           // while on, a further SIGINT does not end the process: for a prompt
MB_API int mb_interrupted(void);                    // signal number received, or 0; stays set until cleared
MB_API void mb_interrupt_clear(void);
typedef enum mb_path_kind { MB_PATH_NONE = 0, MB_PATH_FILE, MB_PATH_FOLDER } mb_path_kind;
MB_API mb_path_kind mb_path_kind_of(const char *path);
MB_CALL mb_status mb_path_make_folder(const char *path);            // with its parents
MB_CALL mb_status mb_path_rename(const char *from, const char *to); // atomic within a file system
MB_CALL mb_status mb_path_remove(const char *path);                 // a file, a link, or a folder with all in it
MB_CALL mb_status mb_path_sync(const char *path);                   // fsync of a file or folder
// Holds a lock on a file (made if it is not there) until unlock or the end of the process. MB_ERR_STATE if
// it is held elsewhere.
MB_CALL mb_status mb_path_lock(int *handle, const char *path);
MB_API void mb_path_unlock(int handle);
MB_CALL mb_status mb_path_size(int64_t *bytes, const char *path);
// Names in a folder, sorted by bytes, each ended by '\n' (names that hold one are left out); the text is
// valid until the next call.
MB_CALL mb_status mb_path_list(const char **names, const char *path);
MB_CALL mb_status mb_path_absolute(const char **absolute, const char *path); // valid until the next call
// Reads elements of t's dtype (little-endian) from `offset` of a file, a NaN without all but its sign, and appends them to one.
MB_CALL mb_status mb_tensor_read_file(mb_tensor *t, const char *path, int64_t offset);
MB_CALL mb_status mb_tensor_append_file(mb_tensor *t, const char *path);
MB_CALL mb_status mb_sha256_file(char *hex, const char *path);      // 64 digits and a NUL
MB_CALL mb_status mb_sha256(char *hex, const void *data, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif

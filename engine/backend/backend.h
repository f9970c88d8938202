// SPDX-License-Identifier: MIT
//
// backend.h: the contract between the engine and what computes. A device has memory functions and, for
// each floating dtype, a table of kernels; kernels.def lists them, one row a kernel, and is expanded
// into the table here, the CPU's prototypes and the CPU's tables.
//
// What every caller guarantees: views lie on the table's device, have its dtype unless the row says
// otherwise, and sizes >= 1; shapes fit; outputs do not overlap inputs unless the row says "in place";
// raw pointers are to contiguous elements. What every kernel guarantees: it writes all of its outputs and
// nothing else, allocates only through mbi_scratch, gives the same bits for the same input, build and
// thread count, and returns MB_OK or a failure with its text.
#ifndef MBI_BACKEND_H
#define MBI_BACKEND_H
#include "core/shape.h"

typedef struct mbi_view {
  void *data; // element (0, ..., 0)
  int ndim;
  int64_t size[MB_MAX_DIMS];
  int64_t stride[MB_MAX_DIMS]; // in elements; 0 where a size-1 dimension was stretched
} mbi_view;

// C[i] = alpha op(A[i]) op(B[i]) + beta D[i] (+ bias of n along rows), i < batch, all row-major.
typedef struct mbi_gemm {
  int transpose_a, transpose_b;
  int64_t m, n, k;
  double alpha, beta;
  const void *a, *b;
  void *c;
  int64_t lda, ldb, ldc;                // row strides as stored
  int64_t batch;                        // >= 1
  int64_t stride_a, stride_b, stride_c; // between batch members
  const void *bias;                     // (n) or NULL; only with beta = 0
  const void *from;                     // D, which lies like C; NULL: C as it was
  int c_is_wide;                        // c, and from, are float32 where a and b are bf16; never with a bias
  int may_round;                        // float32 factors may be rounded to TF32: MBI_ROUNDS_IF_ALLOWED by the user, MBI_ROUNDS
  int gelu;                             // what is done to the product p on its way to c, with beta = 0, ldc = n and c not wide:
  void *aux;                            // the numbers that GELU is of; lies like c and does not overlap it
  int half;                             // a, b, and c and from unless c_is_wide, are MBI_F16 where they would be bf16; no bias, no gelu
  void *sums;                           // (m) of the wide dtype, or NULL: a backend may write the sums over k of op(A)'s rows here, and says
  int *has_sums;                        // so by a 1 here; asked for only with one member, beta = 0 and no bias, GELU or half
} mbi_gemm;
// IEEE's binary16: what iterations in products keep their matrices in, on devices that have bf16. No tensor has it.
enum { MBI_F16 = MB_DTYPE_COUNT };
enum { MBI_ROUNDS_IF_ALLOWED = 1, MBI_ROUNDS };
// Of GELU's tanh form: aux = p, c = gelu(p); or c = p gelu'(aux).
enum { MBI_GELU_OF = 1, MBI_GELU_SLOPE };

// Heads of attention in memory: D neighbours for each (b, t, h), at data + b * batch + t * time + h * head elements.
typedef struct mbi_heads {
  void *data;
  int64_t batch, time, head;
} mbi_heads;
typedef struct mbi_attention {
  int64_t batch, time, heads, width; // B, T, H, D
  double scale;
} mbi_attention;
typedef struct mbi_attention_gradients {
  mbi_heads dout, out;    // read
  mbi_heads dq, dk, dv;   // written, where data is not NULL
} mbi_attention_gradients;

// What the device has found out about a matrix. A call that works on many wants some of these bits: a matrix that lacks one
// is passed over, and what is the call's of it stays as it is. So the host need not know which ones a call is about.
enum { MBI_FINITE = 1, MBI_EXTREME = 2, MBI_STEEP = 4, MBI_ROUGH = 8, MBI_AGREED = 16 };
typedef struct mbi_mask {
  int64_t *flags; // (count) or NULL: all take part
  int64_t wanted;
} mbi_mask;

// `count` contiguous arrays, wherever they lie, and what is found of them. All arrays are the device's, those of a call's own need
// may be NULL.
typedef struct mbi_arrays {
  int64_t count, most; // most: the largest of the sizes
  void *const *x;      // (count)
  const int64_t *size; // (count) elements
  int64_t all;         // sum of the sizes, for who reckons what a call costs
  double *norm, *scale;
  int64_t *flags;
  const double *target, *gain;
} mbi_arrays;

// A few singular directions of `count` matrices G[i] (m, n), seen at scale[i] G[i]. Thin matrices are kept as
// q rows. All arrays are the device's. Calls take as many groups of matrices as there are shapes, with one q, and as little is
// launched for all of them as for one.
typedef struct mbi_sketch {
  int64_t count, m, n, q;
  mbi_mask mask;
  void *const *g;      // matrix i, contiguous
  const double *scale; // powers of two that bring G's values near 1
  const int64_t *place; // (count) numbers of the random streams that omega is drawn from
  void *omega;         // (count, q, n) what the first x is
  void *x;             // (count, q, n) vectors that G is multiplied with
  void *y;             // (count, q, m) y = x (scale G)^T
  void *t;             // (count, q, n) t = y (scale G)
  double *w;           // (count, q, q) rows of w y are left singular vectors of scale G, the largest first
  double *sigma;       // (count, q) and w t = diag(sigma) times right singular vectors
  double *sizes;       // (count, 2) see sketch_basis
  const double *gain;  // (count, q)
  void *basis;         // (count, q, n) directions that the next omega starts from, or NULL: it is random alone. NaN at the beginning
  int64_t kept;        // of a matrix's own says that there are none yet; kept: how many rows of it count
} mbi_sketch;
enum { MBI_FORMS_Y = 1, MBI_FORMS_T = 2, MBI_FROM_OMEGA = 4, MBI_FOR_BASIS = 8 };
// Sizes that change flags: what is MBI_FINITE becomes MBI_EXTREME where the first one is not within [low, high], else MBI_STEEP where
// the second is below ratio times the first.
typedef struct mbi_sketch_limits {
  double low, high, ratio;
} mbi_sketch_limits;

// Eigenvalues of S[i] = (scale G)^T (scale G), or of (scale G)(scale G)^T when m < n: k = min(m, n).
typedef struct mbi_gram {
  int64_t count, m, n, k;
  mbi_mask mask;
  void *const *g;
  const double *scale;
  double *sigma;  // (count, k) square roots of the eigenvalues, descending
  double *factor; // (count, k + 4, k) what gram_update needs, of the device's own making
} mbi_gram;

// A built-in policy asked for all matrices of a plan, which stand by groups. Threshold j is asked with the largest value of its
// members. All arrays are the device's.
typedef struct mbi_policy {
  const mb_policy_options *rule; // of the host
  int64_t count, thresholds;
  const int64_t *begin;          // (thresholds + 1) the members of j are member[begin[j]] to member[begin[j + 1] - 1]
  const int64_t *member;         // (count)
  const int64_t *place;          // (count) where a matrix's largest value is in sigma
  const double *limit;           // (count) how large it may be
  const double *sigma, *scale;   // sigma[place[i]] / scale[i] is that of G
  int64_t *flags;                // (count)
  double *state;                 // (thresholds, row), see core/policy.h
  double *calls;                 // (1)
  double *tau;                   // (count)
  double *verdict;               // (1)
  double *refusal;               // (1) made 1 where a matrix is refused, 0 otherwise if is_first; or NULL
  int is_first;
} mbi_policy;
typedef struct mbi_policy_gains {
  int64_t count, k, kept, all;   // all: values that a matrix has, of which the first `kept` of k may change
  const double *sigma, *scale;   // (count, k), (count)
  const double *tau;             // (count) NaN: leave alone
  double *gain, *target;         // (count, k); target (count) tau once more, or NULL
  double *clipped, *saturated;   // (count) values lowered; 1 where all that may change were, and there are more
} mbi_policy_gains;
// A built-in policy asked for lengths of arrays: mbi_policy and mbi_policy_gains in one, for a plan of NORM. Arrays are the device's.
typedef struct mbi_norm_policy {
  const mb_policy_options *rule; // of the host
  const double *tau_now;         // (1) what stands for rule->tau in a graph, or NULL
  int64_t count, thresholds;
  const int64_t *begin, *member; // as in mbi_policy
  double *norm;                  // (count) sums of squares, which become lengths
  double *scale;                 // (count) all 1
  int64_t *flags;                // (count)
  double *state, *calls;
  double *tau, *clipped, *saturated; // (count)
  double *verdict, *total;       // (1) total: the length of all arrays as one, summed in the order of `member`
  double *factor;                // (count) that an array is to be multiplied by
  double *refusal;               // as in mbi_policy
  int is_first;
} mbi_norm_policy;

enum mbi_unary { /* ORDER UNARY: ops/unary.c, backend/cpu/unary.c */
  MBI_NEG, MBI_ABS, MBI_SIGN, MBI_EXP, MBI_LOG, MBI_SQRT, MBI_SQUARE, MBI_RECIPROCAL, MBI_TANH, MBI_SIGMOID,
  MBI_SILU, MBI_RELU, MBI_GELU_TANH, MBI_GELU_ERF, MBI_AFFINE, MBI_POW_SCALAR, MBI_UNARY_COUNT
};
enum mbi_binary { /* ORDER BINARY: ops/binary.c, backend/cpu/binary.c */
  MBI_ADD, MBI_SUB, MBI_MUL, MBI_DIV, MBI_POW, MBI_MIN, MBI_MAX, MBI_LESS, MBI_LESS_EQUAL, MBI_EQUAL, MBI_BINARY_COUNT
};
// A pass of a fused program as a list of steps over tiles of a few elements. Operands are numbered: arrays first, then
// uniform numbers, then tiles of scratch ("temps"). A step reads whole tiles before its result counts, so out may
// be one of its inputs.
enum mbi_fuse_code { /* ORDER FUSE: the operations of mb_fuse_op, then those only the compiler makes */
  MBI_FUSE_MADD = MB_FUSE_OP_COUNT, // in0 in1 + in2
  MBI_FUSE_MSUB,                    // in0 in1 - in2
  MBI_FUSE_NMADD,                   // in2 - in0 in1
  MBI_FUSE_AXPBY,                   // in0 in1 + in2 in3, in1 and in3 flat
  MBI_FUSE_AXMBY,                   // in0 in1 - in2 in3, in1 and in3 flat
  MBI_FUSE_MOVE,                    // in0
  MBI_FUSE_FILL,                    // in0, flat
  MBI_FUSE_UNIFORM,                 // random number of call in[0], which is no operand, uniform in [0, 1)
  MBI_FUSE_NORMAL,                  // the same, normal
  MBI_FUSE_CODE_COUNT
};
typedef struct mbi_fuse_step {
  uint8_t code;  // an mb_fuse_op or an mbi_fuse_code
  uint8_t form;  // bit i: in[i] is flat. Never all of an operation's inputs; of MADD, MSUB, NMADD never in[0].
  uint16_t out;  // an array or a temp
  uint16_t in[4];
} mbi_fuse_step;
// What an array has a number for. Those of parts, rows and ONE are flat, as uniform numbers are: one number for a tile.
enum mbi_fuse_spread { MBI_SPREAD_ONE, MBI_SPREAD_PARTS, MBI_SPREAD_ROWS, MBI_SPREAD_COLUMNS, MBI_SPREAD_ELEMENTS };
typedef struct mbi_fuse_part {
  int64_t begin, rows, columns; // element (r, c) is begin + r columns + c
  int64_t row, column, index;   // its numbers begin here in arrays of rows, columns, parts
  int64_t set;                  // which uniform numbers it takes
} mbi_fuse_part;
// result[part.index], [part.row + r] or [part.column + c] = sum, mean, norm, greatest or least of an operand that is not
// flat, over the elements of the part, the row, the column (spread). NaN wins; norms are sqrt(sum of squares).
typedef struct mbi_fuse_reduction {
  uint8_t reduce; // mb_fuse_reduce
  uint8_t spread; // of the result: PARTS, ROWS or COLUMNS
  uint16_t operand;
  void *result;
} mbi_fuse_reduction;
typedef struct mbi_fuse_run {
  const mbi_fuse_step *steps;
  const mbi_fuse_reduction *reductions;
  int n_steps, n_reductions, n_arrays, n_uniforms, n_temps;
  int has_rows;              // an array or a reduction is of rows or columns: otherwise (1, rows columns) would do for each part
  void *const *arrays;       // number 0 of each; different arrays do not overlap where one is written
  const uint8_t *spreads;    // of arrays
  const double *uniforms;    // (n_sets, n_uniforms)
  const mbi_fuse_part *parts; // disjoint, not empty
  int64_t n_parts, n_sets;
  uint64_t seed, step, stream; // random numbers of call c for element i: word i of (seed, step, stream + 2^32 c)
  const uint64_t *cells;       // in a capture: where the device finds seed, step, stream and behind them the uniforms instead, in
                               // the array's dtype, one in 8 bytes, set by set; NULL otherwise
  const double *guard;         // (1) of the device: nothing is stored where it is not 0; or NULL
} mbi_fuse_run;

enum mbi_reduce { MBI_REDUCE_SUM, MBI_REDUCE_MAX, MBI_REDUCE_MIN, MBI_REDUCE_COUNT };

typedef struct mbi_kernels {
#define MB_KERNEL(name, ...) mb_status (*name)(__VA_ARGS__);
#include "backend/kernels.def"
#undef MB_KERNEL
} mbi_kernels;

// Memory of the host that results are sent to without being waited for.
typedef struct mbi_mail mbi_mail;
// Work that was noted for later.
typedef struct mbi_captured mbi_captured;

typedef struct mbi_device {
  const char *name;
  // Aligned to 64 bytes, on cuda to 256; MB_ERR_NOMEM with its text. *is_zero says whether the block is known to hold zeros.
  mb_status (*allocate)(void **out, int *is_zero, size_t bytes);
  void (*release)(void *data, size_t bytes);
  mb_status (*copy_in)(void *device, const void *host, size_t bytes);
  mb_status (*copy_out)(void *host, const void *device, size_t bytes);
  mb_status (*zero)(void *device, size_t bytes);
  // dst = src for two views of the same sizes, any element size (1, 2, 4, 8 bytes).
  mb_status (*copy_view)(const mbi_view *dst, const mbi_view *src, size_t element);
  // dst[i] = (destination type) src[i] between any two dtypes, count contiguous elements.
  mb_status (*convert)(void *dst, mb_dtype dst_dtype, const void *src, mb_dtype src_dtype, int64_t count);
  // Fills count contiguous elements of any dtype with a number.
  mb_status (*fill)(void *dst, mb_dtype dtype, double value, int64_t count);
  // *bad = index of the first id outside [0, limit), or -1. ids are integers of any dtype.
  mb_status (*check_ids)(int64_t *bad, const void *ids, mb_dtype dtype, int64_t count, int64_t limit, int64_t ignored);
  // Where ids are not waited for: clean[i] = ids[i], or `instead` for one outside [0, limit) that is not `ignored`. found[0] = 1 +
  // the number of the first such one, found[1] that id; written only if there is one and found[0] is 0. With begin_capture.
  mb_status (*clean_ids)(int32_t *clean, int64_t *found, const int32_t *ids, int64_t count, int64_t limit, int64_t ignored, int32_t instead);
  // Waits for all work that was given to the device.
  mb_status (*synchronize)(void);
  // How many times the host has waited for the device so far, in these two and inside kernels.
  int64_t (*waits)(void);
  // Bytes the device could still give, and all it has.
  mb_status (*room)(int64_t *free_bytes, int64_t *total_bytes);
  // Gives back what the device keeps for itself: work memory, unused pools.
  void (*trim)(void);
  // MB_OK, or MB_ERR_DEVICE with its text when an earlier error has left the device unusable for this process.
  mb_status (*usable)(void);
  // A mail has room for `bytes`, which `send` has copied into it behind the work given so far. `open` waits for the last copy
  // alone, which is no wait for the device, and gives the room's address.
  mb_status (*mail_new)(mbi_mail **out, size_t bytes);
  void (*mail_free)(mbi_mail *mail);
  mb_status (*mail_send)(mbi_mail *mail, const void *device);
  mb_status (*mail_open)(const void **data, mbi_mail *mail);
  // Optional: which algorithms of a library the products of this process take, as a text that stays valid until the next product,
  // and taking over such a text.
  mb_status (*choices)(const char **text);
  mb_status (*set_choices)(const char *text);
  void (*allow_tf32)(int allowed); // optional: products of float32 may round their factors
  // Times; optional, absent where calls return when their work is done. A stamp is a moment in the queue, behind the work
  // given so far; taking one waits for nothing. After synchronize() the seconds between two can be asked for, until they are
  // released. -1 where no time can be taken, such as while work is recorded instead of done.
  mb_status (*stamp)(int64_t *stamp);
  mb_status (*stamp_seconds)(double *seconds, int64_t from, int64_t to);
  void (*release_stamp)(int64_t stamp); // -1 is allowed
  int64_t (*launches)(void); // optional: kernels started so far, a library's call counting as one
  mb_status (*info)(mb_device_facts *facts); // optional: what mb_device_info says beyond the name
  // Optional, all four: between begin_capture and end_capture work is noted and not done; what the host would have to wait for, and
  // copies from its memory, fail. Streams of random numbers from key[2] on become those from key[2] of `table` on, which is the
  // device's and read by `replay`. end_capture without is_wanted forgets what was noted, and succeeds.
  mb_status (*begin_capture)(const uint64_t *table, const uint64_t key[3]);
  mb_status (*end_capture)(mbi_captured **out, int is_wanted);
  mb_status (*replay)(mbi_captured *captured);
  void (*captured_free)(mbi_captured *captured);
  void (*keep_bits)(int wanted);   // optional: whether the same work must give the same bits; until then it must
  // Optional: what the device has to say of how it works, in lines, for reports; valid until the next operation.
  mb_status (*notes)(const char **text);
  const mbi_kernels *kernels[MB_DTYPE_COUNT]; // NULL for integer dtypes
} mbi_device;

// The device's table, or NULL with a text why not.
const mbi_device *mbi_device_of(mb_device device);
const mbi_device *mbi_cpu_device(void);

// Memory of the calling operation, kept by the device for the next call; contents undefined. Slots 0-7
// are separate, so that a kernel may hold several at once; never held across calls.
enum { MBI_SCRATCH_SLOTS = 8 };
mb_status mbi_scratch(void **out, int slot, size_t bytes);
#endif

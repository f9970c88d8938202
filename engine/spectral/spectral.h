// SPDX-License-Identifier: MIT
//
// spectral.h: the inside of a plan. plan.c sorts matrices into groups that are computed together, arrays.c keeps what is
// known of them on both sides, probe.c finds singular values, clamp.c changes them. All numerical work is in kernel slots
// (backend.h: mbi_sketch, mbi_gram); these files know no device.
//
// Four kinds of group:
//   VECTOR  n x 1 or 1 x n of any n, and with NORM all: the singular value is the 2-norm
//   EXACT   all k = min(m, n) singular values, from the eigenvalues of the smaller Gram matrix
//   SKETCH  the r largest, from q = r + p random directions. From q = k / 2 on a sketch costs more than all
//           values do: the r largest are then those of EXACT
//   WHOLE   the largest alone: POLAR and SOFT change all values without knowing them (polar.c, soft.c)
#ifndef MBI_SPECTRAL_H
#define MBI_SPECTRAL_H
#include "core/spectra.h"
#include "core/tensor.h"

typedef enum mbi_spectral_kind {
  MBI_SPECTRAL_VECTOR, MBI_SPECTRAL_EXACT, MBI_SPECTRAL_SKETCH, MBI_SPECTRAL_WHOLE
} mbi_spectral_kind;

// Which matrices of a group the host knows to have a basis: where there are some, the device knows of which.
typedef enum mbi_spectral_warmth { MBI_BASES_NONE, MBI_BASES_SOME, MBI_BASES_ALL } mbi_spectral_warmth;

// A group's part of the plan's arrays on the device.
typedef struct mbi_spectral_arrays {
  void **data;
  int64_t *size, *index, *flags;
  double *scale, *sigma, *gain;
} mbi_spectral_arrays;

typedef struct mbi_spectral_group {
  mbi_spectral_kind kind;
  mb_dtype dtype;    // that computations run in
  mb_dtype source;   // the matrices'
  mb_device device;
  int64_t m, n;      // of every matrix; 0 in a group of vectors, 1 and the size with NORM
  int64_t k;         // singular directions at hand: 1, min(m, n) or q
  int64_t kept;      // of them, those reported
  int64_t count;
  int64_t most, all; // elements of the largest, of all
  int64_t first;     // members before the group's in the plan's arrays
  int64_t first_sigma, first_gain; // and numbers
  int64_t *index;    // (count) places in the plan, ascending
  void **data;       // (count) addresses of the matrices, or of their copies
  mb_tensor *copies; // (count, m, n) where source is not dtype, from a probe to the change, or, as graphs know them, for good with a
                     // policy; or during a change, see stage.c
  double *scale;     // (count) powers of two: the values below are those of scale * G
  int64_t *flags;    // (count) see mbi_mask
  double *sigma;     // (count, k) on the host, descending
  double *gain;      // (count, k) on the host, the relative change asked for; room for (count, 2)
                     // WHOLE: (count) not 0 where there is one, then (count) tau; VECTOR: then (count) the norm to have
  double *lift;      // (count) see stage.c: what a copy was multiplied by, or 0 for an ordinary matrix
  mbi_spectral_arrays on; // of the device
  mb_tensor *omega, *x, *y, *t, *w, *sizes; // SKETCH, see mbi_sketch
  mb_tensor *factor;                        // EXACT, see mbi_gram
  mb_tensor *basis;                  // SKETCH with warm_start: (count, k, n), see mbi_sketch
  mbi_spectral_warmth warmth;
} mbi_spectral_group;

typedef struct mbi_spectral_policy mbi_spectral_policy; // step.c

struct mb_spectral {
  mb_spectral_options options;
  int64_t count, width;
  mb_device device;
  mb_tensor **matrices; // (count), retained
  int64_t group_count;
  mbi_spectral_group *groups;
  double *sigma;        // (count, width), as the last probe gave them
  int64_t n_sigma, n_gain; // numbers of all groups
  void *table;          // (3, count) by groups: addresses, numbers of elements, places in the plan
  double *found;        // (n_sigma) sigma, (count) scale, (count) flags: all that a probe finds, by groups. On the device there
                        // are also (count) tau, clipped and saturated each, a verdict and a total, of step.c
  double *gains;        // (n_gain)
  mb_tensor *on_table, *on_found, *on_gains, *initial; // the same on the device; initial: of scale and flags, before a probe
  int is_moved;         // addresses have changed since the device was told
  int64_t *kept;        // (count) values reported of each matrix
  void *lists;          // room for what kernels are given of all groups, mbi_spectral_sketches and its like
  int probed;           // the factors belong to the matrices as they are
  int changed;          // gains are those of a change that was made, and no probe since
  int64_t nonfinite;    // matrix that the last probe refused, or -1
  mbi_spectral_policy *policy; // or NULL
};

// The norm of a contiguous tensor in any range, found without overflow. *finite = 0 if it holds NaN or Inf.
mb_status mbi_spectral_norm(double *norm, int *finite, mb_tensor *t);

// The plan's arrays, on the host; and the groups' parts of them.
mb_status mbi_spectral_arrays_new(mb_spectral *p);
void mbi_spectral_arrays_free(mb_spectral *p);
// Notes where member i's numbers are.
void mbi_spectral_point(mb_spectral *p, mbi_spectral_group *g, int64_t i, void *data);
// Makes the arrays of the device, and tells it of the addresses; and lets a probe begin: scales are 1, all is taken to be finite.
mb_status mbi_spectral_ready(mb_spectral *p);
mb_status mbi_spectral_begin(mb_spectral *p);
// Tells the device of addresses, scales and gains that the host has changed; waits for nothing.
mb_status mbi_spectral_send(mb_spectral *p);
// Brings all that the device has found to the host: the one copy of a probe.
mb_status mbi_spectral_fetch(mb_spectral *p);

// Numbers of all that is found on the device.
int64_t mbi_spectral_numbers(const mb_spectral *p);

// All of a probe that the device does by itself.
mb_status mbi_spectral_launch(mb_spectral *p, mbi_rng_key key);
// The change that the gains on the device ask for: of a group, of all.
mb_status mbi_spectral_change_group(const mb_spectral *p, const mbi_spectral_group *g);
mb_status mbi_spectral_change_all(const mb_spectral *p);
void mbi_spectral_policy_free(mb_spectral *p);

// Brings the addresses of the matrices up to date and forgets their scales: the beginning of every probe.
mb_status mbi_spectral_refresh(mb_spectral *p);
// The rounds of all sketches of a dtype. After them the rows of x are a basis of what the matrices map to the span wanted, or without
// rounds those of y an orthonormal basis of that span itself. The host waits for nothing; the flags say what is finite.
mb_status mbi_spectral_subspace(mb_spectral *p, mb_dtype dtype, mbi_rng_key key);

// Whether the gains ask for a change of member i.
int mbi_spectral_changes(const mbi_spectral_group *g, int64_t i);

// With warm_start: bases for all sketches, with nothing in them; and what this probe has found, for the next one, of matrices that
// have the flags wanted.
mb_status mbi_spectral_make_bases(mb_spectral *p);
mb_status mbi_spectral_remember(mb_spectral *p, int64_t wanted);

// The change of every matrix of a group of WHOLE that has a gain.
mb_status mbi_spectral_polar(const mbi_spectral_group *g);
mb_status mbi_spectral_soft(const mbi_spectral_group *g);

// The largest number that the matrices of a group hold.
double mbi_spectral_limit(const mbi_spectral_group *g);
// Moves a group of which a member that changes is extreme into copies, before the change; and after it takes the scales off
// copies again and refuses those that the matrices cannot hold.
mb_status mbi_spectral_stage(mb_spectral *p, mbi_spectral_group *g);
mb_status mbi_spectral_settle(mbi_spectral_group *g, const char *who);

// Some members of a group, worked on together.
typedef struct mbi_spectral_chunk {
  const mbi_spectral_group *g;
  int64_t *member;  // (count) 0 to g->count - 1
  int64_t count;
  double least;     // at most that of every member
} mbi_spectral_chunk;
// Calls `work` until every member with a gain and tau > 0 has been in a chunk; `bytes` is what it needs for one.
mb_status mbi_spectral_by_chunks(const mbi_spectral_group *g, int64_t bytes, double (*least)(const mbi_spectral_group *g, int64_t i),
                                 mb_status (*work)(const mbi_spectral_chunk *chunk));
double mbi_spectral_tau(const mbi_spectral_group *g, int64_t i); // of member i, as its scaled matrix sees it
// x (m, n) = factor scale G of member i.
mb_status mbi_spectral_load(const mbi_view *x, const mbi_spectral_group *g, int64_t i, double factor);

// The groups of a kind and a dtype, for a call that takes all of them; *count of them, in the plan's own room until the next such
// function is called. What passes over a member is `wanted`.
mbi_sketch *mbi_spectral_sketches(const mb_spectral *p, mb_dtype dtype, int64_t wanted, int64_t *count);
mbi_arrays *mbi_spectral_arrays_list(const mb_spectral *p, mbi_spectral_kind kind, mb_dtype dtype, int64_t *count);
mbi_sketch mbi_spectral_sketch_of(const mbi_spectral_group *g);
mbi_gram mbi_spectral_gram_of(const mbi_spectral_group *g);
mbi_arrays mbi_spectral_arrays_of(const mbi_spectral_group *g);
const mbi_kernels *mbi_spectral_kernels(const mbi_spectral_group *g);
#endif

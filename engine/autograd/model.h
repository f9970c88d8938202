// SPDX-License-Identifier: MIT
//
// model.h: the inside of a model. model.c keeps the list of parameters, arena.c lays them out in memory.
//
// Layout. Parameters of one role and shape form a group and lie one after another, so that a group is one
// dense (L, shape...) view; a group begins at a multiple of MBI_ARENA_ALIGN elements. What lies between two
// groups belongs to nobody and holds zeros in every flat buffer. The layout does not depend on the dtype.
#ifndef MBI_MODEL_H
#define MBI_MODEL_H
#include "core/tensor.h"

enum {
  MBI_NAME_BYTES = 128,
  MBI_ARENA_ALIGN = 16, // elements: 64 bytes of f32
};

typedef struct mbi_parameter {
  char name[MBI_NAME_BYTES];
  mbi_shape shape;
  mb_role role;
  mb_init init;
  double scale;      // of the initial values
  int64_t group;     // set by build, as are the rest
  int64_t begin;     // of the arena, in elements
  mb_tensor *weight; // a leaf, a view of `values`; its gradient is a view of `gradients`
} mbi_parameter;

typedef struct mbi_group {
  mb_role role;
  mbi_shape shape; // of one member
  int64_t members;
  int64_t begin; // of the arena, in elements
} mbi_group;

struct mb_model {
  int refs;
  char name[MBI_NAME_BYTES];
  int training;
  mb_dtype compute;  // what the network computes with; parameters have it too, but for bf16, whose are float32
  mb_rounding rounding; // of weights to `compute`
  int64_t count, capacity;
  mbi_parameter *parameters; // in the order they were added
  int64_t group_count;
  mbi_group *groups; // in the order of their first members
  int64_t size;      // of the arena, in elements, gaps included
  mb_tensor *values, *gradients; // (size); NULL before build
  mb_tensor *refusal;            // (1) of float64, not 0 where a clipper on the device refused the gradients; NULL on the CPU at first
  int is_guarded;                // `refusal` speaks of the gradients that there are
  void *config;
};

// Checks that the model is not NULL, and that the index names a parameter.
mb_status mbi_model_check(const mb_model *model, const char *who);
mb_status mbi_model_check_index(const mb_model *model, const char *who, int64_t index);

// ----- refused gradients (refusal.c) ----------------------------------------------------------------------------

// Makes the number, on the model's device.
mb_status mbi_model_guard(mb_model *model);
// The number, for a clipper to make 1 where it refuses; where *is_first it makes it 0 otherwise, and else leaves it. A clipper that has
// done so, or has given that work to the device, calls mbi_model_refused.
double *mbi_model_refusing(int *is_first, const mb_model *model);
void mbi_model_refused(mb_model *model);
// The gradients are zeroed: nobody has refused them.
mb_status mbi_model_forgive(mb_model *model);
// The number, for an update that must not be made where it is not 0; NULL where no clipper has seen these gradients.
const double *mbi_model_refusal(const mb_model *model);
#endif

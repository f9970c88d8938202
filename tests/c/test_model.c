// SPDX-License-Identifier: MIT
//
// test_model.c: the parameter arena: layout, groups, views and ranges, initial values, lazily cleared
// gradients, and wrong use.
#include "check.h"

static int64_t live(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.live_tensors;
}

static int64_t live_bytes(void) {
  mb_memory_stats stats;
  mb_memory(&stats);
  return stats.bytes_live;
}

static void add(mb_model *model, const char *name, int64_t rows, int64_t columns, mb_role role, mb_init init, double scale) {
  int64_t shape[2] = {rows, columns};
  CHECK_OK(mb_model_add(model, name, columns ? 2 : 1, shape, role, init, scale));
}

// Two layers of a matrix (3, 5), a vector (7) and a square matrix, between an embedding and a lone (3, 5)
// matrix of another role: 5 groups, whose sizes are no multiple of the alignment.
static mb_model *small_model(mb_dtype dtype) {
  mb_model *model;
  CHECK_OK(mb_model_new(&model, "small"));
  add(model, "table", 11, 5, MB_ROLE_EMBEDDING, MB_INIT_NORMAL, 0.5);
  add(model, "0.w", 3, 5, MB_ROLE_MATRIX, MB_INIT_NORMAL, 1.0);
  add(model, "0.b", 7, 0, MB_ROLE_VECTOR, MB_INIT_ZEROS, 0);
  add(model, "0.square", 4, 4, MB_ROLE_MATRIX, MB_INIT_UNIFORM, 0.25);
  add(model, "1.w", 3, 5, MB_ROLE_MATRIX, MB_INIT_NORMAL, 1.0);
  add(model, "1.b", 7, 0, MB_ROLE_VECTOR, MB_INIT_ONES, 0);
  add(model, "1.square", 4, 4, MB_ROLE_MATRIX, MB_INIT_UNIFORM, 0.25);
  add(model, "head", 3, 5, MB_ROLE_HEAD, MB_INIT_NORMAL, 1.0);
  CHECK_EQ(mb_model_weight(model, 0) == NULL, 1);
  CHECK_OK(mb_model_build(model, dtype, MB_CPU, 42));
  return model;
}

static int64_t arena_size(mb_model *model) {
  mb_tensor *values;
  CHECK_OK(mb_model_values(&values, model));
  int64_t n = mb_tensor_numel(values);
  mb_tensor_release(values);
  return n;
}

static double at(mb_tensor *t, int64_t i) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  return mb_tensor_dtype(t) == MB_F64 ? ((double *)data)[i] : (double)((float *)data)[i];
}

// Writes one number into all of t (f32).
static void put(mb_tensor *t, float value) {
  void *data;
  CHECK_OK(mb_tensor_data(&data, t));
  for (int64_t i = 0; i < mb_tensor_numel(t); i++) ((float *)data)[i] = value;
}

static void names_keep_their_order(void) {
  mb_model *model = small_model(MB_F32);
  CHECK_EQ(mb_model_count(model), 8);
  CHECK_EQ(mb_model_find(model, "1.b"), 5);
  CHECK_EQ(mb_model_find(model, "2.b"), -1);
  CHECK(strcmp(mb_model_name(model, 7), "head") == 0);
  CHECK(mb_model_name(model, 8) == NULL && mb_model_name(model, -1) == NULL);
  CHECK_EQ(mb_model_role(model, 0), MB_ROLE_EMBEDDING);
  CHECK_EQ(mb_model_role(model, 7), MB_ROLE_HEAD);
  mb_tensor *w;
  CHECK_OK(mb_model_parameter(&w, model, 4));
  CHECK(w == mb_model_weight(model, 4) && mb_requires_grad(w));
  CHECK_EQ(mb_tensor_shape(w)[0], 3);
  CHECK_EQ(mb_tensor_shape(w)[1], 5);
  mb_model_release(model);
  CHECK(mb_tensor_is_live(w)); // a parameter may outlive its model
  mb_tensor_release(w);
}

static void groups_are_dense_and_aligned(void) {
  mb_model *model = small_model(MB_F32);
  mb_tensor *values, *view, *single;
  CHECK_OK(mb_model_values(&values, model));
  CHECK_EQ(mb_model_group_count(model), 5);
  CHECK_EQ(mb_model_group_of(model, 1), mb_model_group_of(model, 4));
  CHECK(mb_model_group_of(model, 1) != mb_model_group_of(model, 7)); // same shape, other role
  CHECK_EQ(mb_model_group_of(model, 8), -1);
  int64_t covered = 0, begin, end, other_begin, other_end;
  for (int64_t i = 0; i < 8; i++) {
    CHECK_OK(mb_model_range(&begin, &end, model, i));
    CHECK_EQ(end - begin, mb_tensor_numel(mb_model_weight(model, i)));
    covered += end - begin;
    for (int64_t k = 0; k < i; k++) {
      CHECK_OK(mb_model_range(&other_begin, &other_end, model, k));
      CHECK(end <= other_begin || other_end <= begin);
    }
  }
  CHECK_EQ(covered, 55 + 2 * (15 + 7 + 16) + 15);
  for (int64_t g = 0; g < 5; g++) {
    CHECK_OK(mb_model_group_view(&view, model, values, g));
    void *data;
    CHECK_OK(mb_tensor_data(&data, view));
    CHECK_EQ((uintptr_t)data % 64, 0);
    CHECK(mb_tensor_is_contiguous(view));
    int64_t member = 0;
    for (int64_t i = 0; i < 8; i++) {
      if (mb_model_group_of(model, i) != g) continue;
      CHECK_OK(mb_model_view(&single, model, values, i));
      void *here;
      CHECK_OK(mb_tensor_data(&here, single));
      CHECK_EQ((float *)here - (float *)data, member * mb_tensor_numel(single));
      void *weight;
      CHECK_OK(mb_tensor_data(&weight, mb_model_weight(model, i)));
      CHECK(here == weight);
      mb_tensor_release(single);
      member++;
    }
    CHECK_EQ(mb_tensor_shape(view)[0], member);
    mb_tensor_release(view);
  }
  mb_tensor_release(values);
  mb_model_release(model);
}

static void initial_values_depend_on_the_seed_alone(void) {
  mb_model *model = small_model(MB_F64), *single = small_model(MB_F32);
  mb_tensor *flat;
  CHECK_OK(mb_model_values(&flat, model));
  mb_rng_seed(42); // stream 1 at step 0, as parameter 1 got it
  int64_t shape[2] = {3, 5};
  mb_tensor *skipped, *expected;
  CHECK_OK(mb_randn(&skipped, MB_F64, 2, shape, MB_CPU));
  CHECK_OK(mb_randn(&expected, MB_F64, 2, shape, MB_CPU));
  for (int64_t i = 0; i < 15; i++) {
    CHECK_NEAR(at(mb_model_weight(model, 1), i), at(expected, i), 0);
    CHECK_NEAR(at(mb_model_weight(single, 1), i), at(expected, i), 1e-6);
  }
  for (int64_t i = 0; i < 16; i++) CHECK(fabs(at(mb_model_weight(model, 3), i)) <= 0.25);
  for (int64_t i = 0; i < 7; i++) {
    CHECK_NEAR(at(mb_model_weight(model, 2), i), 0, 0);
    CHECK_NEAR(at(mb_model_weight(model, 5), i), 1, 0);
  }
  // Every element that belongs to no parameter is zero.
  double inside = 0, all = 0;
  for (int64_t i = 0; i < 8; i++)
    for (int64_t k = 0; k < mb_tensor_numel(mb_model_weight(model, i)); k++) inside += fabs(at(mb_model_weight(model, i), k));
  for (int64_t k = 0; k < mb_tensor_numel(flat); k++) all += fabs(at(flat, k));
  CHECK_NEAR(all, inside, 1e-12);
  mb_tensor_release(flat), mb_tensor_release(skipped), mb_tensor_release(expected);
  mb_model_release(model), mb_model_release(single);
}

// loss = sum of c w over one parameter: its gradient is c everywhere.
static void backward_through(mb_model *model, int64_t index, double c) {
  mb_tensor *scaled, *seed;
  mb_tensor *w = mb_model_weight(model, index);
  CHECK_OK(mb_affine(&scaled, w, c, 0.0));
  CHECK_OK(mb_full(&seed, mb_tensor_dtype(w), mb_tensor_ndim(w), mb_tensor_shape(w), MB_CPU, 1.0));
  CHECK_OK(mb_backward(scaled, seed));
  mb_tensor_release(scaled), mb_tensor_release(seed);
}

static double gradient_sum(mb_model *model) {
  mb_tensor *flat;
  CHECK_OK(mb_model_gradients(&flat, model));
  double sum = 0;
  for (int64_t i = 0; i < mb_tensor_numel(flat); i++) sum += at(flat, i);
  mb_tensor_release(flat);
  return sum;
}

static void gradients_live_in_the_flat_buffer(void) {
  mb_model *model = small_model(MB_F64);
  CHECK_NEAR(gradient_sum(model), 0, 0);
  mb_tensor *g;
  CHECK_OK(mb_model_gradient(&g, model, 1));
  backward_through(model, 1, 2.0);
  backward_through(model, 4, 1.0);
  CHECK_NEAR(at(g, 14), 2, 0); // the address of a gradient never changes
  CHECK_NEAR(gradient_sum(model), 45, 0);
  backward_through(model, 1, 2.0); // adds up
  CHECK_NEAR(gradient_sum(model), 75, 0);
  // After zero_grad old values are gone for every way of looking, also where no backward went.
  CHECK_OK(mb_model_zero_grad(model));
  backward_through(model, 1, 3.0);
  CHECK_NEAR(gradient_sum(model), 45, 0);
  CHECK_OK(mb_model_zero_grad(model));
  mb_tensor *other;
  CHECK_OK(mb_model_gradient(&other, model, 4));
  CHECK_NEAR(at(other, 0), 0, 0);
  mb_tensor_release(other);
  backward_through(model, 1, 2.0);
  CHECK_OK(mb_model_zero_grad(model));
  CHECK_OK(mb_model_settle_gradients(model)); // also for a handle that was there before
  CHECK_NEAR(at(g, 14), 0, 0);
  // Dropping a handle's memory does not take the model's.
  mb_tensor_discard(g, "the test says so");
  backward_through(model, 1, 1.0);
  CHECK_NEAR(gradient_sum(model), 15, 0);
  mb_tensor_release(g);
  mb_model_release(model);
}

// The tape sees changes made through the flat buffer.
static void flat_changes_count_as_changes(void) {
  mb_model *model = small_model(MB_F64);
  mb_tensor *flat, *y;
  CHECK_OK(mb_model_values(&flat, model));
  CHECK_OK(mb_square(&y, mb_model_weight(model, 1)));
  CHECK_FAILS(MB_ERR_STATE, "still needed", mb_randn_(flat, 0, 1));
  mb_tensor_release(y);
  double before = at(mb_model_weight(model, 1), 0);
  CHECK_OK(mb_randn_(flat, 0, 1));
  CHECK(at(mb_model_weight(model, 1), 0) != before);
  mb_tensor_release(flat);
  mb_model_release(model);
}

static void states_are_zero_even_from_used_memory(void) {
  mb_model *model = small_model(MB_F32);
  int64_t size = arena_size(model);
  mb_tensor *used, *state;
  CHECK_OK(mb_full(&used, MB_F32, 1, &size, MB_CPU, 7.0));
  mb_tensor_release(used);
  CHECK_OK(mb_model_state(&state, model));
  CHECK_EQ(mb_tensor_numel(state), size);
  for (int64_t i = 0; i < size; i++) CHECK(at(state, i) == 0);
  mb_tensor_release(state);
  mb_model_release(model);
  // The same for blocks large enough to be mapped by themselves.
  CHECK_OK(mb_model_new(&model, "large"));
  add(model, "w", 1500, 1000, MB_ROLE_MATRIX, MB_INIT_ONES, 0);
  CHECK_OK(mb_model_build(model, MB_F32, MB_CPU, 1));
  for (int pass = 0; pass < 2; pass++) {
    CHECK_OK(mb_model_state(&state, model));
    CHECK_NEAR(at(state, 0) + at(state, 749999) + at(state, 1499999), 0, 0);
    put(state, 3.0f);
    mb_tensor_release(state);
  }
  mb_model_release(model);
}

static void finds_the_first_that_is_not_finite(void) {
  mb_model *model = small_model(MB_F32);
  mb_tensor *flat, *view;
  int64_t index;
  CHECK_OK(mb_model_gradients(&flat, model));
  CHECK_OK(mb_model_find_nonfinite(&index, model, flat));
  CHECK_EQ(index, -1);
  CHECK_OK(mb_model_view(&view, model, flat, 6));
  put(view, INFINITY);
  mb_tensor_release(view);
  CHECK_OK(mb_model_find_nonfinite(&index, model, flat));
  CHECK_EQ(index, 6);
  CHECK_OK(mb_model_view(&view, model, flat, 4)); // earlier in order, later in the arena than its group's first
  put(view, NAN);
  mb_tensor_release(view);
  CHECK_OK(mb_model_find_nonfinite(&index, model, flat));
  CHECK_EQ(index, 4);
  mb_tensor_release(flat);
  mb_model_release(model);
}

static void configs_are_checked_by_name(void) {
  struct {
    double a;
    int b;
  } config = {2.5, 7};
  mb_model *model = small_model(MB_F32);
  const void *found;
  CHECK_FAILS(MB_ERR_STATE, "no configuration", mb_model_config(&found, model, "small"));
  CHECK_OK(mb_model_set_config(model, &config, sizeof config));
  CHECK_OK(mb_model_config(&found, model, "small"));
  CHECK(memcmp(found, &config, sizeof config) == 0);
  CHECK_FAILS(MB_ERR_ARG, "is a 'small', a 'gpt2'", mb_model_config(&found, model, "gpt2"));
  CHECK(found == NULL);
  CHECK_FAILS(MB_ERR_ARG, "empty", mb_model_set_config(model, NULL, 4));
  CHECK_EQ(mb_model_compute(model), MB_F32);
  CHECK_EQ(mb_model_rounding(model), MB_ROUND_NEAREST);
  CHECK_OK(mb_model_set_rounding(model, MB_ROUND_NEAREST));
  CHECK_FAILS(MB_ERR_ARG, "model 'small' computes with f32; only weights that are cast to bf16 are rounded",
              mb_model_set_rounding(model, MB_ROUND_STOCHASTIC));
  CHECK_FAILS(MB_ERR_ARG, "unknown rounding 7", mb_model_set_rounding(model, (mb_rounding)7));
  CHECK_EQ(mb_model_rounding(model), MB_ROUND_NEAREST);
  mb_tensor *cast, *computed, *state;
  CHECK_OK(mb_model_cast(&cast, model));
  CHECK(cast == NULL);
  CHECK_OK(mb_model_computed(&computed, model, cast, 2));
  CHECK(computed == mb_model_weight(model, 2));
  mb_tensor_release(computed);
  CHECK_FAILS(MB_ERR_ARG, "mb_model_computed: model 'small' has no parameter 8", mb_model_computed(&computed, model, cast, 8));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_model_computed: flat has shape", mb_model_computed(&computed, model, mb_model_weight(model, 2), 2));
  CHECK_OK(mb_model_state(&state, model));
  CHECK_OK(mb_model_computed(&computed, model, state, 2));
  CHECK(computed != mb_model_weight(model, 2) && mb_requires_grad(computed));
  mb_tensor_release(computed);
  mb_tensor_release(state);
  mb_tf32_set(1); // of products on CUDA alone; here it is only remembered
  CHECK_EQ(mb_tf32(), 1);
  mb_tf32_set(0);
  CHECK_EQ(mb_tf32(), 0);
  mb_deterministic_set(0); // of attention on CUDA alone
  CHECK_EQ(mb_deterministic(), 0);
  mb_deterministic_set(1);
  CHECK_EQ(mb_deterministic(), 1);
  CHECK_EQ(mb_model_training(model), 1);
  mb_model_set_training(model, 0);
  CHECK_EQ(mb_model_training(model), 0);
  mb_model_retain(model);
  mb_model_release(model);
  CHECK_EQ(mb_model_count(model), 8);
  mb_model_release(model);
}

static void wrong_use_is_refused(void) {
  mb_model *model;
  int64_t shape[2] = {4, 4}, begin, end, index;
  char longest[128], too_long[129];
  memset(longest, 'x', 127), longest[127] = 0;
  memset(too_long, 'x', 128), too_long[128] = 0;
  CHECK_FAILS(MB_ERR_ARG, "empty", mb_model_new(&model, ""));
  CHECK(model == NULL);
  CHECK_OK(mb_model_new(&model, "m"));
  CHECK_FAILS(MB_ERR_ARG, "NULL", mb_model_add(NULL, "w", 2, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_STATE, "no parameters", mb_model_build(model, MB_F32, MB_CPU, 1));
  CHECK_OK(mb_model_add(model, longest, 2, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_ARG, "128 bytes", mb_model_add(model, too_long, 2, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_OK(mb_model_add(model, "w", 2, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_ARG, "already has a parameter 'w'", mb_model_add(model, "w", 2, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "(4)", mb_model_add(model, "v", 1, shape, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_ARG, "scale", mb_model_add(model, "v", 1, shape, MB_ROLE_VECTOR, MB_INIT_NORMAL, -1));
  CHECK_FAILS(MB_ERR_ARG, "unknown role 9", mb_model_add(model, "v", 1, shape, (mb_role)9, MB_INIT_NORMAL, 1));
  CHECK_FAILS(MB_ERR_ARG, "unknown init 9", mb_model_add(model, "v", 1, shape, MB_ROLE_VECTOR, (mb_init)9, 1));
  shape[1] = 0;
  CHECK_FAILS(MB_ERR_SHAPE, "(4, 0)", mb_model_add(model, "v", 2, shape, MB_ROLE_MATRIX, MB_INIT_NORMAL, 1));
  mb_tensor *t;
  CHECK_FAILS(MB_ERR_STATE, "not built", mb_model_values(&t, model));
  CHECK_FAILS(MB_ERR_STATE, "not built", mb_model_range(&begin, &end, model, 0));
  CHECK_FAILS(MB_ERR_DTYPE, "i32", mb_model_build(model, MB_I32, MB_CPU, 1));
  CHECK_OK(mb_model_build(model, MB_F32, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_STATE, "built already", mb_model_build(model, MB_F32, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_STATE, "too late", mb_model_add(model, "v", 1, shape, MB_ROLE_VECTOR, MB_INIT_ZEROS, 0));
  CHECK_FAILS(MB_ERR_ARG, "no parameter 2, it has 2", mb_model_parameter(&t, model, 2));
  CHECK_FAILS(MB_ERR_ARG, "no parameter -1", mb_model_gradient(&t, model, -1));
  mb_tensor *flat = NULL;
  CHECK_OK(mb_full(&flat, MB_F32, 2, (int64_t[]){4, 8}, MB_CPU, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "(4, 8)", mb_model_view(&t, model, flat, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "shape (32)", mb_model_find_nonfinite(&index, model, flat));
  mb_tensor_release(flat);
  CHECK_OK(mb_model_values(&flat, model));
  CHECK_FAILS(MB_ERR_ARG, "no group 1, it has 1", mb_model_group_view(&t, model, flat, 1));
  mb_tensor_release(flat);
  mb_model_release(model);
  // Too large for any memory: an error, not an overflow.
  CHECK_OK(mb_model_new(&model, "huge"));
  int64_t huge[2] = {(int64_t)1 << 30, (int64_t)1 << 29};
  for (int i = 0; i < 40; i++) {
    char name[16];
    snprintf(name, sizeof name, "w%d", i);
    CHECK_OK(mb_model_add(model, name, 2, huge, MB_ROLE_MATRIX, MB_INIT_ZEROS, 0));
  }
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mb_model_build(model, MB_F32, MB_CPU, 1));
  mb_model_release(model);
}

// Every allocation of a model's life fails once; nothing may leak, and the same model can then be built.
static void failed_allocations_leak_nothing(void) {
  int64_t tensors = live(), bytes = live_bytes();
  int failures = 0;
  for (int64_t n = 1;; n++) {
    mb_model *model;
    mb_tensor *state = NULL, *view = NULL;
    mb_debug_fail_allocation(n);
    mb_status status = mb_model_new(&model, "m");
    if (status == MB_OK) status = mb_model_add(model, "a", 2, (int64_t[]){3, 4}, MB_ROLE_MATRIX, MB_INIT_NORMAL, 1);
    if (status == MB_OK) status = mb_model_add(model, "b", 1, (int64_t[]){3}, MB_ROLE_VECTOR, MB_INIT_NORMAL, 1);
    if (status == MB_OK) status = mb_model_build(model, MB_F32, MB_CPU, 3);
    if (status == MB_OK) status = mb_model_state(&state, model);
    if (status == MB_OK) status = mb_model_view(&view, model, state, 1);
    mb_debug_fail_allocation(0);
    mb_tensor_release(view), mb_tensor_release(state);
    if (status != MB_OK) {
      failures++;
      CHECK_EQ(status, MB_ERR_NOMEM);
      if (model && mb_model_count(model) == 2 && !mb_model_weight(model, 0)) CHECK_OK(mb_model_build(model, MB_F32, MB_CPU, 3));
    }
    mb_model_release(model);
    CHECK_EQ(live(), tensors);
    CHECK_EQ(live_bytes(), bytes);
    if (status == MB_OK) break;
  }
  CHECK(failures >= 10);
}

int main(void) {
  int64_t before = live();
  names_keep_their_order();
  groups_are_dense_and_aligned();
  initial_values_depend_on_the_seed_alone();
  gradients_live_in_the_flat_buffer();
  flat_changes_count_as_changes();
  states_are_zero_even_from_used_memory();
  finds_the_first_that_is_not_finite();
  configs_are_checked_by_name();
  wrong_use_is_refused();
  failed_allocations_leak_nothing();
  CHECK_EQ(live(), before);
  return check_end();
}

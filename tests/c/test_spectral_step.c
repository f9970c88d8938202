// SPDX-License-Identifier: MIT
//
// test_spectral_step.c: the call that asks a policy on the device: what it refuses, what it leaves behind when memory runs out. What
// it computes is held to the Lua policies in tests/lua/clip_device_spec.lua.
#include "check.h"
#include "seed.h"

static mb_spectral *plan_of(mb_tensor *const *t, int64_t count, mb_spectral_options o) {
  mb_spectral *plan;
  CHECK_OK(mb_spectral_new(&plan, t, count, &o));
  return plan;
}

static void wrong_arguments_are_named(void) {
  mb_tensor *t[2];
  int64_t threshold[2] = {0, 1}, call;
  double state[4];
  CHECK_OK(mb_randn(&t[0], MB_F32, 2, (int64_t[]){20, 30}, MB_CPU));
  CHECK_OK(mb_randn(&t[1], MB_F32, 1, (int64_t[]){4}, MB_CPU));
  mb_policy_options ema = {.kind = MB_POLICY_EMA, .beta = 0.9}, rule = ema;
  mb_spectral *plan = plan_of(t, 2, (mb_spectral_options){.method = MB_SPECTRAL_EXACT});
  CHECK_EQ(mb_spectral_policy_width(plan), 0);
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_step: the plan has no policy", mb_spectral_step(plan, &call));
  CHECK_FAILS(MB_ERR_STATE, "call mb_spectral_policy first", mb_spectral_policy_state(plan, state, NULL));
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_replaying: the plan has no policy", mb_spectral_replaying(plan));
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_replayed: call is NULL", mb_spectral_replayed(plan, NULL));
  CHECK_FAILS(MB_ERR_ARG, "threshold is NULL", mb_spectral_policy(plan, &ema, NULL, 2));
  CHECK_FAILS(MB_ERR_ARG, "the policy is NULL", mb_spectral_policy(plan, NULL, threshold, 2));
  CHECK_FAILS(MB_ERR_ARG, "matrix 1 has threshold 1 of 1", mb_spectral_policy(plan, &ema, threshold, 1));
  rule.beta = 1;
  CHECK_FAILS(MB_ERR_ARG, "beta is 1, a number from 0 and below 1", mb_spectral_policy(plan, &rule, threshold, 2));
  rule = (mb_policy_options){.kind = MB_POLICY_QUANTILE, .q = 2, .window = 3};
  CHECK_FAILS(MB_ERR_ARG, "q is 2", mb_spectral_policy(plan, &rule, threshold, 2));
  rule.q = 0.5, rule.window = 0;
  CHECK_FAILS(MB_ERR_ARG, "window is 0", mb_spectral_policy(plan, &rule, threshold, 2));
  rule = (mb_policy_options){.kind = MB_POLICY_ZSCORE, .z = 2, .alpha = 0.9};
  CHECK_FAILS(MB_ERR_ARG, "warmup 0", mb_spectral_policy(plan, &rule, threshold, 2));
  rule = (mb_policy_options){.kind = MB_POLICY_CONST, .tau = -1};
  CHECK_FAILS(MB_ERR_ARG, "tau is -1, at least 0 was expected", mb_spectral_policy(plan, &rule, threshold, 2));
  rule.kind = (mb_policy_kind)9;
  CHECK_FAILS(MB_ERR_ARG, "unknown kind 9", mb_spectral_policy(plan, &rule, threshold, 2));
  CHECK_OK(mb_spectral_policy(plan, &ema, threshold, 2));
  CHECK_EQ(mb_spectral_policy_width(plan), 2);
  CHECK_FAILS(MB_ERR_ARG, "call is NULL", mb_spectral_step(plan, NULL));
  CHECK_FAILS(MB_ERR_STATE, "the result of call 0 is asked for after 0 calls", mb_spectral_outcome(plan, 0, NULL, NULL, NULL, NULL));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_OK(mb_spectral_outcome(plan, call, NULL, NULL, NULL, NULL));
  CHECK_FAILS(MB_ERR_STATE, "call mb_spectral_probe first", mb_spectral_clamp(plan, state, NULL, NULL));
  mb_spectral_release(plan);
  static const mb_spectral_options unfit[] = {
    {.method = MB_SPECTRAL_POLAR}, {.method = MB_SPECTRAL_SOFT},
  };
  for (int i = 0; i < 2; i++) {
    plan = plan_of(t, 2, unfit[i]);
    CHECK_FAILS(MB_ERR_ARG, "the host between probe and change", mb_spectral_policy(plan, &ema, threshold, 2));
    mb_spectral_release(plan);
  }
  mb_tensor_release(t[0]), mb_tensor_release(t[1]);
}

static void histories_fit_their_window(void) {
  mb_tensor *t;
  int64_t threshold = 0, calls;
  double state[4] = {4, 1, 2, 3}, found[4];
  CHECK_OK(mb_randn(&t, MB_F32, 1, (int64_t[]){4}, MB_CPU));
  mb_spectral *plan = plan_of(&t, 1, (mb_spectral_options){.method = MB_SPECTRAL_EXACT});
  mb_policy_options quantile = {.kind = MB_POLICY_QUANTILE, .q = 0.5, .window = 3};
  CHECK_OK(mb_spectral_policy(plan, &quantile, &threshold, 1));
  CHECK_EQ(mb_spectral_policy_width(plan), 4);
  CHECK_FAILS(MB_ERR_ARG, "threshold 0 has 4 values, 0 to 3 were expected", mb_spectral_policy_state_set(plan, state));
  state[0] = 3, state[1] = 9;
  CHECK_OK(mb_spectral_policy_state_set(plan, state));
  CHECK_OK(mb_spectral_policy_state(plan, found, &calls));
  for (int i = 0; i < 4; i++) CHECK_EQ((int64_t)found[i], (int64_t)state[i]);
  CHECK_EQ(calls, 0);
  int64_t call;
  double tau;
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_OK(mb_spectral_outcome(plan, call, NULL, &tau, NULL, NULL));
  CHECK_NEAR(tau, 3, 0); // of 2, 3, 9
  CHECK_OK(mb_spectral_policy_state(plan, found, &calls));
  CHECK_EQ((int64_t)found[1], 2);
  CHECK_EQ(calls, 1);
  mb_spectral_release(plan);
  mb_tensor_release(t);
}

// 3-4-5 triangles: lengths 5 and 10, which are 5 sqrt(5) together.
static void lengths_are_clipped(void) {
  mb_tensor *t[2];
  mb_spectral *plan;
  int64_t threshold[2] = {0, 0}, call;
  double sigma[2], tau[2], total, held[2];
  int32_t clipped[2];
  for (int i = 0; i < 2; i++) {
    CHECK_OK(mb_randn(&t[i], MB_F64, 2, (int64_t[]){2 - i, 1 + i}, MB_CPU));
    CHECK_OK(mb_tensor_from_host(t[i], i ? (double[]){6, 8} : (double[]){3, 4}));
  }
  plan = plan_of(t, 2, (mb_spectral_options){.method = MB_SPECTRAL_NORM});
  mb_policy_options rule = {.kind = MB_POLICY_MAX_NORM, .tau = 1e9};
  CHECK_FAILS(MB_ERR_STATE, "has no policy", mb_spectral_policy_tau_set(plan, 1));
  CHECK_OK(mb_spectral_policy(plan, &rule, threshold, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_policy_tau_set: tau is nan, at least 0", mb_spectral_policy_tau_set(plan, (double)NAN));
  CHECK_FAILS(MB_ERR_ARG, "mb_graph_set_tau: the graph is NULL", mb_graph_set_tau(NULL, 0, plan));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_OK(mb_spectral_policy_tau_set(plan, 8));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_OK(mb_spectral_outcome(plan, call, sigma, tau, clipped, NULL));
  CHECK_OK(mb_spectral_outcome_total(plan, call, &total));
  CHECK_FAILS(MB_ERR_ARG, "total is NULL", mb_spectral_outcome_total(plan, call, NULL));
  CHECK_NEAR(sigma[0], 5, 0);
  CHECK_NEAR(sigma[1], 10, 0);
  CHECK_NEAR(total, 5 * sqrt(5), 1e-15);
  CHECK_NEAR(tau[1], 8, 0);
  CHECK(!clipped[0] && clipped[1]);
  CHECK_OK(mb_tensor_to_host(held, t[1]));
  CHECK_NEAR(held[0], 6 * (8 / (10 + 1e-6)), 0);
  CHECK_OK(mb_tensor_to_host(held, t[0]));
  CHECK_NEAR(held[1], 4, 0);
  mb_spectral_release(plan);
  plan = plan_of(t, 2, (mb_spectral_options){.method = MB_SPECTRAL_EXACT});
  CHECK_FAILS(MB_ERR_ARG, "MAX_NORM is for plans of NORM", mb_spectral_policy(plan, &rule, threshold, 1));
  rule = (mb_policy_options){.kind = MB_POLICY_EMA, .beta = 0.9};
  CHECK_OK(mb_spectral_policy(plan, &rule, threshold, 1));
  CHECK_FAILS(MB_ERR_ARG, "neither CONST nor MAX_NORM", mb_spectral_policy_tau_set(plan, 1));
  CHECK_FAILS(MB_ERR_ARG, "the plan is not one of NORM", mb_spectral_outcome_total(plan, 0, &total));
  mb_spectral_release(plan);
  mb_tensor_release(t[0]), mb_tensor_release(t[1]);
}

// w = 1 wherever the program is run.
static mb_program *program_of_one(void) {
  mb_program *p;
  int one;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_constant(&one, p, 1));
  CHECK_OK(mb_program_store(p, 0, one));
  return p;
}

static double run_guarded(mb_program *p, mb_tensor *w, const mb_model *guard) {
  const mb_fuse_part all = {.rows = 1, .columns = 3, .is_group = 1, .is_stored = 1};
  float first[3];
  CHECK_OK(mb_fill_(w, 0));
  CHECK_OK(mb_program_run_sets(p, &w, 1, NULL, 0, 1, &all, 1, 3, guard));
  CHECK_OK(mb_tensor_to_host(first, w));
  return first[0];
}

static void refused_gradients_move_nothing(void) {
  mb_model *model;
  mb_tensor *g, *w;
  int64_t threshold[1] = {0}, call;
  CHECK_OK(mb_model_new(&model, "one"));
  CHECK_OK(mb_model_add(model, "w", 1, (int64_t[]){3}, MB_ROLE_VECTOR, MB_INIT_ONES, 0));
  CHECK_OK(mb_full(&w, MB_F32, 1, (int64_t[]){3}, MB_CPU, 0));
  mb_spectral *plan = plan_of(&w, 1, (mb_spectral_options){.method = MB_SPECTRAL_NORM});
  mb_policy_options rule = {.kind = MB_POLICY_MAX_NORM, .tau = 1};
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_policy_guard: the plan has no policy", mb_spectral_policy_guard(plan, model));
  CHECK_OK(mb_spectral_policy(plan, &rule, threshold, 1));
  CHECK_FAILS(MB_ERR_ARG, "mb_spectral_policy_guard: the model is NULL", mb_spectral_policy_guard(plan, NULL));
  CHECK_FAILS(MB_ERR_STATE, "mb_spectral_policy_guard: model 'one' has not been built", mb_spectral_policy_guard(plan, model));
  mb_spectral_release(plan);
  CHECK_OK(mb_model_build(model, MB_F32, MB_CPU, 1));
  CHECK_OK(mb_model_gradients(&g, model));
  plan = plan_of(&g, 1, (mb_spectral_options){.method = MB_SPECTRAL_NORM});
  CHECK_OK(mb_spectral_policy(plan, &rule, threshold, 1));
  CHECK_OK(mb_spectral_policy_guard(plan, model));
  CHECK_OK(mb_spectral_policy_guard(plan, model));
  mb_program *p = program_of_one();
  CHECK_NEAR(run_guarded(p, w, model), 1, 0);
  CHECK_OK(mb_fill_(g, (double)NAN));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 0, 0);
  CHECK_NEAR(run_guarded(p, w, NULL), 1, 0);
  CHECK_OK(mb_model_zero_grad(model));
  CHECK_NEAR(run_guarded(p, w, model), 1, 0);
  // Heard of, and clipped anew.
  CHECK_OK(mb_fill_(g, 2));
  CHECK_FAILS(MB_ERR_NONFINITE, "in the call before", mb_spectral_step(plan, &call));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 1, 0);
  // The same without zeroing.
  CHECK_OK(mb_fill_(g, (double)INFINITY));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 0, 0);
  CHECK_OK(mb_fill_(g, 2));
  CHECK_FAILS(MB_ERR_NONFINITE, "in the call before", mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 0, 0);
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 1, 0);
  // Zeroed by who knows what was.
  CHECK_OK(mb_fill_(g, (double)NAN));
  CHECK_OK(mb_spectral_step(plan, &call));
  CHECK_NEAR(run_guarded(p, w, model), 0, 0);
  CHECK_OK(mb_model_forgive(model));
  CHECK_NEAR(run_guarded(p, w, model), 1, 0);
  CHECK_FAILS(MB_ERR_ARG, "mb_model_forgive: model is NULL", mb_model_forgive(NULL));
  mb_program_release(p);
  mb_spectral_release(plan);
  mb_tensor_release(g), mb_tensor_release(w);
  mb_model_release(model);
}

static void failing_allocations_leave_nothing(void) {
  mb_memory_stats before, after;
  mb_tensor *t[2];
  CHECK_OK(mb_randn(&t[0], MB_F32, 2, (int64_t[]){24, 30}, MB_CPU));
  CHECK_OK(mb_randn(&t[1], MB_F32, 2, (int64_t[]){6, 5}, MB_CPU));
  mb_memory(&before);
  for (int64_t nth = 1;; nth++) {
    mb_spectral *plan = NULL;
    mb_tensor *basis = NULL;
    mb_spectral_options o = {.method = MB_SPECTRAL_RANDOMIZED, .rank = 3, .oversample = 2, .power_iters = 1, .warm_start = 1};
    mb_policy_options ema = {.kind = MB_POLICY_EMA, .beta = 0.9};
    int64_t threshold[2] = {0, 1}, call;
    double state[4];
    mb_debug_fail_allocation(nth);
    mb_status status = mb_spectral_new(&plan, t, 2, &o);
    if (status == MB_OK) status = mb_spectral_policy(plan, &ema, threshold, 2);
    if (status == MB_OK) status = mb_spectral_step(plan, &call);
    if (status == MB_OK) status = mb_spectral_policy_state(plan, state, NULL);
    if (status == MB_OK) status = mb_spectral_policy_state_set(plan, state);
    if (status == MB_OK) status = mb_spectral_basis(&basis, plan, 0);
    if (status == MB_OK) status = mb_spectral_basis_set(plan, 0, basis);
    mb_debug_fail_allocation(0);
    CHECK(status != MB_OK || basis);
    mb_tensor_release(basis);
    mb_spectral_release(plan);
    mb_memory(&after);
    CHECK_EQ(after.live_tensors, before.live_tensors);
    if (status == MB_OK) break;
    CHECK_EQ(status, MB_ERR_NOMEM);
    CHECK(nth < 500);
  }
  mb_tensor_release(t[0]), mb_tensor_release(t[1]);
}

int main(void) {
  seed_start();
  mb_rng_seed(seed_state);
  wrong_arguments_are_named();
  histories_fit_their_window();
  lengths_are_clipped();
  refused_gradients_move_nothing();
  failing_allocations_leave_nothing();
  return check_end();
}

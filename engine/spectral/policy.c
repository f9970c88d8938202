// SPDX-License-Identifier: MIT
//
// policy.c: a built-in policy for a plan (core/policy.h), which the device asks by itself (step.c): its lists and its state on the
// device, the state as checkpoints have it, a tau that changes between calls, and the model whose updates a refusal stops.
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/model.h"
#include "core/capture.h"
#include "spectral/policy.h"

void mbi_spectral_policy_free(mb_spectral *p) {
  mbi_spectral_policy *policy = p->policy;
  if (!policy) return;
  for (int i = 0; i < MBI_MOST_MAILS; i++)
    if (policy->mail[i]) mbi_device_of(p->device)->mail_free(policy->mail[i]);
  mb_tensor_release(policy->lists), mb_tensor_release(policy->state);
  mb_model_release(policy->guarded);
  mbi_free(policy->gains), mbi_free(policy);
  p->policy = NULL;
}

// ----- a policy for a plan ----------------------------------------------------------------------------------

static mb_status check_rule(const mb_policy_options *o, const char *who) {
  if (!o) MB_FAIL(MB_ERR_ARG, "%s: the policy is NULL", who);
  switch ((int)o->kind) {
    case MB_POLICY_CONST:
    case MB_POLICY_MAX_NORM:
      if (!(o->tau >= 0)) MB_FAIL(MB_ERR_ARG, "%s: tau is %g, at least 0 was expected", who, o->tau);
      return MB_OK;
    case MB_POLICY_EMA:
      if (!(o->beta >= 0 && o->beta < 1)) MB_FAIL(MB_ERR_ARG, "%s: beta is %g, a number from 0 and below 1 was expected", who, o->beta);
      return MB_OK;
    case MB_POLICY_QUANTILE:
      if (!(o->q >= 0 && o->q <= 1)) MB_FAIL(MB_ERR_ARG, "%s: q is %g, a number from 0 to 1 was expected", who, o->q);
      if (o->window < 1 || o->window > 1 << 24)
        MB_FAIL(MB_ERR_ARG, "%s: window is %lld, a number from 1 to 2^24 was expected", who, (long long)o->window);
      return MB_OK;
    case MB_POLICY_ZSCORE:
      if (!(o->z > 0) || !(o->alpha >= 0 && o->alpha < 1) || o->warmup < 1 || !(o->epsilon >= 0) || (int)o->to < 0 || o->to > MB_ZSCORE_MEAN)
        MB_FAIL(MB_ERR_ARG, "%s: z is %g, alpha %g, warmup %lld, epsilon %g, to %d", who, o->z, o->alpha, (long long)o->warmup, o->epsilon,
                (int)o->to);
      return MB_OK;
    default: MB_FAIL(MB_ERR_ARG, "%s: unknown kind %d", who, (int)o->kind);
  }
}

static mb_status check_plan(const mb_spectral *p, const int64_t *threshold, int64_t thresholds) {
  const char *who = "mb_spectral_policy";
  if (!p || !threshold) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL", who, p ? "threshold" : "the plan");
  if (p->options.method == MB_SPECTRAL_POLAR || p->options.method == MB_SPECTRAL_SOFT)
    MB_FAIL(MB_ERR_ARG, "%s: methods POLAR and SOFT need the host between probe and change", who);
  for (int64_t i = 0; i < p->count; i++)
    if (threshold[i] < 0 || threshold[i] >= thresholds)
      MB_FAIL(MB_ERR_ARG, "%s: matrix %lld has threshold %lld of %lld", who, (long long)i, (long long)threshold[i], (long long)thresholds);
  return MB_OK;
}

// lists: room as on the device. Members go by their places among all of the plan by groups.
static void fill_lists(const mb_spectral *p, const int64_t *threshold, int64_t thresholds, int64_t *lists) {
  int64_t *begin = lists, *member = begin + thresholds + 1, *place = member + p->count, n = 0;
  double *limit = (double *)(void *)(place + p->count);
  for (int64_t j = 0; j < thresholds; j++) {
    begin[j] = n;
    for (int64_t at = 0; at < p->group_count; at++)
      for (int64_t i = 0; i < p->groups[at].count; i++)
        if (threshold[p->groups[at].index[i]] == j) member[n++] = p->groups[at].first + i;
  }
  begin[thresholds] = n;
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++) {
      place[g->first + i] = g->first_sigma + i * g->k;
      limit[g->first + i] = g->kind == MBI_SPECTRAL_VECTOR ? DBL_MAX : ldexp(1, g->source == MB_F32 ? 100 : 900);
    }
  }
}

static mb_status make_lists(mb_spectral *p, const int64_t *threshold) {
  mbi_spectral_policy *policy = p->policy;
  int64_t numbers = policy->thresholds + 1 + 3 * p->count;
  void *lists;
  mbi_shape shape = {.ndim = 1, .size = {numbers}};
  MB_TRY(mbi_calloc(&lists, "mb_spectral_policy", (size_t)numbers, sizeof(double)));
  fill_lists(p, threshold, policy->thresholds, lists);
  mb_status status = mbi_tensor_new(&policy->lists, p->device, MB_F64, &shape);
  if (status == MB_OK)
    status = mbi_memory_of(policy->lists)->copy_in(mbi_data(policy->lists), lists, (size_t)numbers * sizeof(double));
  mbi_free(lists);
  return status;
}

static mb_status make_policy(mb_spectral *p, const int64_t *threshold) {
  mbi_spectral_policy *policy = p->policy;
  const mbi_device *device = mbi_device_of(p->device);
  mbi_shape shape = {.ndim = 1, .size = {policy->thresholds * policy->row + 1}};
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_spectral_policy", (size_t)p->group_count, sizeof *policy->gains));
  policy->gains = memory;
  MB_TRY(mbi_spectral_make_bases(p));
  MB_TRY(make_lists(p, threshold));
  MB_TRY(mbi_tensor_new(&policy->state, p->device, MB_F64, &shape));
  MB_TRY(device->zero(mbi_data(policy->state), (size_t)shape.size[0] * sizeof(double)));
  for (int i = 0; i < MBI_MOST_MAILS; i++) MB_TRY(device->mail_new(&policy->mail[i], (size_t)mbi_spectral_numbers(p) * sizeof(double)));
  return MB_OK;
}

mb_status mb_spectral_policy(mb_spectral *p, const mb_policy_options *rule, const int64_t *threshold, int64_t thresholds) {
  MB_TRY(check_plan(p, threshold, thresholds));
  MB_TRY(check_rule(rule, "mb_spectral_policy"));
  if (rule->kind == MB_POLICY_MAX_NORM && p->options.method != MB_SPECTRAL_NORM)
    MB_FAIL(MB_ERR_ARG, "mb_spectral_policy: MAX_NORM is for plans of NORM");
  void *memory;
  mbi_spectral_policy_free(p);
  MB_TRY(mbi_calloc(&memory, "mb_spectral_policy", 1, sizeof *p->policy));
  p->policy = memory;
  p->policy->rule = *rule;
  p->policy->thresholds = thresholds;
  p->policy->row = mbi_policy_row(rule);
  mb_status status = make_policy(p, threshold);
  if (status != MB_OK) mbi_spectral_policy_free(p);
  return status;
}

mb_status mbi_spectral_check_policy(const mb_spectral *p, const void *argument, const char *who, const char *name) {
  if (!p || !argument) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL", who, p ? name : "the plan");
  if (!p->policy) MB_FAIL(MB_ERR_STATE, "%s: the plan has no policy; call mb_spectral_policy first", who);
  return MB_OK;
}

mb_status mb_spectral_policy_guard(mb_spectral *p, mb_model *model) {
  const char *who = "mb_spectral_policy_guard";
  MB_TRY(mbi_spectral_check_policy(p, model, who, "the model"));
  MB_TRY(mbi_model_guard(model));
  if (model->gradients->storage->device != p->device) MB_FAIL(MB_ERR_DEVICE, "%s: the plan and model '%s' are on different devices", who, model->name);
  mb_model_retain(model);
  mb_model_release(p->policy->guarded);
  p->policy->guarded = model;
  return MB_OK;
}

// ----- its state --------------------------------------------------------------------------------------------

int64_t mb_spectral_policy_width(const mb_spectral *p) { return p && p->policy ? mbi_policy_width(&p->policy->rule) : 0; }

mb_status mb_spectral_policy_state(mb_spectral *p, double *state, int64_t *calls) {
  const char *who = "mb_spectral_policy_state";
  MB_TRY(mbi_spectral_check_policy(p, state, who, "state"));
  const mbi_spectral_policy *policy = p->policy;
  int64_t numbers = policy->thresholds * policy->row, width = mbi_policy_width(&policy->rule);
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)numbers + 1, sizeof(double)));
  const double *rows = memory;
  mb_status status = mbi_memory_of(policy->state)->copy_out(memory, mbi_data(policy->state), (size_t)(numbers + 1) * sizeof(double));
  for (int64_t j = 0; j < policy->thresholds && status == MB_OK; j++)
    for (int64_t i = 0; i < width; i++) state[j * width + i] = rows[j * policy->row + i];
  if (calls && status == MB_OK) *calls = (int64_t)rows[numbers];
  mbi_free(memory);
  return status;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

mb_status mb_spectral_policy_state_set(mb_spectral *p, const double *state) {
  const char *who = "mb_spectral_policy_state_set";
  MB_TRY(mbi_spectral_check_policy(p, state, who, "state"));
  const mbi_spectral_policy *policy = p->policy;
  int64_t numbers = policy->thresholds * policy->row, width = mbi_policy_width(&policy->rule), window = policy->rule.window;
  int has_history = policy->rule.kind == MB_POLICY_QUANTILE;
  for (int64_t j = 0; j < policy->thresholds && has_history; j++)
    if (!(state[j * width] >= 0 && state[j * width] <= (double)window))
      MB_FAIL(MB_ERR_ARG, "%s: threshold %lld has %g values, 0 to %lld were expected", who, (long long)j, state[j * width],
              (long long)window);
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)numbers + 1, sizeof(double)));
  double *rows = memory;
  for (int64_t j = 0; j < policy->thresholds; j++) {
    double *row = rows + j * policy->row;
    int64_t used = has_history ? 1 + (int64_t)state[j * width] : width;
    for (int64_t i = 0; i < used; i++) row[i] = state[j * width + i];
    if (!has_history) continue;
    for (int64_t i = 1; i < used; i++) row[window + i] = row[i];
    qsort(row + 1 + window, (size_t)(used - 1), sizeof(double), ascending);
  }
  mb_status status = mbi_memory_of(policy->state)->copy_in(mbi_data(policy->state), memory, (size_t)(numbers + 1) * sizeof(double));
  mbi_free(memory);
  return status;
}

// ----- a tau that changes -----------------------------------------------------------------------------------

mb_status mb_spectral_policy_tau_set(mb_spectral *p, double tau) {
  const char *who = "mb_spectral_policy_tau_set";
  MB_TRY(mbi_spectral_check_policy(p, p, who, "the plan"));
  mb_policy_options rule = p->policy->rule;
  if (rule.kind != MB_POLICY_CONST && rule.kind != MB_POLICY_MAX_NORM)
    MB_FAIL(MB_ERR_ARG, "%s: the plan's policy is neither CONST nor MAX_NORM", who);
  rule.tau = tau;
  MB_TRY(check_rule(&rule, who));
  p->policy->rule = rule;
  return MB_OK;
}

mb_status mb_graph_set_tau(mb_graph *graph, int64_t site, const mb_spectral *plan) {
  const char *who = "mb_graph_set_tau";
  if (!graph) MB_FAIL(MB_ERR_ARG, "%s: the graph is NULL", who);
  MB_TRY(mbi_spectral_check_policy(plan, plan, who, "the plan"));
  uint64_t *host = mbi_capture_site(graph, site, plan);
  if (!host) MB_FAIL(MB_ERR_ARG, "%s: run %lld of the graph is not of this plan", who, (long long)site);
  memcpy(host, &plan->policy->rule.tau, sizeof *host);
  return MB_OK;
}

mb_status mbi_spectral_note_tau(const mb_spectral *p, const double **tau) {
  uint64_t *host;
  const uint64_t *device;
  MB_TRY(mbi_capture_cells(&host, &device, 1));
  memcpy(host, &p->policy->rule.tau, sizeof *host);
  *tau = (const double *)(const void *)device;
  return mbi_capture_program(p, host, NULL);
}

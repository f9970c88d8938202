// SPDX-License-Identifier: MIT
//
// step.c: probe, policy and clamp in one call that waits for nothing: the device asks the policy itself (core/policy.h) and makes
// the gains. What came of it is sent to memory of the host that the last MOST_MAILS results have in turn, and is looked
// at when somebody asks, or at the next call.
//
// A matrix that is not finite, or whose values are so large that its change needs a scaled copy (stage.c), is refused: all matrices
// stay as they are, and the policy learns nothing. The host hears of it late, but at the latest before it makes the next call.
//
// A plan of NORM has a shorter way: sums of squares, the policy and its factors in one, products where a factor is not 1.
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/model.h"
#include "core/capture.h"
#include "core/policy.h"
#include "spectral/spectral.h"

enum { MOST_MAILS = 8 };

struct mbi_spectral_policy {
  mb_policy_options rule;
  int64_t thresholds, row; // row: numbers of a threshold on the device
  mb_tensor *lists;        // of the device: begin (thresholds + 1), member (count), place (count), limit (count)
  mb_tensor *state;        // (thresholds, row), and the number of calls
  mbi_mail *mail[MOST_MAILS];
  int64_t calls;           // made so far, result i lies in mail i % MOST_MAILS
  mbi_policy_gains *gains; // room for one a group
  int64_t told;            // calls before this one, if they were refused, the caller has heard of
  mb_model *guarded;       // whose updates a refusal stops, or NULL
  int is_heard;            // of the last refusal: the next call forgives it
};

void mbi_spectral_policy_free(mb_spectral *p) {
  mbi_spectral_policy *policy = p->policy;
  if (!policy) return;
  for (int i = 0; i < MOST_MAILS; i++)
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
  for (int i = 0; i < MOST_MAILS; i++) MB_TRY(device->mail_new(&policy->mail[i], (size_t)mbi_spectral_numbers(p) * sizeof(double)));
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

static mb_status check(const mb_spectral *p, const void *argument, const char *who, const char *name) {
  if (!p || !argument) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL", who, p ? name : "the plan");
  if (!p->policy) MB_FAIL(MB_ERR_STATE, "%s: the plan has no policy; call mb_spectral_policy first", who);
  return MB_OK;
}

mb_status mb_spectral_policy_guard(mb_spectral *p, mb_model *model) {
  const char *who = "mb_spectral_policy_guard";
  MB_TRY(check(p, model, who, "the model"));
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
  MB_TRY(check(p, state, who, "state"));
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
  MB_TRY(check(p, state, who, "state"));
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
  MB_TRY(check(p, p, who, "the plan"));
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
  MB_TRY(check(plan, plan, who, "the plan"));
  uint64_t *host = mbi_capture_site(graph, site, plan);
  if (!host) MB_FAIL(MB_ERR_ARG, "%s: run %lld of the graph is not of this plan", who, (long long)site);
  memcpy(host, &plan->policy->rule.tau, sizeof *host);
  return MB_OK;
}

// The number that a captured step reads: on the device, the host's beside it.
static mb_status note_tau(const mb_spectral *p, const double **tau) {
  uint64_t *host;
  const uint64_t *device;
  MB_TRY(mbi_capture_cells(&host, &device, 1));
  memcpy(host, &p->policy->rule.tau, sizeof *host);
  *tau = (const double *)(const void *)device;
  return mbi_capture_program(p, host, NULL);
}

// ----- results ----------------------------------------------------------------------------------------------

// The plan's arrays by groups, as a call left them; waits for that call alone.
typedef struct result {
  const double *sigma, *scale, *tau, *clipped, *saturated, *verdict, *total;
  const int64_t *flags;
} result;

static mb_status open_result(result *r, const mb_spectral *p, int64_t call) {
  const void *data;
  MB_TRY(mbi_device_of(p->device)->mail_open(&data, p->policy->mail[call % MOST_MAILS]));
  r->sigma = data;
  r->scale = r->sigma + p->n_sigma;
  r->flags = (const int64_t *)(const void *)(r->scale + p->count);
  r->tau = r->scale + 2 * p->count;
  r->clipped = r->tau + p->count;
  r->saturated = r->clipped + p->count;
  r->verdict = r->saturated + p->count;
  r->total = r->verdict + 1;
  return MB_OK;
}

// A failure if the call was refused.
static mb_status check_result(mb_spectral *p, const result *r, const char *who, const char *when) {
  int64_t place = (int64_t)*r->verdict;
  if (*r->verdict < 0) return MB_OK;
  const mbi_spectral_group *g = p->groups;
  while (place >= g->first + g->count) g++;
  int64_t member = place - g->first;
  p->nonfinite = g->index[member];
  p->policy->is_heard = 1;
  if (p->options.method == MB_SPECTRAL_NORM)
    MB_FAIL(MB_ERR_NONFINITE, "%s: matrix %lld held NaN or Inf, or had squares beyond float64's range, %s; nothing was changed", who,
            (long long)p->nonfinite, when);
  if (!(r->flags[place] & MBI_FINITE))
    MB_FAIL(MB_ERR_NONFINITE, "%s: matrix %lld held NaN or Inf %s; nothing was changed", who, (long long)p->nonfinite, when);
  MB_FAIL(MB_ERR_NUMERIC, "%s: matrix %lld had a singular value of %g %s, which only mb_spectral_clamp can change; nothing was changed", who,
          (long long)p->nonfinite, r->sigma[g->first_sigma + member * g->k] / r->scale[place], when);
}

// Of one of the last calls that was not refused.
static mb_status result_of(result *r, mb_spectral *p, int64_t call, const char *who) {
  MB_TRY(check(p, p, who, "the plan"));
  int64_t calls = p->policy->calls;
  if (call < 0 || call >= calls || call < calls - MOST_MAILS)
    MB_FAIL(MB_ERR_STATE, "%s: the result of call %lld is asked for after %lld calls; the last %d are kept", who, (long long)call,
            (long long)calls, (int)MOST_MAILS);
  MB_TRY(open_result(r, p, call));
  if (p->policy->told <= call) p->policy->told = call + 1;
  return check_result(p, r, who, "in that call");
}

mb_status mb_spectral_outcome_total(mb_spectral *p, int64_t call, double *total) {
  const char *who = "mb_spectral_outcome_total";
  result r;
  MB_TRY(check(p, total, who, "total"));
  if (p->options.method != MB_SPECTRAL_NORM) MB_FAIL(MB_ERR_ARG, "%s: the plan is not one of NORM", who);
  MB_TRY(result_of(&r, p, call, who));
  *total = *r.total;
  return MB_OK;
}

mb_status mb_spectral_outcome(mb_spectral *p, int64_t call, double *sigma, double *tau, int32_t *clipped, unsigned char *saturated) {
  result r;
  MB_TRY(result_of(&r, p, call, "mb_spectral_outcome"));
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count; i++) {
      int64_t index = g->index[i], place = g->first + i;
      if (sigma) sigma[index] = r.sigma[g->first_sigma + i * g->k] / r.scale[place];
      if (tau) tau[index] = r.tau[place];
      if (clipped) clipped[index] = (int32_t)r.clipped[place];
      if (saturated) saturated[index] = r.saturated[place] != 0;
    }
  }
  return MB_OK;
}

// ----- the call ---------------------------------------------------------------------------------------------

// Whether a call before `before` was refused, if nobody has asked yet.
static mb_status check_calls(mb_spectral *p, int64_t before, const char *who) {
  mbi_spectral_policy *policy = p->policy;
  if (policy->told < policy->calls - MOST_MAILS) policy->told = policy->calls - MOST_MAILS;
  while (policy->told < before) {
    result r;
    int64_t call = policy->told++;
    MB_TRY(open_result(&r, p, call));
    MB_TRY(check_result(p, &r, who, call == policy->calls - 1 ? "in the call before" : "in an earlier call"));
  }
  return MB_OK;
}

// Where the call leaves that it was refused, or NULL.
static double *refusing(int *is_first, const mbi_spectral_policy *policy) {
  *is_first = 0;
  if (!policy->guarded) return NULL;
  double *refusal = mbi_model_refusing(is_first, policy->guarded);
  *is_first |= policy->is_heard;
  return refusal;
}

static void leave_guarded(mbi_spectral_policy *policy) {
  policy->is_heard = 0;
  if (policy->guarded) mbi_model_refused(policy->guarded);
}

static mb_status ask(const mb_spectral *p) {
  const mbi_spectral_policy *policy = p->policy;
  const int64_t *begin = mbi_data(policy->lists), *member = begin + policy->thresholds + 1, *place = member + p->count;
  double *sigma = mbi_data(p->on_found), *scale = sigma + p->n_sigma, *tau = scale + 2 * p->count, *state = mbi_data(policy->state);
  mbi_policy call = {
    .rule = &policy->rule, .count = p->count, .thresholds = policy->thresholds, .begin = begin, .member = member, .place = place,
    .limit = (const double *)(const void *)(place + p->count), .sigma = sigma, .scale = scale,
    .flags = (int64_t *)(void *)(scale + p->count), .state = state, .calls = state + policy->thresholds * policy->row,
    .tau = tau, .verdict = tau + 3 * p->count,
  };
  call.refusal = refusing(&call.is_first, policy);
  return mbi_device_of(p->device)->kernels[MB_F64]->policy(&call);
}

// What was changed in copies of another dtype goes to the matrices, which get their own numbers where nothing has changed.
static mb_status write_back(const mb_spectral *p) {
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    for (int64_t i = 0; i < g->count && g->source != g->dtype; i++)
      MB_TRY(mbi_device_of(p->device)->convert(mbi_data(p->matrices[g->index[i]]), g->source, g->data[i], g->dtype, g->m * g->n));
  }
  return MB_OK;
}

// Gains of all groups from what the policy said, what the next call starts from if this one is not refused, and the change.
static mb_status change(mb_spectral *p) {
  for (int64_t at = 0; at < p->group_count; at++) {
    const mbi_spectral_group *g = &p->groups[at];
    int is_vector = g->kind == MBI_SPECTRAL_VECTOR;
    double *tau = (double *)mbi_data(p->on_found) + p->n_sigma + 2 * p->count + g->first;
    p->policy->gains[at] = (mbi_policy_gains){
      .count = g->count, .k = g->k, .kept = g->kept, .all = is_vector ? 1 : g->m < g->n ? g->m : g->n, .sigma = g->on.sigma,
      .scale = g->on.scale, .tau = tau, .gain = g->on.gain, .target = is_vector ? g->on.gain + g->count : NULL,
      .clipped = tau + p->count, .saturated = tau + 2 * p->count,
    };
  }
  MB_TRY(mbi_device_of(p->device)->kernels[MB_F64]->policy_gains(p->policy->gains, p->group_count));
  MB_TRY(mbi_spectral_remember(p, MBI_FINITE | MBI_AGREED));
  MB_TRY(mbi_spectral_change_all(p));
  return write_back(p);
}

static mb_status ask_norms(const mb_spectral *p) {
  const mbi_spectral_policy *policy = p->policy;
  const int64_t *begin = mbi_data(policy->lists);
  double *norm = mbi_data(p->on_found), *scale = norm + p->n_sigma, *tau = scale + 2 * p->count, *state = mbi_data(policy->state);
  mbi_norm_policy call = {
    .rule = &policy->rule, .count = p->count, .thresholds = policy->thresholds, .begin = begin, .member = begin + policy->thresholds + 1,
    .norm = norm, .scale = scale, .flags = (int64_t *)(void *)(scale + p->count), .state = state,
    .calls = state + policy->thresholds * policy->row, .tau = tau, .clipped = tau + p->count, .saturated = tau + 2 * p->count,
    .verdict = tau + 3 * p->count, .total = tau + 3 * p->count + 1, .factor = mbi_data(p->on_gains),
  };
  call.refusal = refusing(&call.is_first, policy);
  if (mbi_capture_is_on(p->device)) MB_TRY(note_tau(p, &call.tau_now));
  return mbi_device_of(p->device)->kernels[MB_F64]->norm_policy(&call);
}

// The groups of a dtype as kernels of plain arrays take them.
static mbi_arrays *norm_lists(const mb_spectral *p, mb_dtype dtype, int64_t *count) {
  mbi_arrays *list = mbi_spectral_arrays_list(p, MBI_SPECTRAL_VECTOR, dtype, count);
  const double *factor = mbi_data(p->on_gains);
  int64_t at = 0;
  for (const mbi_spectral_group *g = p->groups; g < p->groups + p->group_count; g++)
    if (g->dtype == dtype) list[at++].gain = factor + g->first;
  return list;
}

static mb_status clip_norms(mb_spectral *p) {
  static const mb_dtype WIDE[] = {MB_F32, MB_F64};
  int64_t groups;
  for (mbi_spectral_group *g = p->groups; g < p->groups + p->group_count; g++)
    for (int64_t i = 0; i < g->count; i++) mbi_spectral_point(p, g, i, mbi_data(p->matrices[g->index[i]]));
  MB_TRY(mbi_spectral_ready(p));
  for (int i = 0; i < 2; i++) {
    const mbi_arrays *list = norm_lists(p, WIDE[i], &groups);
    if (groups > 0) MB_TRY(mbi_device_of(p->device)->kernels[WIDE[i]]->sums_of_squares(list, groups));
  }
  MB_TRY(ask_norms(p));
  for (int i = 0; i < 2; i++) {
    const mbi_arrays *list = norm_lists(p, WIDE[i], &groups);
    if (groups > 0) MB_TRY(mbi_device_of(p->device)->kernels[WIDE[i]]->multiply_all(list, groups));
  }
  return MB_OK;
}

static mb_status clip_matrices(mb_spectral *p) {
  mbi_rng_key key = {0};
  if (p->options.method == MB_SPECTRAL_RANDOMIZED) key = mbi_rng_next();
  mb_status status = mbi_spectral_launch(p, key);
  if (status == MB_OK) status = ask(p);
  if (status != MB_OK && p->options.method == MB_SPECTRAL_RANDOMIZED) mbi_rng_give_back(key);
  MB_TRY(status);
  return change(p);
}

static mb_status make_call(mb_spectral *p) {
  for (int64_t i = 0; i < p->count; i++) {
    MB_TRY(mbi_check(p->matrices[i], "mb_spectral_step", "a matrix of the plan"));
    MB_TRY(mbi_check_writable(p->matrices[i], "mb_spectral_step"));
  }
  MB_TRY(p->options.method == MB_SPECTRAL_NORM ? clip_norms(p) : clip_matrices(p));
  leave_guarded(p->policy);
  return MB_OK;
}

static mb_status send(mb_spectral *p, int64_t *call) {
  mbi_spectral_policy *policy = p->policy;
  MB_TRY(mbi_device_of(p->device)->mail_send(policy->mail[policy->calls % MOST_MAILS], mbi_data(p->on_found)));
  *call = policy->calls++;
  return MB_OK;
}

mb_status mb_spectral_step(mb_spectral *p, int64_t *call) {
  MB_TRY(check(p, call, "mb_spectral_step", "call"));
  p->probed = p->changed = 0;
  p->nonfinite = -1;
  *call = -1;
  if (mbi_capture_is_on(p->device)) return make_call(p);
  MB_TRY(check_calls(p, p->policy->calls, "mb_spectral_step"));
  MB_TRY(make_call(p));
  return send(p, call);
}

mb_status mb_spectral_replaying(mb_spectral *p) {
  const char *who = "mb_spectral_replaying";
  MB_TRY(check(p, p, who, "the plan"));
  return check_calls(p, p->policy->calls - 1, who);
}

mb_status mb_spectral_replayed(mb_spectral *p, int64_t *call) {
  MB_TRY(check(p, call, "mb_spectral_replayed", "call"));
  p->probed = p->changed = 0;
  if (p->policy->guarded) mbi_model_refused(p->policy->guarded);
  return send(p, call);
}

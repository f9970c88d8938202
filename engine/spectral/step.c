// SPDX-License-Identifier: MIT
//
// step.c: probe, policy and clamp in one call that waits for nothing: the device asks the policy itself (policy.c) and makes
// the gains. What came of it is sent to memory of the host that the last MBI_MOST_MAILS results have in turn, and is looked
// at when somebody asks, or at the next call.
//
// A matrix that is not finite, or whose values are so large that its change needs a scaled copy (stage.c), is refused: all matrices
// stay as they are, and the policy learns nothing. The host hears of it late, but at the latest before it makes the next call.
//
// A plan of NORM has a shorter way: sums of squares, the policy and its factors in one, products where a factor is not 1.
#include "autograd/model.h"
#include "core/capture.h"
#include "spectral/policy.h"

// ----- results ----------------------------------------------------------------------------------------------

// The plan's arrays by groups, as a call left them; waits for that call alone.
typedef struct result {
  const double *sigma, *scale, *tau, *clipped, *saturated, *verdict, *total;
  const int64_t *flags;
} result;

static mb_status open_result(result *r, const mb_spectral *p, int64_t call) {
  const void *data;
  MB_TRY(mbi_device_of(p->device)->mail_open(&data, p->policy->mail[call % MBI_MOST_MAILS]));
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
  MB_TRY(mbi_spectral_check_policy(p, p, who, "the plan"));
  int64_t calls = p->policy->calls;
  if (call < 0 || call >= calls || call < calls - MBI_MOST_MAILS)
    MB_FAIL(MB_ERR_STATE, "%s: the result of call %lld is asked for after %lld calls; the last %d are kept", who, (long long)call,
            (long long)calls, (int)MBI_MOST_MAILS);
  MB_TRY(open_result(r, p, call));
  if (p->policy->told <= call) p->policy->told = call + 1;
  return check_result(p, r, who, "in that call");
}

mb_status mb_spectral_outcome_total(mb_spectral *p, int64_t call, double *total) {
  const char *who = "mb_spectral_outcome_total";
  result r;
  MB_TRY(mbi_spectral_check_policy(p, total, who, "total"));
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
  if (policy->told < policy->calls - MBI_MOST_MAILS) policy->told = policy->calls - MBI_MOST_MAILS;
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
  if (mbi_capture_is_on(p->device)) MB_TRY(mbi_spectral_note_tau(p, &call.tau_now));
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
  MB_TRY(mbi_device_of(p->device)->mail_send(policy->mail[policy->calls % MBI_MOST_MAILS], mbi_data(p->on_found)));
  *call = policy->calls++;
  return MB_OK;
}

mb_status mb_spectral_step(mb_spectral *p, int64_t *call) {
  MB_TRY(mbi_spectral_check_policy(p, call, "mb_spectral_step", "call"));
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
  MB_TRY(mbi_spectral_check_policy(p, p, who, "the plan"));
  return check_calls(p, p->policy->calls - 1, who);
}

mb_status mb_spectral_replayed(mb_spectral *p, int64_t *call) {
  MB_TRY(mbi_spectral_check_policy(p, call, "mb_spectral_replayed", "call"));
  p->probed = p->changed = 0;
  if (p->policy->guarded) mbi_model_refused(p->policy->guarded);
  return send(p, call);
}

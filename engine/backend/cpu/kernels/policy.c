// SPDX-License-Identifier: MIT
//
// policy.c: thresholds of many matrices, or of lengths of arrays, by a built-in policy, and the gains that follow (core/policy.h).
#include "backend/cpu/cpu.h"
#include "core/policy.h"

// The first matrix that cannot be clipped, or -1.
static int64_t refused(const mbi_policy *p) {
  for (int64_t i = 0; i < p->count; i++) {
    double sigma = p->sigma[p->place[i]] / p->scale[i];
    if (!(p->flags[i] & MBI_FINITE) || !(sigma <= p->limit[i])) return i;
  }
  return -1;
}

mb_status MBK(policy)(const mbi_policy *p) {
  int64_t bad = refused(p), row = mbi_policy_row(p->rule);
  *p->verdict = (double)bad;
  mbi_policy_leave(p->refusal, p->is_first, bad >= 0);
  for (int64_t j = 0; j < p->thresholds; j++) {
    double sigma = 0, tau = (double)NAN;
    for (int64_t at = p->begin[j]; at < p->begin[j + 1]; at++) {
      int64_t i = p->member[at];
      double mine = p->sigma[p->place[i]] / p->scale[i];
      sigma = mine > sigma ? mine : sigma;
    }
    if (bad < 0) tau = mbi_policy_ask(p->rule, p->state + j * row, sigma);
    for (int64_t at = p->begin[j]; at < p->begin[j + 1]; at++) p->tau[p->member[at]] = tau;
  }
  if (bad >= 0) return MB_OK;
  *p->calls += 1;
  for (int64_t i = 0; i < p->count; i++) p->flags[i] |= MBI_AGREED;
  return MB_OK;
}

// The first array without a finite sum of squares, or -1; sums become lengths.
static int64_t lengths(const mbi_norm_policy *p) {
  int64_t bad = -1;
  double total = 0;
  for (int64_t at = 0; at < p->count; at++) total += p->norm[p->member[at]];
  for (int64_t i = 0; i < p->count; i++) {
    p->flags[i] = isfinite(p->norm[i]) ? MBI_FINITE : 0;
    if (!p->flags[i] && bad < 0) bad = i;
    p->norm[i] = sqrt(p->norm[i]);
    p->scale[i] = 1;
  }
  *p->total = sqrt(total);
  return bad;
}

mb_status MBK(norm_policy)(const mbi_norm_policy *p) {
  int64_t bad = lengths(p), row = mbi_policy_row(p->rule);
  mb_policy_options rule = *p->rule;
  if (p->tau_now) rule.tau = *p->tau_now;
  *p->verdict = (double)bad;
  mbi_policy_leave(p->refusal, p->is_first, bad >= 0);
  for (int64_t j = 0; j < p->thresholds; j++) {
    double most = 0, tau = (double)NAN;
    for (int64_t at = p->begin[j]; at < p->begin[j + 1]; at++)
      if (p->norm[p->member[at]] > most) most = p->norm[p->member[at]];
    if (bad < 0) tau = mbi_policy_ask(&rule, p->state + j * row, most);
    for (int64_t at = p->begin[j]; at < p->begin[j + 1]; at++) {
      int64_t i = p->member[at];
      p->tau[i] = tau;
      p->factor[i] = mbi_norm_factor(&rule, tau, p->norm[i]);
      p->clipped[i] = p->factor[i] != 1;
      p->saturated[i] = 0;
    }
  }
  if (bad < 0) *p->calls += 1;
  return MB_OK;
}

static void gains_of(const mbi_policy_gains *s) {
  for (int64_t i = 0; i < s->count; i++) {
    int64_t lowered = 0;
    for (int64_t j = 0; j < s->k; j++) {
      double sigma = s->sigma[i * s->k + j] / s->scale[i], tau = s->tau[i];
      int is_lowered = j < s->kept && sigma > tau; // false where either is NaN
      s->gain[i * s->k + j] = is_lowered ? tau / sigma - 1 : 0;
      if (s->target) s->target[i] = tau;
      lowered += is_lowered;
    }
    s->clipped[i] = (double)lowered;
    s->saturated[i] = lowered == s->kept && s->kept < s->all;
  }
}

mb_status MBK(policy_gains)(const mbi_policy_gains *s, int64_t groups) {
  for (int64_t at = 0; at < groups; at++) gains_of(s + at);
  return MB_OK;
}

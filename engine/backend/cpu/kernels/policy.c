// SPDX-License-Identifier: MIT
//
// policy.c: thresholds of many matrices by a built-in policy, and the gains that follow from them (core/policy.h).
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

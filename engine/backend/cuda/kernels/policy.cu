// SPDX-License-Identifier: MIT
//
// policy.cu: thresholds of many matrices by a built-in policy, and the gains that follow from them (core/policy.h). A thread has
// a threshold: what it does to a history is a few hundred moves.
#include "backend/cuda/math.h"
#include "backend/cuda/small.h"
#include "core/policy.h"

namespace mbk {
namespace {

// The first matrix that cannot be clipped, or -1; and the calls that were made.
struct Judge {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  mbi_policy p;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int64_t, THREADS> first; // minus its number, so that the largest wins
    block.each([&](int thread) {
      first[thread] = -p.count;
      for (int64_t i = thread; i < p.count && first[thread] == -p.count; i += THREADS) {
        double sigma = p.sigma[p.place[i]] / p.scale[i];
        if (!(p.flags[i] & MBI_FINITE) || !(sigma <= p.limit[i])) first[thread] = -i;
      }
    });
    int64_t bad = -block.most(first, shared.room);
    block.each([&](int thread) {
      if (thread > 0) return;
      *p.verdict = bad < p.count ? (double)bad : -1;
      if (bad == p.count) *p.calls += 1;
    });
  }
};

struct Ask {
  mbi_policy p;
  mb_policy_options rule;
  SIMT void operator()(int64_t j) const {
    double sigma = 0, tau = (double)NAN;
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) {
      int64_t i = p.member[at];
      double mine = p.sigma[p.place[i]] / p.scale[i];
      sigma = mine > sigma ? mine : sigma;
    }
    if (*p.verdict < 0) tau = mbi_policy_ask(&rule, p.state + j * mbi_policy_row(&rule), sigma);
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) p.tau[p.member[at]] = tau;
  }
};

struct Gains {
  mbi_policy_gains s;
  SIMT void operator()(int64_t i) const {
    int64_t lowered = 0;
    for (int64_t j = 0; j < s.k; j++) {
      double sigma = s.sigma[i * s.k + j] / s.scale[i], tau = s.tau[i];
      int is_lowered = j < s.kept && sigma > tau; // false where either is NaN
      s.gain[i * s.k + j] = is_lowered ? tau / sigma - 1 : 0;
      if (s.target) s.target[i] = tau;
      lowered += is_lowered;
    }
    s.clipped[i] = (double)lowered;
    s.saturated[i] = lowered == s.kept && s.kept < s.all;
  }
};

} // namespace

template <class T> mb_status Kernels<T>::policy(const mbi_policy *p) {
  MB_TRY(launch(Judge{*p}, 1, "policy"));
  return launch_elements(Ask{*p, *p->rule}, p->thresholds, "policy");
}

template <class T> mb_status Kernels<T>::policy_gains(const mbi_policy_gains *s) {
  return launch_elements(Gains{*s}, s->count, "policy_gains");
}

MBK_WIDE_SLOT(policy, const mbi_policy *);
MBK_WIDE_SLOT(policy_gains, const mbi_policy_gains *);

} // namespace mbk

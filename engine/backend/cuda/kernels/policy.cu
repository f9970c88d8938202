// SPDX-License-Identifier: MIT
//
// policy.cu: thresholds of many matrices, or of lengths of arrays, by a built-in policy, and the gains that follow from them
// (core/policy.h). A thread has a threshold: what it does to a history is a few hundred moves.
#include "backend/cuda/math.h"
#include "backend/cuda/small.h"
#include "backend/cuda/together.h"
#include "core/policy.h"

namespace mbk {
namespace {

// The first matrix that cannot be clipped, or -1; the calls that were made; and what each threshold says, a thread each.
struct Ask {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  mbi_policy p;
  mb_policy_options rule;

  SIMT void ask(int64_t j, bool is_right) const {
    double sigma = 0, tau = (double)NAN;
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) {
      int64_t i = p.member[at];
      double mine = p.sigma[p.place[i]] / p.scale[i];
      sigma = mine > sigma ? mine : sigma;
    }
    if (is_right) tau = mbi_policy_ask(&rule, p.state + j * mbi_policy_row(&rule), sigma);
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) p.tau[p.member[at]] = tau;
  }

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
      if (thread == 0) *p.verdict = bad < p.count ? (double)bad : -1;
      if (thread == 0) mbi_policy_leave(p.refusal, p.is_first, bad < p.count);
      if (thread == 0 && bad == p.count) *p.calls += 1;
      for (int64_t j = thread; j < p.thresholds; j += THREADS) ask(j, bad == p.count);
      for (int64_t i = thread; i < p.count && bad == p.count; i += THREADS) p.flags[i] |= MBI_AGREED;
    });
  }
};

// Ask and Gains for lengths of arrays, which are found of their sums of squares: a block, a thread for each array and threshold.
struct AskNorms {
  static constexpr int THREADS = 256;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  mbi_norm_policy p;
  mb_policy_options given;

  SIMT void ask(const mb_policy_options &rule, int64_t j, bool is_right) const {
    double most = 0, tau = (double)NAN;
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) {
      double mine = p.norm[p.member[at]];
      most = mine > most ? mine : most;
    }
    if (is_right) tau = mbi_policy_ask(&rule, p.state + j * mbi_policy_row(&rule), most);
    for (int64_t at = p.begin[j]; at < p.begin[j + 1]; at++) {
      int64_t i = p.member[at];
      p.tau[i] = tau;
      p.factor[i] = mbi_norm_factor(&rule, tau, p.norm[i]);
      p.clipped[i] = p.factor[i] != 1;
      p.saturated[i] = 0;
    }
  }

  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int64_t, THREADS> first; // minus its number, so that the largest wins
    block.each([&](int thread) {
      if (thread > 0) return;
      double total = 0;
      for (int64_t at = 0; at < p.count; at++) total += p.norm[p.member[at]];
      *p.total = sqrt_of(total);
    });
    block.each([&](int thread) {
      first[thread] = -p.count;
      for (int64_t i = thread; i < p.count; i += THREADS) {
        bool is_finite = p.norm[i] * 0 == 0;
        if (!is_finite && first[thread] == -p.count) first[thread] = -i;
        p.flags[i] = is_finite ? MBI_FINITE : 0;
        p.norm[i] = sqrt_of(p.norm[i]);
        p.scale[i] = 1;
      }
    });
    int64_t bad = -block.most(first, shared.room);
    block.each([&](int thread) {
      mb_policy_options rule = given;
      if (p.tau_now) rule.tau = *p.tau_now;
      if (thread == 0) *p.verdict = bad < p.count ? (double)bad : -1;
      if (thread == 0) mbi_policy_leave(p.refusal, p.is_first, bad < p.count);
      if (thread == 0 && bad == p.count) *p.calls += 1;
      for (int64_t j = thread; j < p.thresholds; j += THREADS) ask(rule, j, bad == p.count);
    });
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
  return launch(Ask{*p, *p->rule}, 1, "policy");
}

template <class T> mb_status Kernels<T>::policy_gains(const mbi_policy_gains *s, int64_t groups) {
  ElementLaunches<Gains> launches("policy_gains");
  for (int64_t at = 0; at < groups; at++) MB_TRY(launches.add(Gains{s[at]}, s[at].count));
  return launches.go();
}

template <class T> mb_status Kernels<T>::norm_policy(const mbi_norm_policy *p) {
  return launch(AskNorms{*p, *p->rule}, 1, "norm_policy");
}

MBK_WIDE_SLOT(norm_policy, const mbi_norm_policy *);
MBK_WIDE_SLOT(policy, const mbi_policy *);
MBK_WIDE_SLOT(policy_gains, const mbi_policy_gains *, int64_t);

} // namespace mbk

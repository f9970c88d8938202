// SPDX-License-Identifier: MIT
//
// policy.h: the policy that a plan has on the device: policy.c makes it and carries its state, step.c asks it.
#ifndef MBI_SPECTRAL_POLICY_H
#define MBI_SPECTRAL_POLICY_H
#include "core/policy.h"
#include "spectral/spectral.h"

enum { MBI_MOST_MAILS = 8 };

struct mbi_spectral_policy {
  mb_policy_options rule;
  int64_t thresholds, row; // row: numbers of a threshold on the device
  mb_tensor *lists;        // of the device: begin (thresholds + 1), member (count), place (count), limit (count)
  mb_tensor *state;        // (thresholds, row), and the number of calls
  mbi_mail *mail[MBI_MOST_MAILS];
  int64_t calls;           // made so far, result i lies in mail i % MBI_MOST_MAILS
  mbi_policy_gains *gains; // room for one a group
  int64_t told;            // calls before this one, if they were refused, the caller has heard of
  mb_model *guarded;       // whose updates a refusal stops, or NULL
  int is_heard;            // of the last refusal: the next call forgives it
};

// Checks that the plan, its policy and an argument are there.
mb_status mbi_spectral_check_policy(const mb_spectral *p, const void *argument, const char *who, const char *name);
// Puts tau into what a captured step reads, as *tau on the device, from where mb_graph_set_tau changes it.
mb_status mbi_spectral_note_tau(const mb_spectral *p, const double **tau);
#endif

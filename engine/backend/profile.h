// SPDX-License-Identifier: MIT
//
// profile.h: the device as a profile sees it: every call is counted, timed and handed on. See mb_profile_begin.
#ifndef MBI_PROFILE_H
#define MBI_PROFILE_H
#include "backend/backend.h"

extern int mbi_profile_is_on;
// The device that notes what `device` is asked to do. Only while a profile is on.
const mbi_device *mbi_profiled(mb_device which, const mbi_device *device);
#endif

// SPDX-License-Identifier: MIT
//
// file.h: what path.c and file.c share.
#ifndef MBI_FILE_H
#define MBI_FILE_H
#include "core/status.h"

// The failure of a system call on `path`, told by errno: "who: cannot verb 'path': reason".
mb_status mbi_refused(const char *who, const char *verb, const char *path);
mb_status mbi_check_path(const char *path, const char *who); // not NULL, not empty
#endif

// SPDX-License-Identifier: MIT
//
// file.c: tensors to and from files as plain little-endian elements, and the hash of a file. A read that
// finds less, or a write that cannot put down everything, is an error that says how much was wanted and
// how much there was. Of the many bit patterns that are NaN the plain ones alone come in from files: LuaJIT takes some of the others for
// references to its own objects, so that a hostile file could make it follow an address of its choice.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/sha256.h"
#include "core/tensor.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers");

enum { CHUNK = 64 * 1024 };
static const int64_t MOST_AT_ONCE = 1 << 30; // one system call moves at most 2 GiB - 4 KiB

static mb_status open_file(int *file, const char *who, const char *path, int flags) {
  *file = -1;
  MB_TRY(mbi_check_path(path, who));
  *file = open(path, flags | O_CLOEXEC, 0666);
  return *file < 0 ? mbi_refused(who, flags & O_WRONLY ? "write" : "open", path) : MB_OK;
}

static mb_status read_bytes(void *to, int64_t bytes, int64_t offset, const char *who, const char *path) {
  int file;
  MB_TRY(open_file(&file, who, path, O_RDONLY));
  int64_t done = 0;
  ssize_t got = 1;
  while (done < bytes && got > 0) {
    int64_t part = bytes - done < MOST_AT_ONCE ? bytes - done : MOST_AT_ONCE;
    got = pread(file, (char *)to + done, (size_t)part, offset + done);
    if (got > 0) done += got;
    if (got < 0 && errno == EINTR) got = 1;
  }
  mb_status status = got < 0 ? mbi_refused(who, "read", path) : MB_OK;
  close(file);
  if (status == MB_OK && done < bytes)
    MB_FAIL(MB_ERR_IO, "%s: '%s': %" PRId64 " bytes were wanted at offset %" PRId64 ", the file has %" PRId64 " there", who, path, bytes, offset, done);
  return status;
}

// Every NaN among n elements becomes the quiet one of its sign without more bits.
static void plain_nans(void *data, int64_t n, mb_dtype dtype) {
  if (dtype == MB_F32) {
    uint32_t *x = data;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] & 0x7fffffffu) > 0x7f800000u ? (x[i] & 0x80000000u) | 0x7fc00000u : x[i];
  } else if (dtype == MB_F64) {
    uint64_t *x = data;
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] & INT64_MAX) > 0x7ff0000000000000u ? (x[i] & 0x8000000000000000u) | 0x7ff8000000000000u : x[i];
  } else if (dtype == MB_BF16) {
    uint16_t *x = data;
    for (int64_t i = 0; i < n; i++) x[i] = (uint16_t)((x[i] & 0x7fffu) > 0x7f80u ? (x[i] & 0x8000u) | 0x7fc0u : x[i]);
  }
}

// Fills `to` with the elements of a contiguous tensor on the host like t.
static mb_status read_elements(void *to, const mb_tensor *t, int64_t offset, const char *who, const char *path) {
  int64_t n = mbi_numel(t);
  MB_TRY(read_bytes(to, n * (int64_t)mbi_dtype_size(t->dtype), offset, who, path));
  plain_nans(to, n, t->dtype);
  return MB_OK;
}

mb_status mb_tensor_read_file(mb_tensor *t, const char *path, int64_t offset) {
  const char *who = "mb_tensor_read_file";
  MB_TRY(mbi_check(t, who, "t"));
  if (offset < 0) MB_FAIL(MB_ERR_ARG, "%s: the offset is %" PRId64 ", it must be >= 0", who, offset);
  MB_TRY(mbi_check_writable(t, who));
  if (t->storage->device == MB_CPU && mbi_is_contiguous(t)) return read_elements(mbi_data(t), t, offset, who, path);
  mb_tensor *host;
  MB_TRY(mbi_tensor_new(&host, MB_CPU, t->dtype, &t->shape));
  mb_status status = read_elements(mbi_data(host), t, offset, who, path);
  if (status == MB_OK) status = mb_tensor_from_host(t, mbi_data(host));
  mb_tensor_release(host);
  return status;
}

static mb_status append_bytes(const void *from, int64_t bytes, const char *who, const char *path) {
  int file;
  MB_TRY(open_file(&file, who, path, O_WRONLY | O_APPEND | O_CREAT));
  int64_t done = 0;
  int reason = 0;
  while (done < bytes && reason == 0) {
    int64_t part = bytes - done < MOST_AT_ONCE ? bytes - done : MOST_AT_ONCE;
    ssize_t put = write(file, (const char *)from + done, (size_t)part);
    if (put > 0) done += put;
    else if (put == 0) reason = ENOSPC;
    else if (errno != EINTR) reason = errno;
  }
  if (close(file) != 0 && reason == 0) reason = errno; // network file systems report a full disk here
  if (reason != 0)
    MB_FAIL(MB_ERR_IO, "%s: wrote %" PRId64 " of %" PRId64 " bytes to '%s': %s", who, done, bytes, path, strerror(reason));
  return MB_OK;
}

mb_status mb_tensor_append_file(mb_tensor *t, const char *path) {
  const char *who = "mb_tensor_append_file";
  MB_TRY(mbi_check(t, who, "t"));
  int64_t bytes = mbi_numel(t) * (int64_t)mbi_dtype_size(t->dtype);
  if (t->storage->device == MB_CPU && mbi_is_contiguous(t)) return append_bytes(mbi_data(t), bytes, who, path);
  mb_tensor *host;
  MB_TRY(mbi_tensor_new(&host, MB_CPU, t->dtype, &t->shape));
  mb_status status = mb_tensor_to_host(mbi_data(host), t);
  if (status == MB_OK) status = append_bytes(mbi_data(host), bytes, who, path);
  mb_tensor_release(host);
  return status;
}

mb_status mb_sha256_file(char *hex, const char *path) {
  const char *who = "mb_sha256_file";
  unsigned char chunk[CHUNK];
  int file;
  hex[0] = '\0';
  MB_TRY(open_file(&file, who, path, O_RDONLY));
  mbi_sha256 hash;
  mbi_sha256_begin(&hash);
  ssize_t got;
  while ((got = read(file, chunk, sizeof chunk)) > 0 || (got < 0 && errno == EINTR)) {
    if (got > 0) mbi_sha256_add(&hash, chunk, (size_t)got);
  }
  mb_status status = got < 0 ? mbi_refused(who, "read", path) : MB_OK;
  close(file);
  if (status == MB_OK) mbi_sha256_end(&hash, hex);
  return status;
}

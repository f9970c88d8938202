// SPDX-License-Identifier: MIT
//
// mail.cu: results that reach the host without its waiting: pinned memory that a copy is queued into, and an event behind the
// copy.
#include <cstdlib>
#include <cstring>

#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"

struct mbi_mail {
  size_t bytes;
#ifdef __CUDACC__
  cudaEvent_t sent;
#endif
  void *data;
};

namespace mbk {

#ifdef __CUDACC__

void mail_free(mbi_mail *mail) {
  if (mail->sent) {
    cudaEventSynchronize(mail->sent); // a copy may still be under way
    cudaEventDestroy(mail->sent);
  }
  if (mail->data) cudaFreeHost(mail->data);
  free(mail);
}

static mb_status make(mbi_mail *mail) {
  MBK_CUDA(cudaMallocHost(&mail->data, mail->bytes));
  MBK_CUDA(cudaEventCreateWithFlags(&mail->sent, cudaEventDisableTiming));
  return MB_OK;
}

mb_status mail_send(mbi_mail *mail, const void *device) {
  MB_TRY(refuse_capture("sending a result to the host"));
  MBK_CUDA(cudaMemcpyAsync(mail->data, device, mail->bytes, cudaMemcpyDeviceToHost, stream()));
  MBK_CUDA(cudaEventRecord(mail->sent, stream()));
  return MB_OK;
}

mb_status mail_open(const void **data, mbi_mail *mail) {
  MB_TRY(refuse_capture("opening a result"));
  MBK_CUDA(cudaEventSynchronize(mail->sent));
  *data = mail->data;
  return MB_OK;
}

#else

void mail_free(mbi_mail *mail) {
  free(mail->data);
  free(mail);
}

static mb_status make(mbi_mail *mail) {
  mail->data = malloc(mail->bytes);
  return mail->data ? MB_OK : fail(MB_ERR_NOMEM, "out of memory: %zu bytes of the host for a result", mail->bytes);
}

mb_status mail_send(mbi_mail *mail, const void *device) {
  MB_TRY(refuse_capture("sending a result to the host"));
  if (is_dry()) make_up(mail->data, -1.0, mail->bytes);
  else memcpy(mail->data, device, mail->bytes);
  return MB_OK;
}

mb_status mail_open(const void **data, mbi_mail *mail) {
  MB_TRY(refuse_capture("opening a result"));
  *data = mail->data;
  return MB_OK;
}

#endif

mb_status mail_new(mbi_mail **out, size_t bytes) {
  *out = nullptr;
  mbi_mail *mail = (mbi_mail *)calloc(1, sizeof *mail);
  if (!mail) return fail(MB_ERR_NOMEM, "out of memory: a result's %zu bytes on the host", bytes);
  mail->bytes = bytes;
  mb_status status = make(mail);
  if (status != MB_OK) mail_free(mail);
  else *out = mail;
  return status;
}

} // namespace mbk

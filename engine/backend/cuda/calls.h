// SPDX-License-Identifier: MIT
//
// calls.h: the functions of the device's table, each with a guard around it. A guard does nothing while all goes well. A
// failure of the device or for want of memory gets the operation, its dtype and its sizes put before its text, as
// "cuda: gemm of f32, m 64, n 128, k 32: "; the names of the sizes are those of the declaration. A device that is lost
// is not called again.
#ifndef MBK_CUDA_CALLS_H
#define MBK_CUDA_CALLS_H
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "backend/cuda/host.h"

namespace mbk {

// A text that is cut where its room ends.
struct Text {
  char text[400] = "";
  size_t used = 0;
  __attribute__((format(printf, 2, 3))) void add(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text + used, sizeof text - used, format, arguments);
    va_end(arguments);
    if (n > 0) used = used + (size_t)n < sizeof text ? used + (size_t)n : sizeof text - 1;
  }
};

using Long = long long;

// What an argument says of an operation's size; others say nothing.
template <class A> void describe(Text *, const char *, int, const A &) {}
inline void describe(Text *t, const char *name, int length, const int64_t &value) { t->add(", %.*s %lld", length, name, (Long)value); }
inline void describe(Text *t, const char *name, int length, const size_t &value) { t->add(", %.*s %zu", length, name, value); }
inline void describe(Text *t, const char *name, int length, const mbi_view *const &v) {
  if (!v) return;
  t->add(", %.*s (", length, name);
  for (int d = 0; d < v->ndim; d++) t->add("%s%lld", d ? ", " : "", (Long)v->size[d]);
  t->add(")");
}
inline void describe(Text *t, const char *, int, const mbi_gemm *const &g) {
  t->add(", m %lld, n %lld, k %lld", (Long)g->m, (Long)g->n, (Long)g->k);
  if (g->batch > 1) t->add(", batch %lld", (Long)g->batch);
}
inline void describe(Text *t, const char *, int, const mbi_attention *const &s) {
  t->add(", batch %lld, time %lld, heads %lld, width %lld", (Long)s->batch, (Long)s->time, (Long)s->heads, (Long)s->width);
}
inline void describe(Text *t, const char *, int, const mbi_sketch *const &s) {
  t->add(", count %lld, m %lld, n %lld, q %lld", (Long)s->count, (Long)s->m, (Long)s->n, (Long)s->q);
}
inline void describe(Text *t, const char *, int, const mbi_gram *const &s) {
  t->add(", count %lld, m %lld, n %lld", (Long)s->count, (Long)s->m, (Long)s->n);
}
inline void describe(Text *t, const char *, int, const mbi_fuse_run *const &run) {
  Long elements = 0;
  for (int64_t i = 0; i < run->n_parts; i++) elements += (Long)(run->parts[i].rows * run->parts[i].columns);
  t->add(", %d arrays, %d steps, %lld elements", run->n_arrays, run->n_steps, elements);
}

// Describes the arguments by the names in `parameters`, the declaration's text: "void *out, int64_t count".
inline void describe_all(Text *, const char *) {}
template <class A, class... Rest> void describe_all(Text *t, const char *parameters, const A &a, const Rest &...rest) {
  const char *end = strchr(parameters, ','), *stop = end ? end : parameters + strlen(parameters), *name = stop;
  while (name > parameters && name[-1] != ' ' && name[-1] != '*') name--;
  describe(t, name, (int)(stop - name), a);
  describe_all(t, end ? end + 1 : stop, rest...);
}

template <class... A> mb_status guarded(const char *name, const char *dtype, const char *parameters, mb_status (*function)(A...), A... a) {
  mb_status status = usable();
  if (status == MB_OK) status = function(a...);
  if (status != MB_ERR_DEVICE && status != MB_ERR_NOMEM) return status;
  Text text;
  text.add(dtype ? "cuda: %s of %s" : "cuda: %s", name, dtype);
  describe_all(&text, parameters, a...);
  return engine->fail_in(status, text.text);
}

// Call<Name, function>::run is the function with its guard; Name has NAME, DTYPE and PARAMETERS.
template <class Name, auto FUNCTION> struct Call;
template <class Name, class... A, mb_status (*FUNCTION)(A...)> struct Call<Name, FUNCTION> {
  static mb_status run(A... a) { return guarded<A...>(Name::NAME, Name::DTYPE, Name::PARAMETERS, FUNCTION, a...); }
};

} // namespace mbk
#endif

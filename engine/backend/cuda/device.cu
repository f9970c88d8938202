// SPDX-License-Identifier: MIT
//
// device.cu: the device's table: its kernels, copies between views, numbers of any dtype, checks of ids. Memory and
// streams are in memory.cu, copies from and to the host in staging.cu.
#include "backend/cuda/attention.h"
#include "backend/cuda/calls.h"
#include "backend/cuda/capture.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/packs.h"
#include "backend/cuda/product.h"
#include "backend/cuda/simt.h"
#include "backend/cuda/views.h"

namespace mbk {
namespace {

// ----- views ----------------------------------------------------------------------------------------------

template <class U> struct CopyView {
  Walk<2> walk;
  U *to;
  const U *from;
  SIMT void operator()(int64_t i) const {
    int64_t at[2];
    walk.offsets(i, at);
    to[at[0]] = from[at[1]];
  }
};

template <class U> struct CopyPacks {
  U *to;
  const U *from;
  template <int N> SIMT void many(int64_t first, bool wide) const { store(to + first, load<N>(from + first, wide), wide); }
};

template <class U> mb_status copy_elements(const mbi_view *dst, const mbi_view *src) {
  Walk<2> walk = make_walk<2>({dst, src});
  if (is_dense(walk)) {
    U *to = (U *)dst->data;
    const U *from = (const U *)src->data;
    return launch_packs(CopyPacks<U>{to, from}, walk.count, "copy_view", to, from);
  }
  return launch_elements(CopyView<U>{walk, (U *)dst->data, (const U *)src->data}, walk.count, "copy_view");
}

mb_status copy_view(const mbi_view *dst, const mbi_view *src, size_t element) {
  switch (element) {
    case 1: return copy_elements<uint8_t>(dst, src);
    case 2: return copy_elements<uint16_t>(dst, src);
    case 4: return copy_elements<uint32_t>(dst, src);
    default: return copy_elements<uint64_t>(dst, src);
  }
}

// ----- numbers of any dtype -----------------------------------------------------------------------------------

// Floats become integers by truncation, held within the type's range; NaN becomes 0.
template <class To, class From> struct Convert {
  To *to;
  const From *from;
  double low, high; // of To, when it is an integer
  SIMT To of(Wide<From> x) const {
    if (low == high) return (To)(Wide<To>)x;
    return x != x ? To(0) : (double)x < low ? (To)low : (double)x > high ? (To)high : (To)x;
  }
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<From, N> x = load<N>(from + first, wide);
    Lanes<To, N> y;
SIMT_UNROLL
    for (int k = 0; k < N; k++) y.at[k] = of(x.at[k]);
    store(to + first, y, wide);
  }
};
template <class To, class From> mb_status convert_to(To *to, const From *from, int64_t count, double low = 0, double high = 0) {
  return launch_packs(Convert<To, From>{to, from, low, high}, count, "convert", to, from);
}

template <class From> mb_status convert_from(void *dst, mb_dtype dtype, const From *src, int64_t count) {
  switch (dtype) {
    case MB_F32: return convert_to((float *)dst, src, count);
    case MB_F64: return convert_to((double *)dst, src, count);
    case MB_BF16: return convert_to((bf16 *)dst, src, count);
    case MB_I32: return convert_to((int32_t *)dst, src, count, -2147483648.0, 2147483647.0);
    case MB_U16: return convert_to((uint16_t *)dst, src, count, 0, 65535.0);
    default: return convert_to((uint8_t *)dst, src, count, 0, 255.0);
  }
}

mb_status convert(void *dst, mb_dtype dst_dtype, const void *src, mb_dtype src_dtype, int64_t count) {
  switch (src_dtype) {
    case MB_F32: return convert_from(dst, dst_dtype, (const float *)src, count);
    case MB_F64: return convert_from(dst, dst_dtype, (const double *)src, count);
    case MB_BF16: return convert_from(dst, dst_dtype, (const bf16 *)src, count);
    case MB_I32: return convert_from(dst, dst_dtype, (const int32_t *)src, count);
    case MB_U16: return convert_from(dst, dst_dtype, (const uint16_t *)src, count);
    default: return convert_from(dst, dst_dtype, (const uint8_t *)src, count);
  }
}

template <class U> struct Fill {
  U *to;
  U value;
  template <int N> SIMT void many(int64_t first, bool wide) const {
    Lanes<U, N> x;
SIMT_UNROLL
    for (int k = 0; k < N; k++) x.at[k] = value;
    store(to + first, x, wide);
  }
};
template <class U> mb_status fill_with(void *dst, U value, int64_t count) {
  return launch_packs(Fill<U>{(U *)dst, value}, count, "fill", (U *)dst);
}

double held(double x, double low, double high) { return x != x ? 0 : x < low ? low : x > high ? high : x; }

mb_status fill(void *dst, mb_dtype dtype, double value, int64_t count) {
  switch (dtype) {
    case MB_F32: return fill_with(dst, (float)value, count);
    case MB_F64: return fill_with(dst, value, count);
    case MB_BF16: return fill_with(dst, bf16((float)value), count);
    case MB_I32: return fill_with(dst, (int32_t)held(value, -2147483648.0, 2147483647.0), count);
    case MB_U16: return fill_with(dst, (uint16_t)held(value, 0, 65535), count);
    default: return fill_with(dst, (uint8_t)held(value, 0, 255), count);
  }
}

// ----- ids ------------------------------------------------------------------------------------------------------

// One block finds the first id outside [0, limit): `count` of a batch is small beside the step it belongs to.
template <class I> struct CheckIds {
  static constexpr int THREADS = 1024;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  int64_t *bad;
  const I *ids;
  int64_t count, limit, ignored;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int64_t, THREADS> first; // minus the number of the first bad id, so that the largest wins
    block.each([&](int thread) {
      first[thread] = INT64_MIN;
      for (int64_t i = thread; i < count && first[thread] == INT64_MIN; i += THREADS) {
        int64_t id = (int64_t)ids[i];
        if (id != ignored && (id < 0 || id >= limit)) first[thread] = -i;
      }
    });
    int64_t most = block.most(first, shared.room);
    block.each([&](int thread) {
      if (thread == 0) *bad = most == INT64_MIN ? -1 : -most;
    });
  }
};

template <class I> mb_status check_ids_of(int64_t *bad, const I *ids, int64_t count, int64_t limit, int64_t ignored) {
  int64_t *found;
  MB_TRY(scratch_of(&found, 0, 1));
  MB_TRY(launch(CheckIds<I>{found, ids, count, limit, ignored}, 1, "check_ids"));
  return to_host(bad, found, sizeof *bad);
}

mb_status check_ids(int64_t *bad, const void *ids, mb_dtype dtype, int64_t count, int64_t limit, int64_t ignored) {
  switch (dtype) {
    case MB_I32: return check_ids_of(bad, (const int32_t *)ids, count, limit, ignored);
    case MB_U16: return check_ids_of(bad, (const uint16_t *)ids, count, limit, ignored);
    default: return check_ids_of(bad, (const uint8_t *)ids, count, limit, ignored);
  }
}

// The same for ids that nobody waits for, with a copy in which the bad ones are replaced.
struct CleanIds {
  static constexpr int THREADS = 1024;
  struct Shared {
    ReduceRoom<int64_t> room;
  };
  int32_t *clean;
  int64_t *found;
  const int32_t *ids;
  int64_t count, limit, ignored;
  int32_t instead;
  SIMT void run(const Block<THREADS> &block, Shared &shared) const {
    Private<int64_t, THREADS> first; // minus the number of the first bad id
    block.each([&](int thread) {
      first[thread] = INT64_MIN;
      for (int64_t i = thread; i < count; i += THREADS) {
        int64_t id = ids[i];
        bool is_bad = id != ignored && (id < 0 || id >= limit);
        clean[i] = is_bad ? instead : (int32_t)id;
        if (is_bad && first[thread] == INT64_MIN) first[thread] = -i;
      }
    });
    int64_t most = block.most(first, shared.room);
    block.each([&](int thread) {
      if (thread > 0 || most == INT64_MIN || found[0]) return;
      found[0] = 1 - most;
      found[1] = ids[-most];
    });
  }
};

mb_status clean_ids(int32_t *clean, int64_t *found, const int32_t *ids, int64_t count, int64_t limit, int64_t ignored, int32_t instead) {
  return launch(CleanIds{clean, found, ids, count, limit, ignored, instead}, 1, "clean_ids");
}

// ----- the table --------------------------------------------------------------------------------------------------

template <class T> constexpr const char *DTYPE = "f32";
template <> constexpr const char *DTYPE<double> = "f64";
template <> constexpr const char *DTYPE<bf16> = "bf16";

#define MB_KERNEL(name, ...)                                                                          \
  template <class T> struct Name_##name {                                                             \
    static constexpr const char *NAME = #name, *DTYPE = mbk::DTYPE<T>, *PARAMETERS = #__VA_ARGS__;    \
  };
#include "backend/kernels.def"
#undef MB_KERNEL

template <class T> const mbi_kernels table = {
#define MB_KERNEL(name, ...) Call<Name_##name<T>, &Kernels<T>::name>::run,
#include "backend/kernels.def"
#undef MB_KERNEL
};

#define MBK_GUARD(function, parameters)                                                               \
  struct Name_##function {                                                                            \
    static constexpr const char *NAME = #function, *DTYPE = nullptr, *PARAMETERS = parameters;        \
  };
MBK_GUARD(allocate, "out, is_zero, bytes")
MBK_GUARD(to_device, "device, host, bytes")
MBK_GUARD(to_host, "host, device, bytes")
MBK_GUARD(zero, "data, bytes")
MBK_GUARD(synchronize, "")
MBK_GUARD(room, "free, total")
MBK_GUARD(copy_view, "dst, src, element")
MBK_GUARD(convert, "dst, dst_dtype, src, src_dtype, count")
MBK_GUARD(fill, "dst, dtype, value, count")
MBK_GUARD(check_ids, "bad, ids, dtype, count, limit, ignored")
MBK_GUARD(clean_ids, "clean, found, ids, count, limit, ignored, instead")
MBK_GUARD(usable, "")
MBK_GUARD(mail_new, "out, bytes")
MBK_GUARD(mail_send, "mail, device")
MBK_GUARD(mail_open, "data, mail")
MBK_GUARD(stamp, "")
MBK_GUARD(stamp_seconds, "")
MBK_GUARD(device_facts, "")
MBK_GUARD(begin_capture, "table, key")
MBK_GUARD(end_capture, "out, is_wanted")
MBK_GUARD(replay, "captured")
MBK_GUARD(set_all_choices, "")

mb_status copy_out(void *host, const void *device, size_t bytes) { return to_host(host, device, bytes); }

mbi_device make_device() {
  mbi_device d{};
  d.name = "cuda";
  d.allocate = Call<Name_allocate, &allocate>::run, d.release = release, d.trim = trim, d.waits = waits;
  d.copy_in = Call<Name_to_device, &to_device>::run, d.copy_out = Call<Name_to_host, &copy_out>::run;
  d.zero = Call<Name_zero, &zero>::run, d.synchronize = Call<Name_synchronize, &synchronize>::run;
  d.room = Call<Name_room, &room>::run, d.usable = Call<Name_usable, &usable>::run;
  d.copy_view = Call<Name_copy_view, &copy_view>::run, d.convert = Call<Name_convert, &convert>::run;
  d.fill = Call<Name_fill, &fill>::run, d.check_ids = Call<Name_check_ids, &check_ids>::run;
  d.clean_ids = Call<Name_clean_ids, &clean_ids>::run;
  d.mail_new = Call<Name_mail_new, &mail_new>::run, d.mail_free = mail_free;
  d.mail_send = Call<Name_mail_send, &mail_send>::run, d.mail_open = Call<Name_mail_open, &mail_open>::run;
  d.stamp = Call<Name_stamp, &stamp>::run, d.stamp_seconds = Call<Name_stamp_seconds, &stamp_seconds>::run;
  d.release_stamp = release_stamp, d.launches = launches_made, d.info = Call<Name_device_facts, &device_facts>::run;
  d.begin_capture = Call<Name_begin_capture, &begin_capture>::run, d.end_capture = Call<Name_end_capture, &end_capture>::run;
  d.replay = Call<Name_replay, &replay>::run, d.captured_free = captured_free;
  d.allow_tf32 = allow_tf32, d.keep_bits = keep_bits, d.notes = attention_notes;
  d.choices = product_choices, d.set_choices = Call<Name_set_all_choices, &set_all_choices>::run;
  d.kernels[MB_F32] = &table<float>;
  d.kernels[MB_F64] = &table<double>;
  d.kernels[MB_BF16] = &table<bf16>;
  return d;
}

} // namespace

const mbi_plugin_host *engine;
mb_status (*fail)(mb_status status, const char *format, ...);

} // namespace mbk

extern "C" __attribute__((visibility("default"))) mb_status mbi_plugin_open(const mbi_device **out, const mbi_plugin_host *host) {
  static mbi_device device;
  mbk::fail = host->fail;
  mbk::engine = host;
  if (host->abi != MBI_PLUGIN_ABI)
    return host->fail(MB_ERR_DEVICE, "device cuda: the plugin was built for interface %d, the library has %d", (int)MBI_PLUGIN_ABI, host->abi);
  mb_status status = mbk::open_device();
  if (status != MB_OK) return status;
  device = mbk::make_device();
  *out = &device;
  return MB_OK;
}
